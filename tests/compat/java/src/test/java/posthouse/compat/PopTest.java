package posthouse.compat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.AckResult;
import org.apache.rocketmq.client.consumer.AckStatus;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.MessageSelector;
import org.apache.rocketmq.client.consumer.PopResult;
import org.apache.rocketmq.client.consumer.PopStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageExt;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

/** Pop is of 5.x: `pom.xml` leaves this class out for the client of 4.9. */
class PopTest {
    private static final long TIMEOUT_MS = 20_000;

    @RegisterExtension final Clients clients = new Clients();

    @Test
    void aPushConsumerInPopModeGetsEverythingOnce() throws Exception {
        String topic = clients.topic("popped", 4);
        String group = popGroup(topic);
        List<String> early = Messages.numbered("early", 50);
        clients.send(topic, early);
        Inbox inbox = new Inbox();
        popping(group, topic, inbox);

        inbox.awaitSize(50, Await.REBALANCE);
        List<String> late = Messages.numbered("late", 50);
        clients.send(topic, late);

        inbox.awaitExactly(100);
        List<String> all = new ArrayList<>(early);
        all.addAll(late);
        assertEquals(all, inbox.bodies());
        for (MessageExt message : inbox.all()) {
            assertEquals(topic, message.getTopic());
            assertEquals(0, message.getReconsumeTimes());
            assertNotNull(message.getProperty(MessageConst.PROPERTY_POP_CK));
        }
    }

