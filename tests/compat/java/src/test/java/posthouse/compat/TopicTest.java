package posthouse.compat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.MQVersion;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.message.MessageQueue;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

class TopicTest {
    private static final int TOPIC_NOT_EXIST = 17;

    @RegisterExtension final Clients clients = new Clients();

    @Test
    void aSendToAnUnknownTopicCreatesIt() throws Exception {
        String topic = Server.unique("auto-created");
        assertNoRoute(topic);

        SendResult result = clients.producer().send(Messages.message(topic, "first"));

        assertEquals(0, result.getQueueOffset());
        clients.awaitRoute(topic);
        var queues = clients.admin().examineTopicRouteInfo(topic).getQueueDatas();
        assertEquals(1, queues.size());
        assertEquals(4, queues.get(0).getReadQueueNums());
        assertEquals(4, queues.get(0).getWriteQueueNums());
        assertEquals(6, queues.get(0).getPerm());
        assertEquals(List.of("first"), Messages.bodies(clients.readAll(topic, 1)));
    }

    @Test
    void anAutoCreatedTopicCanBeConsumed() throws Exception {
        String topic = Server.unique("auto-consumed");
        List<String> bodies = Messages.numbered("n", 12);
        clients.send(topic, bodies);
        clients.awaitRoute(topic);
        Inbox inbox = new Inbox();

        clients.consuming(Server.unique("auto-group"), topic, inbox);

        inbox.awaitExactly(12);
        assertEquals(bodies, inbox.bodies());
    }

    @Test
    void aCreatedTopicHasTheQueuesThatWereAskedFor() throws Exception {
        String topic = Server.unique("six");
        assertNoRoute(topic);

        clients.admin().createAndUpdateTopicConfig(clients.brokerAddress(), new TopicConfig(topic, 6, 6, 6));

        clients.awaitRoute(topic);
        var route = clients.admin().examineTopicRouteInfo(topic);
        assertEquals(1, route.getQueueDatas().size());
        assertEquals(6, route.getQueueDatas().get(0).getReadQueueNums());
        assertEquals(6, route.getQueueDatas().get(0).getWriteQueueNums());
        assertEquals(1, route.getBrokerDatas().size());
        assertEquals(
                Map.of(0L, clients.brokerAddress()), route.getBrokerDatas().get(0).getBrokerAddrs());
        assertEquals(route.getQueueDatas().get(0).getBrokerName(), route.getBrokerDatas().get(0).getBrokerName());
        assertEquals(6, clients.producer().fetchPublishMessageQueues(topic).size());
        Set<Integer> used = clients.send(topic, Messages.numbered("n", 12)).stream()
                .map(result -> result.getMessageQueue().getQueueId())
                .collect(Collectors.toCollection(TreeSet::new));
        assertEquals(new TreeSet<>(List.of(0, 1, 2, 3, 4, 5)), used);
    }

    @Test
    void readAndWriteQueuesMayDiffer() throws Exception {
        String topic = Server.unique("unequal");
        clients.admin().createAndUpdateTopicConfig(clients.brokerAddress(), new TopicConfig(topic, 5, 2, 6));
        clients.awaitRoute(topic);

        assertEquals(2, clients.producer().fetchPublishMessageQueues(topic).size());
        assertEquals(5, clients.reader().fetchSubscribeMessageQueues(topic).size());
    }

    @Test
    void aTopicCanBeGivenMoreQueues() throws Exception {
        String topic = clients.topic("growing", 2);
        clients.send(topic, Messages.numbered("n", 4));

        clients.admin().createAndUpdateTopicConfig(clients.brokerAddress(), new TopicConfig(topic, 5, 5, 6));

        var admin = clients.admin();
        Await.until("five queues", Await.SOON,
                () -> admin.examineTopicRouteInfo(topic).getQueueDatas().get(0).getWriteQueueNums() == 5);
        assertEquals(4, clients.readAll(topic, 4).size());
        var config = admin.examineTopicConfig(clients.brokerAddress(), topic);
        assertEquals(5, config.getReadQueueNums());
        assertEquals(5, config.getWriteQueueNums());
    }

    @Test
    void aTopicWithoutWritePermissionHasNoQueueToSendTo() throws Exception {
        String topic = clients.topic("read-only", 2);
        clients.send(topic, List.of("n"));

        clients.admin().createAndUpdateTopicConfig(clients.brokerAddress(), new TopicConfig(topic, 2, 2, 4));

        var admin = clients.admin();
        Await.until("permission 4", Await.SOON,
                () -> admin.examineTopicRouteInfo(topic).getQueueDatas().get(0).getPerm() == 4);
        assertThrows(MQClientException.class, () -> clients.newProducer().send(Messages.message(topic, "refused")));
        assertEquals(List.of("n"), Messages.bodies(clients.readAll(topic, 1)));
    }

    @Test
    void topicStatsTellTheOffsetsOfEachQueue() throws Exception {
        String topic = clients.topic("stats", 3);
        long before = System.currentTimeMillis();
        clients.send(topic, Messages.numbered("n", 6));
        clients.readAll(topic, 6);

        var table = clients.admin().examineTopicStats(topic).getOffsetTable();

        assertEquals(new TreeSet<>(clients.queues(topic)), new TreeSet<>(table.keySet()));
        for (MessageQueue queue : table.keySet()) {
            assertEquals(0, table.get(queue).getMinOffset());
            assertEquals(2, table.get(queue).getMaxOffset());
            assertTrue(table.get(queue).getLastUpdateTimestamp() >= before);
        }
    }

    @Test
    void theTopicListHasEveryTopic() throws Exception {
        String created = clients.topic("listed", 1);
        String sent = Server.unique("listed-by-send");
        clients.send(sent, List.of("n"));
        clients.awaitRoute(sent);

        Set<String> topics = clients.admin().fetchAllTopicList().getTopicList();

        assertTrue(topics.containsAll(Set.of(created, sent)), topics.toString());
    }

    @Test
    void aDeletedTopicHasNoRoute() throws Exception {
        String topic = clients.topic("deleted", 2);
        String kept = clients.topic("kept", 2);
        clients.send(topic, List.of("n"));

        clients.admin().deleteTopicInBroker(Set.of(clients.brokerAddress()), topic);
        String cluster = clients.admin().examineBrokerClusterInfo().getClusterAddrTable().keySet().iterator().next();
        // The two texts changed places between 4.9 and 5.x.
        boolean topicFirst = MQVersion.CURRENT_VERSION < MQVersion.Version.V5_0_0.ordinal();
        clients.admin()
                .deleteTopicInNameServer(
                        Set.of(Server.NAMESERVER), topicFirst ? topic : cluster, topicFirst ? cluster : topic);

        assertNoRoute(topic);
        assertTrue(!clients.admin().fetchAllTopicList().getTopicList().contains(topic));
        clients.awaitRoute(kept);
    }

    private void assertNoRoute(String topic) throws Exception {
        var admin = clients.admin();
        MQClientException unknown = assertThrows(MQClientException.class, () -> admin.examineTopicRouteInfo(topic));
        assertEquals(TOPIC_NOT_EXIST, unknown.getResponseCode(), unknown.getErrorMessage());
    }
}
