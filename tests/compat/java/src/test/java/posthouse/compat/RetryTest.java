package posthouse.compat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageExt;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

class RetryTest {
    private static final int ONE_SECOND = 1; // the delay level
    private static final int DEAD_AT_ONCE = -1;

    /** How much later than the delay a redelivery may come: the server's tick, the way there, a busy machine. */
    private static final long LATE_MS = 5_000;

    @RegisterExtension final Clients clients = new Clients();

    @Test
    void aFailedMessageComesBackAfterItsDelayAndCountsItsAttempts() throws Exception {
        String topic = clients.topic("failing", 1);
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = failing(inbox, Server.unique("failing-group"), 2, ONE_SECOND);
        consumer.subscribe(topic, "TagA");
        consumer.start();
        Clients.awaitRetryQueue(consumer);
        Message message = Messages.message(topic, "TagA", "again and again");
        message.setKeys("key-one key-two");
        message.putUserProperty("colour", "red");
        message.setFlag(7);

        SendResult sent = clients.send(message);

        inbox.awaitExactly(3);
        assertEquals(List.of(0, 1, 2), inbox.attempts());
        assertDelayed(1_000, inbox.millisUntil(1));
        assertDelayed(1_000, inbox.millisUntil(2) - inbox.millisUntil(1));
        for (MessageExt each : inbox.all()) {
            assertEquals(topic, each.getTopic(), "a retry shows the topic that the message was sent to");
            assertEquals("again and again", Messages.text(each));
            assertEquals("TagA", each.getTags());
            assertEquals("key-one key-two", each.getKeys());
            assertEquals("red", each.getUserProperty("colour"));
            assertEquals(7, each.getFlag());
            assertEquals(sent.getMsgId(), each.getMsgId(), "the id that the producer gave it stays");
            assertEquals(inbox.all().get(0).getBornTimestamp(), each.getBornTimestamp());
        }
        MessageExt last = inbox.all().get(2);
        assertEquals(topic, last.getProperty(MessageConst.PROPERTY_RETRY_TOPIC));
        assertEquals(sent.getOffsetMsgId(), last.getProperty(MessageConst.PROPERTY_ORIGIN_MESSAGE_ID));
    }

    @Test
    void withoutALevelTheFirstRetryComesAfterTenSecondsWhateverTheFailure() throws Exception {
        String topic = clients.topic("failing-default", 1);
        Map<String, Inbox> inboxes = Map.of("later", new Inbox(), "exception", new Inbox(), "null", new Inbox());
        var consumer = clients.consuming(Server.unique("failing-default-group"), topic, (messages, context) -> {
            MessageExt message = messages.get(0);
            inboxes.get(Messages.text(message)).keep(messages);
            if (message.getReconsumeTimes() > 0) {
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            }
            switch (Messages.text(message)) {
                case "later":
                    return ConsumeConcurrentlyStatus.RECONSUME_LATER;
                case "null":
                    return null;
                default:
                    throw new IllegalStateException("as a listener may");
            }
        });

        Clients.awaitRetryQueue(consumer);

        clients.send(topic, List.copyOf(inboxes.keySet()));

        for (Inbox inbox : inboxes.values()) {
            inbox.awaitSize(2, Await.REBALANCE);
            assertEquals(List.of(0, 1), inbox.attempts());
            assertDelayed(10_000, inbox.millisUntil(1));
        }
    }