    @Test
    void twoConsumersInPopModeShareEachQueue() throws Exception {
        String topic = clients.topic("popped-by-two", 1);
        String group = popGroup(topic);
        List<Inbox> inboxes = List.of(new Inbox(), new Inbox());
        for (Inbox inbox : inboxes) {
            DefaultMQPushConsumer consumer = prepared(group, (messages, context) -> {
                inbox.keep(messages);
                sleep(50);
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
            consumer.setConsumeThreadMin(1);
            consumer.setConsumeThreadMax(1);
            consumer.setPopBatchNums(4);
            consumer.subscribe(topic, "*");
            consumer.start();
        }
        awaitMembers(group, 2);

        List<String> bodies = Messages.numbered("n", 120);
        clients.send(topic, bodies);

        Await.until("all of them", Await.REBALANCE, () -> inboxes.get(0).size() + inboxes.get(1).size() >= 120);
        List<String> got = new ArrayList<>(inboxes.get(0).bodies());
        got.addAll(inboxes.get(1).bodies());
        got.sort(null);
        assertEquals(bodies, got);
        assertTrue(inboxes.get(0).size() > 0 && inboxes.get(1).size() > 0, inboxes.toString());
    }

    @Test
    void whatAConsumerInPopModeFailsComesBackAndCounts() throws Exception {
        String topic = clients.topic("pop-failing", 1);
        String group = popGroup(topic);
        Inbox inbox = new Inbox();
        popping(group, topic, (messages, context) -> {
            inbox.keep(messages);
            return messages.get(0).getReconsumeTimes() == 0
                    ? ConsumeConcurrentlyStatus.RECONSUME_LATER
                    : ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        var sent = clients.send(Messages.message(topic, "TagP", "again"));

        inbox.awaitSize(2, Duration.ofSeconds(45));
        inbox.awaitExactly(2);
        assertEquals(List.of(0, 1), inbox.attempts());
        assertTrue(inbox.millisUntil(1) >= 10_000, "the client's first pause: " + inbox.millisUntil(1));
        MessageExt again = inbox.all().get(1);
        assertEquals(topic, again.getTopic());
        assertEquals("TagP", again.getTags());
        assertEquals(sent.getMsgId(), again.getMsgId());
    }

    @Test
    void whatAKilledConsumerHeldGoesToAnother() throws Exception {
        String topic = clients.topic("pop-killed", 2);
        String group = popGroup(topic);
        Inbox held = new Inbox();
        DefaultMQPushConsumer victim = prepared(group, (messages, context) -> {
            held.keep(messages);
            sleep(60_000);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        victim.setPopInvisibleTime(5_000); // the least that the client allows
        victim.subscribe(topic, "*");
        victim.start();
        List<String> bodies = Messages.numbered("n", 6);
        clients.send(topic, bodies);
        held.awaitSize(6, Await.REBALANCE);

        Clients.kill(victim);
        Inbox inbox = new Inbox();
        popping(group, topic, inbox);

        Await.until("what was held", Duration.ofSeconds(45), () -> inbox.distinctBodies().containsAll(bodies));
        inbox.attempts().forEach(attempt -> assertEquals(1, attempt));
    }

    @Test
    void anAcknowledgedMessageIsGoneAndAnotherComesBackAfterItsTime() throws Exception {
        String topic = clients.topic("pop-raw", 1);
        String group = popGroup(topic);
        PopRequests raw = new PopRequests(clients, topic, group);
        clients.send(topic, Messages.numbered("n", 4));

        List<MessageExt> first = raw.pop(32, 3_000);
        assertEquals(Messages.numbered("n", 4), Messages.bodies(first));
        assertEquals(List.of(), raw.pop(32, 3_000), "nobody else sees them now");
        raw.ack(first.get(0));
        raw.ack(first.get(1));

        long start = System.nanoTime();
        List<MessageExt> again = raw.await(2, 3_000);
        assertEquals(List.of("n-002", "n-003"), Messages.bodies(again));
        assertTrue((System.nanoTime() - start) / 1_000_000 >= 2_000);
        again.forEach(message -> assertEquals(1, message.getReconsumeTimes()));
        for (MessageExt message : again) {
            raw.ack(message);
        }
        Thread.sleep(6_000);
        assertEquals(List.of(), raw.pop(32, 3_000), "all are acknowledged");
    }

    @Test
    void theInvisibleTimeCanBeMadeLongerAndShorter() throws Exception {
        String topic = clients.topic("pop-changed", 1);
        PopRequests raw = new PopRequests(clients, topic, popGroup(topic));
        clients.send(topic, List.of("longer", "shorter"));
        Map<String, MessageExt> held = new TreeMap<>();
        raw.pop(32, 20_000).forEach(message -> held.put(Messages.text(message), message));

        AckResult shorter = raw.change(held.get("shorter"), 1_000);
        AckResult longer = raw.change(held.get("longer"), 25_000);

        assertEquals(AckStatus.OK, shorter.getStatus());
        assertTrue(longer.getPopTime() > 0);
        long start = System.nanoTime();
        List<MessageExt> first = raw.await(1, 20_000);
        assertEquals(List.of("shorter"), Messages.bodies(first));
        long tookMs = (System.nanoTime() - start) / 1_000_000;
        assertTrue(tookMs < 18_000, "sooner than the first time: " + tookMs + " ms");
        raw.ack(first.get(0));
        // The new receipt is the one that counts now.
        assertEquals(AckStatus.OK, raw.ack(held.get("longer"), longer.getExtraInfo()).getStatus());
    }

    @Test
    void aBatchIsAcknowledgedAtOnce() throws Exception {
        String topic = clients.topic("pop-batch", 2);
        PopRequests raw = new PopRequests(clients, topic, popGroup(topic));
        clients.send(topic, Messages.numbered("n", 20));
        List<MessageExt> popped = raw.await(20, 3_000);

        raw.ackAll(popped.subList(0, 19));

        assertEquals(List.of(Messages.text(popped.get(19))), Messages.bodies(raw.await(1, 3_000)));
    }

    @Test
    void aPopWaitsForAMessage() throws Exception {
        String topic = clients.topic("pop-waiting", 2);
        PopRequests raw = new PopRequests(clients, topic, popGroup(topic));
        raw.pop(1, 3_000);
        CompletableFuture<PopResult> waiting = raw.ask(8, 30_000, 10_000, "*", null);
        Thread.sleep(500);
        assertTrue(!waiting.isDone(), "a pop of nothing waits");

        long sent = System.nanoTime();
        clients.send(topic, List.of("awaited"));
        PopResult result = waiting.get(TIMEOUT_MS, TimeUnit.MILLISECONDS);

        assertEquals(PopStatus.FOUND, result.getPopStatus());
        assertEquals(List.of("awaited"), Messages.bodies(result.getMsgFoundList()));
        assertTrue((System.nanoTime() - sent) / 1_000_000 < 1_500);
        long begun = System.nanoTime();
        PopResult none = raw.ask(8, 30_000, 2_000, "*", null).get(TIMEOUT_MS, TimeUnit.MILLISECONDS);
        assertTrue(none.getPopStatus() != PopStatus.FOUND, none.toString());
        assertTrue((System.nanoTime() - begun) / 1_000_000 >= 1_800, "it waited its time");
    }

    @Test
    void aConsumerInPopModeCanFilterByAnExpression() throws Exception {
        String topic = clients.topic("pop-sql", 2);
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = prepared(popGroup(topic), inbox);
        consumer.subscribe(topic, MessageSelector.bySql("number > 6"));
        consumer.start();
        for (int number = 0; number < 10; number++) {
            Message message = Messages.message(topic, "n-" + number);
            message.putUserProperty("number", Integer.toString(number));
            clients.send(message);
        }

        inbox.awaitExactly(3);
        assertEquals(List.of("n-7", "n-8", "n-9"), inbox.bodies());
    }

    @Test
    void aGroupInPopModeGoesBackInTime() throws Exception {
        String topic = clients.topic("pop-reset", 1);
        String group = popGroup(topic);
        PopRequests raw = new PopRequests(clients, topic, group);
        clients.send(topic, Messages.numbered("n", 4));
        for (MessageExt message : raw.await(4, 20_000)) {
            raw.ack(message);
        }
        assertEquals(List.of(), raw.pop(32, 20_000));

        clients.admin().resetOffsetByTimestamp(topic, group, 0, true);

        List<MessageExt> again = raw.await(4, 20_000);
        assertEquals(Messages.numbered("n", 4), Messages.bodies(again));
        again.forEach(message -> assertEquals(0, message.getReconsumeTimes()));
        for (MessageExt message : again) {
            raw.ack(message);
        }
        assertEquals(List.of(), raw.pop(32, 20_000));
    }

    @Test
    void oneQueueOfAGroupCanBeSetToAnOffset() throws Exception {
        String topic = clients.topic("pop-reset-queue", 2);
        String group = popGroup(topic);
        PopRequests raw = new PopRequests(clients, topic, group);
        clients.send(topic, Messages.numbered("n", 8));
        Set<String> ofQueueOne = new TreeSet<>();
        for (MessageExt message : raw.await(8, 20_000)) {
            raw.ack(message);
            if (message.getQueueId() == 1 && message.getQueueOffset() >= 2) {
                ofQueueOne.add(Messages.text(message));
            }
        }

        clients.admin().resetOffsetByQueueId(clients.brokerAddress(), group, topic, 1, 2);

        assertEquals(List.copyOf(ofQueueOne), Messages.bodies(raw.await(2, 20_000)));
    }

    @Test
    void aPopTakesOnlyItsTag() throws Exception {
        String topic = clients.topic("pop-tag", 1);
        PopRequests raw = new PopRequests(clients, topic, popGroup(topic));
        for (String tag : List.of("TagA", "TagB", "TagA", "TagC")) {
            clients.send(Messages.message(topic, tag, tag));
        }

        List<MessageExt> found = raw.ask(32, 30_000, 0, "TagA || TagC", null)
                .get(TIMEOUT_MS, TimeUnit.MILLISECONDS).getMsgFoundList();

        assertEquals(List.of("TagA", "TagA", "TagC"), Messages.bodies(found));
    }

    private String popGroup(String topic) throws Exception {
        return PopRequests.group(clients, topic, 0);
    }

    private DefaultMQPushConsumer prepared(String group, MessageListenerConcurrently listener) {
        DefaultMQPushConsumer consumer = clients.pushConsumer(group, listener);
        consumer.setClientRebalance(false);
        return consumer;
    }

    private void popping(String group, String topic, MessageListenerConcurrently listener) throws Exception {
        DefaultMQPushConsumer consumer = prepared(group, listener);
        consumer.subscribe(topic, "*");
        consumer.start();
    }

    private void awaitMembers(String group, int count) throws Exception {
        Await.until(count + " members", Await.REBALANCE, () ->
                clients.admin().examineConsumerConnectionInfo(group).getConnectionSet().size() == count);
        Thread.sleep(1_000); // each asks for its assignment
    }

    private static void sleep(long ms) {
        try {
            Thread.sleep(ms);
        } catch (InterruptedException ended) {
            Thread.currentThread().interrupt();
        }
    }
}
