package posthouse.compat;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.List;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

/** Clients of 5.x that would rather send a fingerprint of their subscriptions than all of them each time. */
class HeartbeatV2Test {
    @RegisterExtension final Clients clients = new Clients();

    @Test
    void itsConsumersShareQueuesAndChangeSubscriptions() throws Exception {
        String topic = clients.topic("fingerprint", 4);
        String added = clients.topic("fingerprint-added", 1);
        String group = Server.unique("fingerprint-group");
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer first = consuming(group, topic, inbox);
        DefaultMQPushConsumer second = consuming(group, topic, inbox);
        for (DefaultMQPushConsumer consumer : List.of(first, second)) {
            Await.until("two of four", Await.REBALANCE, () -> Clients.owned(consumer, topic).size() == 2);
        }
        List<String> bodies = Messages.numbered("n", 20);
        clients.send(topic, bodies);
        inbox.awaitExactly(20);
        Thread.sleep(6_000); // at least one heartbeat without the subscriptions, where the broker agrees to that
        second.shutdown();

        first.subscribe(added, "*");
        clients.send(added, List.of("another topic"));

        Await.until("what was sent to the new topic", Await.REBALANCE,
                () -> inbox.distinctBodies().contains("another topic"));
        Await.until("all four", Await.REBALANCE, () -> Clients.owned(first, topic).size() == 4);
        assertEquals(2, clients.admin().examineConsumerConnectionInfo(group).getSubscriptionTable().keySet().stream()
                .filter(each -> !each.startsWith("%RETRY%")).count());
    }

    private DefaultMQPushConsumer consuming(String group, String topic, Inbox inbox) throws Exception {
        DefaultMQPushConsumer consumer = clients.pushConsumer(group, inbox);
        consumer.setUseHeartbeatV2(true);
        consumer.subscribe(topic, "*");
        consumer.start();
        return consumer;
    }
}