    @Test
    void afterTheLastAttemptAMessageIsADeadLetter() throws Exception {
        String topic = clients.topic("dying", 2);
        String group = Server.unique("dying-group");
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = failing(inbox, group, Integer.MAX_VALUE, ONE_SECOND);
        consumer.setMaxReconsumeTimes(2);
        consumer.subscribe(topic, "*");
        consumer.start();
        Clients.awaitRetryQueue(consumer);
        Message message = Messages.message(topic, "TagD", "hopeless");
        message.setKeys("dead-key");
        message.putUserProperty("colour", "black");

        SendResult sent = clients.send(message);

        List<MessageExt> dead = deadLetters(group, 1);
        inbox.awaitExactly(3);
        assertEquals(List.of(0, 1, 2), inbox.attempts());
        assertEquals(1, dead.size());
        MessageExt letter = dead.get(0);
        assertEquals("%DLQ%" + group, letter.getTopic());
        assertEquals(0, letter.getQueueId());
        assertEquals("hopeless", Messages.text(letter));
        assertEquals("TagD", letter.getTags());
        assertEquals("dead-key", letter.getKeys());
        assertEquals("black", letter.getUserProperty("colour"));
        assertEquals(sent.getMsgId(), letter.getMsgId());
        assertEquals(topic, letter.getProperty(MessageConst.PROPERTY_RETRY_TOPIC));
        assertEquals(sent.getOffsetMsgId(), letter.getProperty(MessageConst.PROPERTY_ORIGIN_MESSAGE_ID));
        assertEquals(3, letter.getReconsumeTimes());
    }

    @Test
    void aNegativeLevelMakesADeadLetterAtOnce() throws Exception {
        String topic = clients.topic("dead-at-once", 1);
        String group = Server.unique("dead-at-once-group");
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = failing(inbox, group, 1, DEAD_AT_ONCE);
        consumer.subscribe(topic, "*");
        consumer.start();
        Clients.awaitRetryQueue(consumer);

        clients.send(topic, List.of("poison"));

        assertEquals(List.of("poison"), Messages.bodies(deadLetters(group, 1)));
        inbox.awaitExactly(1);
    }

    @Test
    void deadLettersCanBeConsumedByAGroupOfTheirOwn() throws Exception {
        String topic = clients.topic("undertaken", 1);
        String group = Server.unique("undertaken-group");
        DefaultMQPushConsumer consumer = failing(new Inbox(), group, 1, DEAD_AT_ONCE);
        consumer.subscribe(topic, "*");
        consumer.start();
        Clients.awaitRetryQueue(consumer);
        List<String> bodies = Messages.numbered("n", 12);
        clients.send(topic, bodies);
        deadLetters(group, 12);

        Inbox undertaker = new Inbox();
        clients.consuming(Server.unique("undertakers"), "%DLQ%" + group, undertaker);

        undertaker.awaitExactly(12);
        assertEquals(bodies, undertaker.bodies());
    }

    @Test
    void aRetryIsForTheGroupThatFailedOnly() throws Exception {
        String topic = clients.topic("one-fails", 2);
        Inbox failed = new Inbox();
        Inbox content = new Inbox();
        DefaultMQPushConsumer consumer = failing(failed, Server.unique("one-fails-group"), 1, ONE_SECOND);
        consumer.subscribe(topic, "*");
        consumer.start();
        Clients.awaitRetryQueue(consumer);
        clients.consuming(Server.unique("content-group"), topic, content);

        clients.send(topic, Messages.numbered("n", 10));

        failed.awaitExactly(20);
        content.awaitExactly(10);
    }

    @Test
    void theOffsetMovesOverAFailedMessage() throws Exception {
        String topic = clients.topic("moves-on", 1);
        String group = Server.unique("moves-on-group");
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = failing(inbox, group, 1, 3);
        consumer.subscribe(topic, "*");
        consumer.start();
        Clients.awaitRetryQueue(consumer);
        clients.send(topic, Messages.numbered("n", 5));
        inbox.awaitSize(5, Await.REBALANCE);
        Await.until("all five sent back", Await.SOON, () -> Clients.cached(consumer) == 0);

        consumer.shutdown();

        var other = clients.pullConsumer(group);
        Await.until("offset 5", Await.SOON,
                () -> other.fetchConsumeOffset(clients.queues(topic).get(0), true) == 5);
        other.shutdown();
        Inbox second = new Inbox();
        clients.consuming(group, topic, second);
        second.awaitExactly(5);
        assertEquals(List.of(1, 1, 1, 1, 1), second.attempts(), "what waits for its retry outlives the consumer");
    }

