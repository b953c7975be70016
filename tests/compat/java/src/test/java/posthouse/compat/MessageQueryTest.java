package posthouse.compat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.List;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

class MessageQueryTest {
    @RegisterExtension final Clients clients = new Clients();

    @Test
    void aMessageIsFoundByTheIdOfItsPlace() throws Exception {
        String topic = clients.topic("by-place", 2);
        clients.send(topic, Messages.numbered("before", 3));
        SendResult sent = clients.send(Messages.message(topic, "TagA", "wanted"));
        clients.readAll(topic, 4);

        MessageExt found = clients.admin().viewMessage(topic, sent.getOffsetMsgId());

        assertEquals("wanted", Messages.text(found));
        assertEquals("TagA", found.getTags());
        assertEquals(sent.getMessageQueue().getQueueId(), found.getQueueId());
        assertEquals(sent.getQueueOffset(), found.getQueueOffset());
    }

    @Test
    void aMessageIsFoundByItsUniqueId() throws Exception {
        String topic = clients.topic("by-id", 2);
        clients.send(topic, Messages.numbered("before", 3));
        SendResult sent = clients.send(Messages.message(topic, "wanted"));
        var admin = clients.admin();

        MessageExt found = Await.until("the message by its unique id", Await.SOON,
                () -> admin.viewMessage(topic, sent.getMsgId()));

        assertEquals("wanted", Messages.text(found));
        assertEquals(sent.getMsgId(), found.getMsgId());
    }

    @Test
    void messagesAreFoundByEachOfTheirKeys() throws Exception {
        String topic = clients.topic("by-key", 4);
        for (String body : Messages.numbered("n", 9)) {
            Message message = Messages.message(topic, body);
            message.setKeys(List.of("all", "third-" + Integer.parseInt(body.substring(2)) % 3));
            clients.send(message);
        }
        var admin = clients.admin();

        List<MessageExt> all = Await.until("nine messages of one key", Await.SOON, () -> {
            List<MessageExt> found = admin.queryMessage(topic, "all", 32, 0, Long.MAX_VALUE).getMessageList();
            return found.size() == 9 ? found : null;
        });
        List<MessageExt> third = admin.queryMessage(topic, "third-2", 32, 0, Long.MAX_VALUE).getMessageList();

        assertEquals(Messages.numbered("n", 9), Messages.bodies(all));
        assertEquals(List.of("n-002", "n-005", "n-008"), Messages.bodies(third));
        assertEquals(2, admin.queryMessage(topic, "all", 2, 0, Long.MAX_VALUE).getMessageList().size());
        assertThrows(MQClientException.class, () -> admin.queryMessage(topic, "none", 32, 0, Long.MAX_VALUE));
    }
}
