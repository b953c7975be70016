package posthouse.compat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

/** What an administrator is told about the clients, by the broker and through it by the clients themselves. */
class IntrospectionTest {
    private static final int CONSUMER_NOT_ONLINE = 206;

    @RegisterExtension final Clients clients = new Clients();

    @Test
    void theConnectionsOfAGroupAndWhatItSubscribed() throws Exception {
        String topic = clients.topic("connected", 2);
        String group = Server.unique("connected-group");
        DefaultMQPushConsumer first = clients.pushConsumer(group, new Inbox());
        first.subscribe(topic, "TagA || TagB");
        first.start();
        DefaultMQPushConsumer second = clients.pushConsumer(group, new Inbox());
        second.subscribe(topic, "TagA || TagB");
        second.start();
        Await.until("two connections", Await.SOON,
                () -> clients.admin().examineConsumerConnectionInfo(group).getConnectionSet().size() == 2);

        var connection = clients.admin().examineConsumerConnectionInfo(group);

        assertEquals(new TreeSet<>(Set.of(first.buildMQClientId(), second.buildMQClientId())),
                connection.getConnectionSet().stream().map(each -> each.getClientId())
                        .collect(Collectors.toCollection(TreeSet::new)));
        connection.getConnectionSet().forEach(each -> {
            assertEquals("JAVA", each.getLanguage().name());
            assertTrue(each.getVersion() > 0);
            assertTrue(each.getClientAddr().startsWith("127.0.0.1:"), each.getClientAddr());
        });
        assertEquals("CONSUME_PASSIVELY", connection.getConsumeType().name());
        assertEquals("CLUSTERING", connection.getMessageModel().name());
        assertEquals("CONSUME_FROM_FIRST_OFFSET", connection.getConsumeFromWhere().name());
        assertEquals(Set.of(topic, "%RETRY%" + group), connection.getSubscriptionTable().keySet());
        assertEquals("TagA || TagB", connection.getSubscriptionTable().get(topic).getSubString());
        assertEquals(Set.of("TagA", "TagB"), connection.getSubscriptionTable().get(topic).getTagsSet());
    }

    @Test
    void theConnectionsOfAProducerGroup() throws Exception {
        String topic = clients.topic("produced", 1);
        clients.send(topic, List.of("hello"));
        String group = clients.producer().getProducerGroup();

        var connection = Await.until("the producer", Await.SOON,
                () -> clients.admin().examineProducerConnectionInfo(group, topic));

        assertEquals(List.of(clients.producer().buildMQClientId()),
                connection.getConnectionSet().stream().map(each -> each.getClientId()).collect(Collectors.toList()));
    }

    @Test
    void aGroupWithoutMembersIsNotOnLine() {
        MQBrokerException refused = assertThrows(MQBrokerException.class,
                () -> clients.admin().examineConsumerConnectionInfo(Server.unique("nobody"), clients.brokerAddress()));

        assertEquals(CONSUMER_NOT_ONLINE, refused.getResponseCode(), refused.toString());
    }

    @Test
    void aConsumerTellsHowItIsDoing() throws Exception {
        String topic = clients.topic("doing", 2);
        String group = Server.unique("doing-group");
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = clients.consuming(group, topic, inbox);
        clients.send(topic, Messages.numbered("n", 20));
        inbox.awaitSize(20, Await.REBALANCE);
        String id = consumer.buildMQClientId();

        var info = clients.admin().getConsumerRunningInfo(group, id, true);

        assertEquals("false", info.getProperties().getProperty("PROP_CONSUMEORDERLY"));
        assertEquals(Server.NAMESERVER + ";", info.getProperties().getProperty("PROP_NAMESERVER_ADDR"));
        Set<MessageQueue> queues = info.getMqTable().keySet().stream()
                .filter(queue -> queue.getTopic().equals(topic)).collect(Collectors.toSet());
        assertEquals(Set.copyOf(clients.queues(topic)), queues);
        assertTrue(info.getSubscriptionSet().stream().anyMatch(each -> each.getTopic().equals(topic)));
        assertTrue(info.getStatusTable().containsKey(topic));
        assertTrue(info.getJstack().contains("ConsumeMessageThread"), "a thread dump was asked for");
        var without = clients.admin().getConsumerRunningInfo(group, id, false);
        assertTrue(without.getJstack() == null || without.getJstack().isEmpty());
    }

    @Test
    void anOrderlyConsumerShowsItsLocks() throws Exception {
        String topic = clients.topic("locked", 2);
        String group = Server.unique("locked-group");
        DefaultMQPushConsumer consumer =
                clients.orderlyConsumer(group, (messages, context) -> ConsumeOrderlyStatus.SUCCESS);
        consumer.subscribe(topic, "*");
        consumer.start();
        clients.send(topic, Messages.numbered("n", 4));

        Await.until("both queues locked", Await.REBALANCE, () -> {
            var info = clients.admin().getConsumerRunningInfo(group, consumer.buildMQClientId(), false);
            assertEquals("true", info.getProperties().getProperty("PROP_CONSUMEORDERLY"));
            return info.getMqTable().entrySet().stream()
                    .filter(entry -> entry.getKey().getTopic().equals(topic) && entry.getValue().isLocked())
                    .count() == 2;
        });
    }

    @Test
    void aClientThatIsNotThereCannotBeAsked() throws Exception {
        String topic = clients.topic("not-there", 1);
        String group = Server.unique("not-there-group");
        clients.consuming(group, topic, new Inbox());
        Await.until("the group", Await.SOON, () -> clients.admin().examineConsumerConnectionInfo(group));

        Exception refused = assertThrows(Exception.class,
                () -> clients.admin().getConsumerRunningInfo(group, "127.0.0.1@nobody", false));

        assertTrue(refused.toString().contains("nobody"), refused.toString());
    }

