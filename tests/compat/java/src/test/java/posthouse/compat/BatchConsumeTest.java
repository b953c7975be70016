package posthouse.compat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

class BatchConsumeTest {
    @RegisterExtension final Clients clients = new Clients();

    @Test
    void aListenerGetsAsManyMessagesAsItAskedFor() throws Exception {
        String topic = clients.topic("by-eight", 1);
        List<String> bodies = Messages.numbered("n", 64);
        clients.send(topic, bodies);
        ConcurrentLinkedQueue<Integer> sizes = new ConcurrentLinkedQueue<>();
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = clients.pushConsumer(Server.unique("by-eight-group"), (messages, context) -> {
            sizes.add(messages.size());
            inbox.keep(messages);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.setConsumeMessageBatchMaxSize(8);
        consumer.setPullBatchSize(32);
        consumer.subscribe(topic, "*");
        consumer.start();

        inbox.awaitExactly(64);
        assertEquals(bodies, inbox.bodies());
        assertEquals(List.of(8, 8, 8, 8, 8, 8, 8, 8), List.copyOf(sizes));
    }

    @Test
    void whatLiesBehindTheLastGoodOneOfABatchComesAgain() throws Exception {
        String topic = clients.topic("half-done", 1);
        clients.send(topic, Messages.numbered("n", 8));
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = clients.pushConsumer(Server.unique("half-done-group"), (messages, context) -> {
            inbox.keep(messages);
            if (messages.get(0).getReconsumeTimes() == 0) {
                context.setAckIndex(messages.size() - 4); // the last three are not done
                context.setDelayLevelWhenNextConsume(1);
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.setConsumeMessageBatchMaxSize(8);
        consumer.subscribe(topic, "*");
        consumer.start();

        inbox.awaitSize(8, Await.REBALANCE);
        Clients.awaitRetryQueue(consumer);
        inbox.awaitExactly(11);
        assertEquals(List.of("n-005", "n-005", "n-006", "n-006", "n-007", "n-007"), inbox.bodies().subList(5, 11));
        assertTrue(inbox.millisUntil(8) >= 1_000);
    }

    @Test
    void aPullBatchMayBeSmallOrLarge() throws Exception {
        String topic = clients.topic("pull-batch", 1);
        List<String> bodies = Messages.numbered("n", 300);
        clients.send(topic, bodies);
        for (int size : new int[] {1, 1000}) {
            Inbox inbox = new Inbox();
            DefaultMQPushConsumer consumer = clients.pushConsumer(Server.unique("pull-batch-group"), inbox);
            consumer.setPullBatchSize(size);
            consumer.subscribe(topic, "*");
            consumer.start();

            inbox.awaitExactly(300);
            assertEquals(bodies, inbox.bodies());
        }
    }
}
