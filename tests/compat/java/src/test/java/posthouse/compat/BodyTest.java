package posthouse.compat;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.util.List;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

class BodyTest {
    private static final int MIB = 1024 * 1024;
    private static final int MESSAGE_ILLEGAL = 13;

    @RegisterExtension final Clients clients = new Clients();

    @Test
    void aBodyOfOneMebibyteComesBackUnchanged() throws Exception {
        String topic = clients.topic("big", 1);
        byte[] body = Messages.noise(MIB);

        clients.send(new Message(topic, body));

        assertArrayEquals(body, clients.readAll(topic, 1).get(0).getBody());
    }

    @Test
    void everyByteValueComesBackUnchanged() throws Exception {
        String topic = clients.topic("bytes", 1);
        byte[] body = new byte[256];
        for (int value = 0; value < 256; value++) {
            body[value] = (byte) value;
        }

        clients.send(new Message(topic, body));
        clients.send(new Message(topic, new byte[] {0}));

        List<MessageExt> stored = clients.readAll(topic, 2);
        assertArrayEquals(body, stored.get(0).getBody());
        assertArrayEquals(new byte[] {0}, stored.get(1).getBody());
    }

    @Test
    void aBodyOverFourMebibytesIsRefusedByTheBroker() throws Exception {
        String topic = clients.topic("too-big", 1);
        DefaultMQProducer producer = clients.producer();
        producer.setMaxMessageSize(16 * MIB); // so that not the client refuses it

        MQBrokerException refused = assertThrows(
                MQBrokerException.class, () -> producer.send(new Message(topic, Messages.noise(4 * MIB + 1))));

        assertEquals(MESSAGE_ILLEGAL, refused.getResponseCode(), refused.getErrorMessage());
        clients.send(Messages.message(topic, "the connection still works"));
        assertEquals(List.of("the connection still works"), Messages.bodies(clients.readAll(topic, 1)));
    }

    @Test
    void aCompressedTextComesBackAsItWas() throws Exception {
        String topic = clients.topic("compressed", 1);
        String text = "The relay station hands the mail to the next courier. ".repeat(400);

        clients.send(Messages.message(topic, text));

        MessageExt stored = clients.readAll(topic, 1).get(0);
        assertEquals(text, Messages.text(stored));
        assertEquals(text.length(), stored.getBody().length);
        assertTrue(stored.getStoreSize() < text.length() / 4, "stored size " + stored.getStoreSize());
    }

    @Test
    void aCompressedTextReachesAPushConsumer() throws Exception {
        String topic = clients.topic("compressed-push", 2);
        String text = "驿站 relay ".repeat(2000);
        Inbox inbox = new Inbox();
        clients.consuming(Server.unique("compressed-group"), topic, inbox);

        clients.send(Messages.message(topic, text));

        inbox.awaitExactly(1);
        assertEquals(text, Messages.text(inbox.all().get(0)));
    }

    @Test
    void unicodeComesBackInBodyTagKeysAndProperties() throws Exception {
        String topic = clients.topic("unicode", 1);
        Message message = new Message(
                topic, "标签é", "ключ-🔑", "驿站 🐎 Poststation Þ".getBytes(StandardCharsets.UTF_8));
        message.putUserProperty("город", "東京");
        message.putUserProperty("emoji", "🚚📦");

        clients.send(message);

        MessageExt stored = clients.readAll(topic, 1).get(0);
        assertEquals("驿站 🐎 Poststation Þ", Messages.text(stored));
        assertEquals("标签é", stored.getTags());
        assertEquals("ключ-🔑", stored.getKeys());
        assertEquals("東京", stored.getUserProperty("город"));
        assertEquals("🚚📦", stored.getUserProperty("emoji"));
    }

    @Test
    void aUnicodeTagCanBeSubscribedTo() throws Exception {
        String topic = clients.topic("unicode-tag", 2);
        Inbox inbox = new Inbox();
        var consumer = clients.pushConsumer(Server.unique("unicode-group"), inbox);
        consumer.subscribe(topic, "标签é || 另一个");
        consumer.start();

        clients.send(Messages.message(topic, "标签é", "1"));
        clients.send(Messages.message(topic, "other", "2"));
        clients.send(Messages.message(topic, "另一个", "3"));

        inbox.awaitExactly(2);
        assertEquals(List.of("1", "3"), inbox.bodies());
    }
}
