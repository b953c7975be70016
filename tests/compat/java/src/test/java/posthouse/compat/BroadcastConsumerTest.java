package posthouse.compat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.common.message.MessageQueue;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

class BroadcastConsumerTest {
    @RegisterExtension final Clients clients = new Clients();

    @Test
    void eachConsumerOfABroadcastGroupGetsEverything() throws Exception {
        String topic = clients.topic("broadcast", 4);
        String group = Server.unique("broadcast-group");
        Inbox one = new Inbox();
        Inbox two = new Inbox();
        for (Inbox inbox : List.of(one, two)) {
            broadcast(group, topic, inbox).start();
        }

        List<String> bodies = Messages.numbered("n", 40);
        clients.send(topic, bodies);

        one.awaitExactly(40);
        two.awaitExactly(40);
        assertEquals(bodies, one.bodies());
        assertEquals(bodies, two.bodies());
    }

    /** The file is found by the client's id, so a client that is to go on where it was keeps its instance name. */
    @Test
    void theOffsetsAreKeptByTheClientNotByTheBroker() throws Exception {
        String topic = clients.topic("broadcast-resumed", 2);
        String group = Server.unique("broadcast-resumed-group");
        String instance = Server.unique("broadcast-instance");
        Inbox first = new Inbox();
        DefaultMQPushConsumer before = broadcast(group, topic, first);
        before.setInstanceName(instance);
        before.start();
        clients.send(topic, Messages.numbered("old", 20));
        first.awaitExactly(20);
        before.shutdown();
        var asked = clients.pullConsumer(group);
        for (MessageQueue queue : clients.queues(topic)) {
            assertTrue(asked.fetchConsumeOffset(queue, true) <= 0, "the broker has no offset of " + queue);
        }
        asked.shutdown();
        List<String> missed = Messages.numbered("missed", 20);
        clients.send(topic, missed);

        Inbox second = new Inbox();
        DefaultMQPushConsumer after = broadcast(group, topic, second);
        after.setInstanceName(instance);
        after.start();
        Inbox stranger = new Inbox();
        broadcast(group, topic, stranger).start();

        second.awaitExactly(20);
        assertEquals(missed, second.bodies());
        stranger.awaitExactly(40);
    }

    @Test
    void whatABroadcastConsumerFailsIsNotDeliveredAgain() throws Exception {
        String topic = clients.topic("broadcast-failing", 1);
        Inbox inbox = new Inbox();
        broadcast(Server.unique("broadcast-failing-group"), topic, (messages, context) -> {
            inbox.keep(messages);
            context.setDelayLevelWhenNextConsume(1);
            return ConsumeConcurrentlyStatus.RECONSUME_LATER;
        }).start();

        clients.send(topic, List.of("only once"));

        inbox.awaitSize(1, Await.REBALANCE);
        Thread.sleep(2_500); // a retry would come after one second
        inbox.awaitExactly(1);
    }

    private DefaultMQPushConsumer broadcast(String group, String topic, MessageListenerConcurrently listener)
            throws Exception {
        DefaultMQPushConsumer consumer = clients.pushConsumer(group, listener);
        // The class of the two models moved between 4.9 and 5.x, so it is asked for, not named.
        consumer.setMessageModel(Enum.valueOf(consumer.getMessageModel().getDeclaringClass(), "BROADCASTING"));
        consumer.subscribe(topic, "*");
        return consumer;
    }
}
