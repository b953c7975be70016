package posthouse.compat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.net.InetSocketAddress;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageId;
import org.apache.rocketmq.common.message.MessageQueue;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

class SyncSendTest {
    @RegisterExtension final Clients clients = new Clients();

    @Test
    void sendResultNamesWhereTheMessageIsStored() throws Exception {
        String topic = clients.topic("sync", 4);

        SendResult result = clients.producer().send(Messages.message(topic, "hello"));

        assertEquals(SendStatus.SEND_OK, result.getSendStatus());
        // The client makes the first id of its own address, which may be of IPv6; the broker makes the second.
        assertTrue(result.getMsgId().matches("[0-9A-F]{32}|[0-9A-F]{56}"), result.getMsgId());
        assertTrue(result.getOffsetMsgId().matches("[0-9A-F]{32}"), result.getOffsetMsgId());
        assertNotEquals(result.getMsgId(), result.getOffsetMsgId());
        assertEquals("DefaultRegion", result.getRegionId());
        assertEquals(0, result.getQueueOffset());
        assertEquals(topic, result.getMessageQueue().getTopic());
        var byName = clients.admin().examineBrokerClusterInfo().getBrokerAddrTable();
        assertEquals(Set.of(result.getMessageQueue().getBrokerName()), byName.keySet());

        MessageId id = MessageDecoder.decodeMessageId(result.getOffsetMsgId());
        InetSocketAddress host = (InetSocketAddress) id.getAddress();
        assertEquals(clients.brokerAddress(), host.getAddress().getHostAddress() + ":" + host.getPort());

        MessageExt stored = clients.readAll(topic, 1).get(0);
        assertEquals("hello", Messages.text(stored));
        assertEquals(result.getMessageQueue().getQueueId(), stored.getQueueId());
        assertEquals(result.getQueueOffset(), stored.getQueueOffset());
        assertEquals(id.getOffset(), stored.getCommitLogOffset());
        assertEquals(result.getMsgId(), stored.getMsgId());
    }

    @Test
    void queueOffsetsGrowByOneInEachQueue() throws Exception {
        String topic = clients.topic("offsets", 4);
        Map<Integer, Long> next = new TreeMap<>();

        List<String> bodies = Messages.numbered("n", 40);
        for (SendResult result : clients.send(topic, bodies)) {
            int queue = result.getMessageQueue().getQueueId();
            assertEquals(next.getOrDefault(queue, 0L), result.getQueueOffset(), "in queue " + queue);
            next.put(queue, result.getQueueOffset() + 1);
        }

        assertEquals(Map.of(0, 10L, 1, 10L, 2, 10L, 3, 10L), next);
        assertEquals(bodies, Messages.bodies(clients.readAll(topic, 40)));
    }

    @Test
    void aMessageGoesToTheQueueThatIsAskedFor() throws Exception {
        String topic = clients.topic("chosen", 4);
        MessageQueue third = clients.queues(topic).get(2);

        for (int number = 0; number < 5; number++) {
            SendResult result = clients.producer().send(Messages.message(topic, "m" + number), third);
            assertEquals(third, result.getMessageQueue());
            assertEquals(number, result.getQueueOffset());
        }

        List<MessageExt> stored = clients.read(third);
        assertEquals(List.of("m0", "m1", "m2", "m3", "m4"), Messages.bodies(stored));
        assertTrue(stored.stream().allMatch(message -> message.getQueueId() == 2));
    }

    @Test
    void messageIdsAreDistinct() throws Exception {
        String topic = clients.topic("ids", 2);
        Set<String> ids = new HashSet<>();
        Set<String> offsetIds = new HashSet<>();

        for (SendResult result : clients.send(topic, Messages.numbered("n", 30))) {
            ids.add(result.getMsgId());
            offsetIds.add(result.getOffsetMsgId());
        }

        assertEquals(30, ids.size());
        assertEquals(30, offsetIds.size());
    }

    @Test
    void twoProducersOfOneTopicDoNotDisturbEachOther() throws Exception {
        String topic = clients.topic("two-producers", 1);
        var other = clients.newProducer();

        for (int number = 0; number < 10; number++) {
            clients.send(Messages.message(topic, "a" + number));
            Clients.sent(other.send(Messages.message(topic, "b" + number)));
        }

        List<MessageExt> stored = clients.readAll(topic, 20);
        for (int index = 0; index < 20; index++) {
            String expected = (index % 2 == 0 ? "a" : "b") + index / 2;
            assertEquals(expected, Messages.text(stored.get(index)));
            assertEquals(index, stored.get(index).getQueueOffset());
        }
    }
}