    @Test
    void aMessageCanBeGivenToOneConsumerDirectly() throws Exception {
        String topic = clients.topic("directly", 1);
        String group = Server.unique("directly-group");
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = clients.consuming(group, topic, (messages, context) -> {
            inbox.keep(messages);
            if (inbox.size() == 3) {
                throw new IllegalStateException("the third time");
            }
            return inbox.size() == 2
                    ? ConsumeConcurrentlyStatus.RECONSUME_LATER
                    : ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        SendResult sent = clients.send(Messages.message(topic, "TagD", "once more, please"));
        inbox.awaitSize(1, Await.REBALANCE);
        String id = consumer.buildMQClientId();
        Await.until("the message found", Await.SOON, () -> clients.admin().viewMessage(topic, sent.getMsgId()));

        var later = clients.admin().consumeMessageDirectly(group, id, topic, sent.getMsgId());
        var thrown = clients.admin().consumeMessageDirectly(group, id, topic, sent.getOffsetMsgId());
        var good = clients.admin().consumeMessageDirectly(group, id, topic, sent.getMsgId());

        assertEquals("CR_LATER", later.getConsumeResult().name());
        assertEquals("CR_THROW_EXCEPTION", thrown.getConsumeResult().name());
        assertTrue(thrown.getRemark().contains("the third time"), thrown.getRemark());
        assertEquals("CR_SUCCESS", good.getConsumeResult().name());
        assertFalse(good.isOrder());
        inbox.awaitExactly(4);
        for (MessageExt message : inbox.all()) {
            assertEquals("once more, please", Messages.text(message));
            assertEquals(topic, message.getTopic());
            assertEquals("TagD", message.getTags());
            assertEquals(0, message.getReconsumeTimes());
        }
    }

    @Test
    void aConsumersOwnOffsetsAreAskedFromIt() throws Exception {
        String topic = clients.topic("own-offsets", 2);
        String group = Server.unique("own-offsets-group");
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = clients.consuming(group, topic, inbox);
        clients.send(topic, Messages.numbered("n", 20));
        inbox.awaitSize(20, Await.REBALANCE);
        String id = consumer.buildMQClientId();
        Map<MessageQueue, Long> ten =
                clients.queues(topic).stream().collect(Collectors.toMap(each -> each, each -> 10L));

        Await.until("ten of each queue", Await.SOON,
                () -> clients.admin().getConsumeStatus(topic, group, "").get(id).equals(ten));
        assertEquals(Map.of(id, ten), clients.admin().getConsumeStatus(topic, group, id));
    }

    @Test
    void theStatisticsOfAGroupTellItsLag() throws Exception {
        String topic = clients.topic("lagging", 1);
        String group = Server.unique("lagging-group");
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = clients.consuming(group, topic, inbox);
        clients.send(topic, Messages.numbered("read", 10));
        inbox.awaitSize(10, Await.REBALANCE);
        Await.until("the last one finished", Await.SOON, () -> Clients.cached(consumer) == 0);
        consumer.shutdown();
        MessageQueue queue = clients.queues(topic).get(0);
        Await.until("ten read", Await.SOON, () -> clients.admin()
                .examineConsumeStats(group, topic).getOffsetTable().get(queue).getConsumerOffset() == 10);
        List<SendResult> unread = clients.send(topic, Messages.numbered("unread", 7));

        var stats = clients.admin().examineConsumeStats(group, topic);

        assertEquals(17, stats.getOffsetTable().get(queue).getBrokerOffset());
        assertEquals(7, stats.computeTotalDiff());
        assertEquals(7, unread.size());
        assertTrue(stats.getOffsetTable().get(queue).getLastTimestamp() > 0, "when the last read one was stored");
        var spans = clients.admin().queryConsumeTimeSpan(topic, group);
        assertEquals(1, spans.size());
        assertEquals(queue, spans.get(0).getMessageQueue());
        assertTrue(spans.get(0).getMinTimeStamp() <= spans.get(0).getConsumeTimeStamp());
        assertTrue(spans.get(0).getConsumeTimeStamp() <= spans.get(0).getMaxTimeStamp());
    }

    @Test
    void whoConsumesATopicAndWhatBecameOfAMessage() throws Exception {
        String topic = clients.topic("tracked", 1);
        String online = Server.unique("tracked-on-line");
        String offline = Server.unique("tracked-off-line");
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer leaving = clients.consuming(offline, topic, inbox);
        clients.consuming(online, topic, inbox);
        SendResult sent = clients.send(Messages.message(topic, "where am I?"));
        inbox.awaitSize(2, Await.REBALANCE);
        Await.until("it finished", Await.SOON, () -> Clients.cached(leaving) == 0);
        leaving.shutdown();

        // Apache 5.3.3 names the topic itself among the groups, too.
        Await.until("both groups", Await.REBALANCE, () -> clients.admin()
                .queryTopicConsumeByWho(topic).getGroupList().containsAll(Set.of(online, offline)));
        MessageExt message = Await.until("the message found", Await.SOON,
                () -> clients.admin().viewMessage(topic, sent.getMsgId()));
        Await.until("consumed here, not on line there", Await.REBALANCE, () -> {
            Map<String, String> tracks = clients.admin().messageTrackDetail(message).stream().collect(
                    Collectors.toMap(each -> each.getConsumerGroup(), each -> each.getTrackType().name()));
            return tracks.get(online).equals("CONSUMED") && tracks.get(offline).equals("NOT_ONLINE");
        });
    }
}