    @Test
    void aMessageCanBeSentBackByHand() throws Exception {
        String topic = clients.topic("by-hand", 1);
        String group = Server.unique("by-hand-group");
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = clients.consuming(group, topic, inbox);
        Clients.awaitRetryQueue(consumer);
        clients.send(topic, List.of("not now"));
        inbox.awaitSize(1, Await.REBALANCE);

        consumer.sendMessageBack(inbox.all().get(0), ONE_SECOND);

        inbox.awaitExactly(2);
        assertEquals(List.of(0, 1), inbox.attempts());
    }

    @Test
    void aPullConsumerCanSendAMessageBackToItsGroup() throws Exception {
        String topic = clients.topic("pulled-back", 1);
        String group = Server.unique("pulled-back-group");
        clients.send(topic, List.of("not now"));
        var puller = clients.pullConsumer(group);
        MessageExt pulled = Await.until("the message", Await.SOON,
                () -> puller.pull(clients.queues(topic).get(0), "*", 0, 1).getMsgFoundList().get(0));
        Await.until("the group's retry topic", Await.SOON,
                () -> clients.admin().examineTopicRouteInfo("%RETRY%" + group));

        puller.sendMessageBack(pulled, ONE_SECOND);

        MessageExt retried = clients.readAll("%RETRY%" + group, 1).get(0);
        assertEquals("not now", Messages.text(retried));
        assertEquals(1, retried.getReconsumeTimes());
        assertEquals(topic, retried.getProperty(MessageConst.PROPERTY_RETRY_TOPIC));
    }

    @Test
    void theRetryTopicHoldsTheRecordsOfTheRetries() throws Exception {
        String topic = clients.topic("looked-at", 1);
        String group = Server.unique("looked-at-group");
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = failing(inbox, group, 1, ONE_SECOND);
        consumer.subscribe(topic, "*");
        consumer.start();
        Clients.awaitRetryQueue(consumer);
        clients.send(topic, List.of("once more"));
        inbox.awaitSize(2, Await.REBALANCE);

        List<MessageExt> stored = clients.readAll("%RETRY%" + group, 1);

        assertEquals(List.of("once more"), Messages.bodies(stored));
        assertEquals(1, stored.get(0).getReconsumeTimes());
        MessageExt retried = inbox.all().get(1);
        assertFalse(retried.getCommitLogOffset() == inbox.all().get(0).getCommitLogOffset());
        assertNotEquals(inbox.all().get(0).getStoreTimestamp(), retried.getStoreTimestamp());
    }

    /** A consumer that fails each message as many times, with the given delay level. */
    private DefaultMQPushConsumer failing(Inbox inbox, String group, int times, int level) {
        Map<String, Integer> failed = new ConcurrentHashMap<>();
        return clients.pushConsumer(group, (messages, context) -> {
            inbox.keep(messages);
            if (failed.merge(Messages.text(messages.get(0)), 1, Integer::sum) > times) {
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            }
            context.setDelayLevelWhenNextConsume(level);
            return ConsumeConcurrentlyStatus.RECONSUME_LATER;
        });
    }

    private List<MessageExt> deadLetters(String group, int count) throws Exception {
        String topic = "%DLQ%" + group;
        Await.until("a route of " + topic, Await.REBALANCE, () -> clients.admin().examineTopicRouteInfo(topic));
        return clients.readAll(topic, count);
    }

    private static void assertDelayed(long expectedMs, long tookMs) {
        // The clocks of the two processes agree, and the client's clock starts when the listener is called.
        assertTrue(tookMs >= expectedMs && tookMs < expectedMs + LATE_MS, tookMs + " ms instead of " + expectedMs);
    }
}
