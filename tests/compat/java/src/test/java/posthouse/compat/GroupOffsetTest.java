package posthouse.compat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.List;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.common.UtilAll;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageQueue;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

class GroupOffsetTest {
    private static final int SUBSCRIPTION_GROUP_NOT_EXIST = 26;

    @RegisterExtension final Clients clients = new Clients();

    @Test
    void aGroupThatComesBackGetsOnlyWhatIsNew() throws Exception {
        String topic = clients.topic("resumed", 4);
        String group = Server.unique("resumed-group");
        Inbox first = new Inbox();
        DefaultMQPushConsumer consumer = clients.consuming(group, topic, first);
        clients.send(topic, Messages.numbered("old", 40));
        first.awaitExactly(40);
        consumer.shutdown(); // writes the offsets back

        List<String> missed = Messages.numbered("missed", 40);
        clients.send(topic, missed);
        Inbox second = new Inbox();
        clients.consuming(group, topic, second);

        second.awaitExactly(40);
        assertEquals(missed, second.bodies());
    }

    @Test
    void theOffsetsOfAGroupCanBeReadByAnotherClient() throws Exception {
        String topic = clients.topic("written-back", 4);
        String group = Server.unique("written-back-group");
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = clients.consuming(group, topic, inbox);
        clients.send(topic, Messages.numbered("n", 40));
        inbox.awaitExactly(40);
        consumer.shutdown();

        var other = clients.pullConsumer(group);
        for (MessageQueue queue : clients.queues(topic)) {
            Await.until("offset 10 of " + queue, Await.SOON, () -> other.fetchConsumeOffset(queue, true) == 10);
        }
    }

    @Test
    void aRunningConsumerWritesItsOffsetsBackEveryFewSeconds() throws Exception {
        String topic = clients.topic("periodic", 1);
        String group = Server.unique("periodic-group");
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = clients.pushConsumer(group, inbox);
        consumer.setPersistConsumerOffsetInterval(1000);
        consumer.subscribe(topic, "*");
        consumer.start();
        clients.send(topic, Messages.numbered("n", 10));
        inbox.awaitExactly(10);

        var other = clients.pullConsumer(group);
        MessageQueue queue = clients.queues(topic).get(0);
        // The first write comes 10 s after the start, whatever the interval.
        Await.until("offset 10", Await.SOON, () -> other.fetchConsumeOffset(queue, true) == 10);
    }

    @Test
    void firstOffsetStartsANewGroupAtTheBeginning() throws Exception {
        String topic = clients.topic("from-first", 4);
        List<String> old = Messages.numbered("old", 40);
        clients.send(topic, old);

        Inbox inbox = consuming(topic, ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);

        inbox.awaitExactly(40);
        assertEquals(old, inbox.bodies());
    }

    /** RocketMQ: the broker gives 0 as the offset of a new group as long as the topic's first message is in memory. */
    @Test
    void lastOffsetStartsANewGroupOnAYoungTopicAtTheBeginningToo() throws Exception {
        String topic = clients.topic("from-last", 4);
        List<String> old = Messages.numbered("old", 40);
        clients.send(topic, old);

        Inbox inbox = consuming(topic, ConsumeFromWhere.CONSUME_FROM_LAST_OFFSET);

        inbox.awaitExactly(40);
        assertEquals(old, inbox.bodies());
    }

    /** The same trap: a time is only looked up when the broker says that it has no offset, and it says 0. */
    @Test
    void aTimestampStartsANewGroupOnAYoungTopicAtTheBeginningToo() throws Exception {
        String topic = clients.topic("from-time", 2);
        List<String> old = Messages.numbered("old", 20);
        clients.send(topic, old);
        Thread.sleep(1_100); // consumeTimestamp counts in seconds

        Inbox inbox = consuming(topic, ConsumeFromWhere.CONSUME_FROM_TIMESTAMP);

        inbox.awaitExactly(20);
        assertEquals(old, inbox.bodies());
    }

    @Test
    void lastOffsetOnAnEmptyTopicMissesNothingThatIsSentLater() throws Exception {
        String topic = clients.topic("from-last-empty", 4);
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = consumer(inbox, topic, ConsumeFromWhere.CONSUME_FROM_LAST_OFFSET);
        // Apache tells it to ask for the end of each queue: what is sent before it has asked is not for it.
        Await.until("its queues", Await.REBALANCE, () -> Clients.owned(consumer, topic).size() == 4);

        List<String> bodies = Messages.numbered("n", 20);
        clients.send(topic, bodies);

        inbox.awaitExactly(20);
        assertEquals(bodies, inbox.bodies());
    }

    @Test
    void aStoredOffsetWinsOverFirstOffset() throws Exception {
        String topic = clients.topic("stored", 1);
        String group = Server.unique("stored-group");
        clients.send(topic, Messages.numbered("n", 10));
        MessageQueue queue = clients.queues(topic).get(0);
        DefaultMQPullConsumer introducer = clients.pullConsumer(group);
        introducer.pull(queue, "*", 0, 1); // makes the group known to the broker
        var admin = clients.admin();
        Await.until("the first heartbeat", Await.SOON,
                () -> !admin.examineConsumerConnectionInfo(group).getConnectionSet().isEmpty());
        introducer.shutdown(); // else it would have a share of the queues
        admin.updateConsumeOffset(clients.brokerAddress(), group, queue, 7);

        Inbox inbox = new Inbox();
        clients.consuming(group, topic, inbox);

        inbox.awaitExactly(3);
        assertEquals(List.of("n-007", "n-008", "n-009"), inbox.bodies());
    }

    @Test
    void anOffsetOfAGroupThatNobodyKnowsIsRefused() throws Exception {
        String topic = clients.topic("unknown-group", 1);
        MessageQueue queue = clients.queues(topic).get(0);
        String group = Server.unique("unknown-group");

        MQBrokerException refused = assertThrows(
                MQBrokerException.class,
                () -> clients.admin().updateConsumeOffset(clients.brokerAddress(), group, queue, 0));

        assertEquals(SUBSCRIPTION_GROUP_NOT_EXIST, refused.getResponseCode(), refused.getErrorMessage());
    }

    private Inbox consuming(String topic, ConsumeFromWhere where) throws Exception {
        Inbox inbox = new Inbox();
        consumer(inbox, topic, where);
        return inbox;
    }

    private DefaultMQPushConsumer consumer(Inbox inbox, String topic, ConsumeFromWhere where) throws Exception {
        DefaultMQPushConsumer consumer = clients.pushConsumer(Server.unique("where-group"), inbox);
        consumer.setConsumeFromWhere(where);
        consumer.setConsumeTimestamp(UtilAll.timeMillisToHumanString3(System.currentTimeMillis()));
        consumer.subscribe(topic, "*");
        consumer.start();
        return consumer;
    }
}
