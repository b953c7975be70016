package posthouse.compat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.net.InetSocketAddress;
import java.util.Map;
import java.util.TreeMap;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageExt;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

class PropertiesTest {
    @RegisterExtension final Clients clients = new Clients();

    @Test
    void userPropertiesComeBackAsTheyWereSent() throws Exception {
        String topic = clients.topic("properties", 1);
        Map<String, String> properties = new TreeMap<>();
        for (int number = 0; number < 40; number++) {
            properties.put("name-" + number, "value " + number + " = {\"json\": [1, 2]} \\ \n\t'\"");
        }
        properties.put("a", "1");
        properties.put("long", "x".repeat(8000));
        Message message = Messages.message(topic, "with properties");
        properties.forEach(message::putUserProperty);

        clients.send(message);

        MessageExt stored = clients.readAll(topic, 1).get(0);
        properties.forEach((name, value) -> assertEquals(value, stored.getUserProperty(name), name));
    }

    @Test
    void theRecordTellsWhoSentItWhenAndWhere() throws Exception {
        String topic = clients.topic("record", 1);
        Message message = Messages.message(topic, "record");
        message.setFlag(7);

        long before = System.currentTimeMillis();
        SendResult result = clients.send(message);
        long after = System.currentTimeMillis();

        MessageExt stored = clients.readAll(topic, 1).get(0);
        assertEquals(topic, stored.getTopic());
        assertEquals(7, stored.getFlag());
        assertEquals(0, stored.getReconsumeTimes());
        assertEquals(0, stored.getPreparedTransactionOffset());
        assertTrue(before <= stored.getBornTimestamp() && stored.getBornTimestamp() <= after);
        assertTrue(before <= stored.getStoreTimestamp() && stored.getStoreTimestamp() <= after);
        assertEquals("127.0.0.1", stored.getBornHostString());
        InetSocketAddress storeHost = (InetSocketAddress) stored.getStoreHost();
        assertEquals(
                clients.brokerAddress(), storeHost.getAddress().getHostAddress() + ":" + storeHost.getPort());
        assertNotNull(stored.getProperty(MessageConst.PROPERTY_UNIQ_CLIENT_MESSAGE_ID_KEYIDX));
        assertEquals(
                result.getMsgId(), stored.getProperty(MessageConst.PROPERTY_UNIQ_CLIENT_MESSAGE_ID_KEYIDX));
        assertTrue(stored.isWaitStoreMsgOK());
        assertEquals("0", stored.getProperty(MessageConst.PROPERTY_MIN_OFFSET));
        assertEquals("1", stored.getProperty(MessageConst.PROPERTY_MAX_OFFSET));
    }
}
