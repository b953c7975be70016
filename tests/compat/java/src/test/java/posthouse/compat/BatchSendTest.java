package posthouse.compat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageClientExt;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

class BatchSendTest {
    @RegisterExtension final Clients clients = new Clients();

    @Test
    void aBatchTakesConsecutiveOffsetsInOrder() throws Exception {
        String topic = clients.topic("batch", 4);
        MessageQueue queue = clients.queues(topic).get(1);

        SendResult first = clients.producer().send(batch(topic, "one", 10), queue);
        SendResult second = clients.producer().send(batch(topic, "two", 7), queue);

        assertEquals(SendStatus.SEND_OK, first.getSendStatus());
        assertEquals(0, first.getQueueOffset());
        assertEquals(10, second.getQueueOffset());
        List<MessageExt> stored = clients.read(queue);
        assertEquals(17, stored.size());
        for (int index = 0; index < 17; index++) {
            MessageExt message = stored.get(index);
            assertEquals(index, message.getQueueOffset());
            assertEquals(1, message.getQueueId());
            String expected = index < 10 ? "one-00" + index : "two-00" + (index - 10);
            assertEquals(expected, Messages.text(message));
            assertEquals("key-" + expected, message.getKeys());
            assertEquals("Tag" + expected.charAt(6), message.getTags());
            assertEquals(expected, message.getUserProperty("shape"));
        }
    }

    @Test
    void aBatchHasOneIdForEachMessage() throws Exception {
        String topic = clients.topic("batch-ids", 1);

        SendResult result = clients.producer().send(batch(topic, "ids", 10));

        List<String> ids = Arrays.asList(result.getMsgId().split(","));
        List<String> offsetIds = Arrays.asList(result.getOffsetMsgId().split(","));
        assertEquals(10, new HashSet<>(ids).size());
        assertEquals(10, new HashSet<>(offsetIds).size());
        assertTrue(offsetIds.stream().allMatch(id -> id.matches("[0-9A-F]{32}")), result.getOffsetMsgId());
        List<MessageExt> stored = clients.readAll(topic, 10);
        assertEquals(offsetIds, stored.stream().map(BatchSendTest::offsetId).collect(Collectors.toList()));
    }

    @Test
    void aPushConsumerIsGivenTheMessagesOfABatchOneByOne() throws Exception {
        String topic = clients.topic("batch-push", 4);
        Inbox inbox = new Inbox();
        clients.consuming(Server.unique("batch-group"), topic, inbox);

        Clients.sent(clients.producer().send(batch(topic, "push", 20)));

        inbox.awaitExactly(20);
        assertEquals(Messages.numbered("push", 20), inbox.bodies());
    }

    private static List<Message> batch(String topic, String prefix, int count) {
        List<Message> batch = new ArrayList<>();
        for (String body : Messages.numbered(prefix, count)) {
            Message message = Messages.message(topic, "Tag" + body.charAt(6), body);
            message.setKeys("key-" + body);
            message.putUserProperty("shape", body);
            batch.add(message);
        }
        return batch;
    }

    private static String offsetId(MessageExt message) {
        return ((MessageClientExt) message).getOffsetMsgId();
    }
}
