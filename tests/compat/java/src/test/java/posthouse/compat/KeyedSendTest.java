package posthouse.compat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.selector.SelectMessageQueueByHash;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

class KeyedSendTest {
    @RegisterExtension final Clients clients = new Clients();

    @Test
    void keysComeBackAsTheyWereSent() throws Exception {
        String topic = clients.topic("keyed", 1);
        Message one = Messages.message(topic, "one key");
        one.setKeys("order-4711");
        Message three = Messages.message(topic, "three keys");
        three.setKeys(List.of("a", "b", "c"));

        clients.send(one);
        clients.send(three);
        clients.send(Messages.message(topic, "no key"));

        List<MessageExt> stored = clients.readAll(topic, 3);
        assertEquals("order-4711", stored.get(0).getKeys());
        assertEquals("a b c", stored.get(1).getKeys());
        assertEquals(null, stored.get(2).getKeys());
    }

    @Test
    void allMessagesOfOneKeyAreInOneQueueInOrder() throws Exception {
        String topic = clients.topic("hashed", 4);
        for (int number = 0; number < 20; number++) {
            for (int key = 0; key < 8; key++) {
                Message message = Messages.message(topic, String.format("%03d", number));
                message.setKeys("key-" + key);
                SendResult result =
                        clients.producer().send(message, new SelectMessageQueueByHash(), "key-" + key);
                Clients.sent(result);
                assertEquals(Math.floorMod(("key-" + key).hashCode(), 4), result.getMessageQueue().getQueueId());
            }
        }

        List<MessageExt> stored = clients.readAll(topic, 160);
        Map<String, List<MessageExt>> byKey = new TreeMap<>(
                stored.stream().collect(Collectors.groupingBy(MessageExt::getKeys)));
        assertEquals(8, byKey.size());
        Set<Integer> used = new TreeSet<>();
        for (List<MessageExt> ofKey : byKey.values()) {
            Set<Integer> queues = ofKey.stream().map(MessageExt::getQueueId).collect(Collectors.toSet());
            assertEquals(1, queues.size());
            used.addAll(queues);
            for (int index = 0; index < 20; index++) {
                assertEquals(String.format("%03d", index), Messages.text(ofKey.get(index)));
            }
        }
        assertTrue(used.size() > 1, "the keys should spread over the queues, not only " + used);
    }
}
