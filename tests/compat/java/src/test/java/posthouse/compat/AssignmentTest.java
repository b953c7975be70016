package posthouse.compat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageRequestMode;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.RegisterExtension;

/** The broker deals the queues out (5.x with clientRebalance=false). */
class AssignmentTest {
    @RegisterExtension final Clients clients = new Clients();

    @Test
    void withoutAModeConsumersPullTheQueuesThatTheBrokerGivesThem() throws Exception {
        String topic = clients.topic("assigned", 4);
        String group = Server.unique("assigned-group");
        List<Inbox> inboxes = List.of(new Inbox(), new Inbox());
        List<DefaultMQPushConsumer> consumers = new ArrayList<>();
        for (Inbox inbox : inboxes) {
            consumers.add(consuming(group, topic, inbox));
        }
        for (DefaultMQPushConsumer consumer : consumers) {
            Await.until("two of four", Await.REBALANCE, () -> Clients.owned(consumer, topic).size() == 2);
        }

        clients.send(topic, Messages.numbered("n", 40));

        for (Inbox inbox : inboxes) {
            inbox.awaitExactly(20);
            inbox.all().forEach(message -> assertEquals(null, message.getProperty(MessageConst.PROPERTY_POP_CK)));
        }
        consumers.get(0).shutdown();
        Await.until("all four", Await.REBALANCE, () -> Clients.owned(consumers.get(1), topic).size() == 4);
    }

    @Test
    void membersThatShareQueuesGetEverythingOnceBetweenThem() throws Exception {
        String topic = clients.topic("sharing", 3);
        String group = PopRequests.group(clients, topic, 1);
        List<Inbox> inboxes = List.of(new Inbox(), new Inbox(), new Inbox());
        for (Inbox inbox : inboxes) {
            consuming(group, topic, inbox);
        }
        Await.until("three members", Await.REBALANCE,
                () -> clients.admin().examineConsumerConnectionInfo(group).getConnectionSet().size() == 3);
        List<String> bodies = Messages.numbered("n", 90);
        clients.send(topic, bodies);

        Await.until("all", Duration.ofSeconds(45), () -> union(inboxes).size() >= 90);
        assertEquals(bodies, union(inboxes));
    }

    @Test
    @Timeout(150)
    void theModeCanBeChangedWhileAConsumerRuns() throws Exception {
        String topic = clients.topic("changed-mode", 2);
        String group = PopRequests.group(clients, topic, 0);
        Inbox inbox = new Inbox();
        consuming(group, topic, inbox);
        clients.send(topic, Messages.numbered("popped", 10));
        inbox.awaitSize(10, Await.REBALANCE);
        inbox.all().forEach(message -> assertTrue(message.getProperty(MessageConst.PROPERTY_POP_CK) != null));

        clients.admin().setMessageRequestMode(
                clients.brokerAddress(), topic, group, MessageRequestMode.PULL, 0, 5_000);

        Await.until("a message that was pulled", Duration.ofSeconds(60), () -> {
            clients.send(topic, List.of("pulled?", "pulled?"));
            Thread.sleep(1_000);
            return inbox.all().stream()
                    .anyMatch(message -> message.getProperty(MessageConst.PROPERTY_POP_CK) == null);
        });
    }

    private DefaultMQPushConsumer consuming(String group, String topic, Inbox inbox) throws Exception {
        DefaultMQPushConsumer consumer = clients.pushConsumer(group, inbox);
        consumer.setClientRebalance(false);
        consumer.subscribe(topic, "*");
        consumer.start();
        return consumer;
    }

    private static List<String> union(List<Inbox> inboxes) {
        List<String> all = new ArrayList<>();
        inboxes.forEach(inbox -> all.addAll(inbox.bodies()));
        all.sort(null);
        return all;
    }
}
