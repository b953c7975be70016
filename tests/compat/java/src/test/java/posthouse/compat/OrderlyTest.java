package posthouse.compat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.producer.selector.SelectMessageQueueByHash;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.RegisterExtension;

class OrderlyTest {
    @RegisterExtension final Clients clients = new Clients();

    @Test
    void eachQueueIsConsumedInItsOrderByOneThreadAtATime() throws Exception {
        String topic = clients.topic("orderly", 4);
        Inbox inbox = new Inbox();
        Map<Integer, AtomicInteger> working = new ConcurrentHashMap<>();
        AtomicInteger together = new AtomicInteger();
        String group = Server.unique("orderly-group");
        DefaultMQPushConsumer consumer = clients.orderlyConsumer(group, (messages, context) -> {
            AtomicInteger here =
                    working.computeIfAbsent(messages.get(0).getQueueId(), queue -> new AtomicInteger());
            together.accumulateAndGet(here.incrementAndGet(), Math::max);
            inbox.keep(messages);
            here.decrementAndGet();
            return ConsumeOrderlyStatus.SUCCESS;
        });
        consumer.subscribe(topic, "*");
        consumer.start();

        sendByShard(topic, 200, 0);

        inbox.awaitExactly(200);
        assertInOrder(inbox.all());
        assertEquals(1, together.get(), "messages of one queue in the listener at a time");
        Map<String, Integer> last = new ConcurrentHashMap<>();
        for (String body : inbox.arrived()) {
            String[] parts = body.split("#");
            int before = last.getOrDefault(parts[0], -1);
            assertEquals(before + 1, Integer.parseInt(parts[1]), "the next one of " + parts[0]);
            last.put(parts[0], before + 1);
        }
    }

    @Test
    void aMessageThatIsNotDoneHoldsTheOnesBehindIt() throws Exception {
        String topic = clients.topic("held", 1);
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = clients.orderlyConsumer(Server.unique("held-group"), (messages, context) -> {
            inbox.keep(messages);
            MessageExt message = messages.get(0);
            context.setSuspendCurrentQueueTimeMillis(200);
            if (Messages.text(message).equals("n-001") && message.getReconsumeTimes() < 2) {
                return ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT;
            }
            if (Messages.text(message).equals("n-002") && message.getReconsumeTimes() < 1) {
                throw new IllegalStateException("as a listener may");
            }
            return ConsumeOrderlyStatus.SUCCESS;
        });
        consumer.subscribe(topic, "*");
        consumer.start();

        clients.send(topic, Messages.numbered("n", 4));

        inbox.awaitExactly(7);
        assertEquals(List.of("n-000", "n-001", "n-001", "n-001", "n-002", "n-002", "n-003"), inbox.arrived());
        assertEquals(List.of(0, 0, 1, 2, 0, 1, 0), inbox.attempts());
        assertTrue(inbox.millisUntil(2) - inbox.millisUntil(1) >= 200);
    }

    @Test
    void afterItsLastAttemptAMessageIsADeadLetterAndTheQueueGoesOn() throws Exception {
        String topic = clients.topic("orderly-dying", 1);
        String group = Server.unique("orderly-dying-group");
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = clients.orderlyConsumer(group, (messages, context) -> {
            inbox.keep(messages);
            context.setSuspendCurrentQueueTimeMillis(100);
            return Messages.text(messages.get(0)).equals("n-001")
                    ? ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT
                    : ConsumeOrderlyStatus.SUCCESS;
        });
        consumer.setMaxReconsumeTimes(2);
        consumer.subscribe(topic, "*");
        consumer.start();

        clients.send(topic, Messages.numbered("n", 4));

        inbox.awaitExactly(6);
        assertEquals(List.of("n-000", "n-001", "n-001", "n-001", "n-002", "n-003"), inbox.arrived());
        String dead = "%DLQ%" + group;
        Await.until("a route of " + dead, Await.REBALANCE, () -> clients.admin().examineTopicRouteInfo(dead));
        assertEquals(List.of("n-001"), Messages.bodies(clients.readAll(dead, 1)));
    }

    /** At most the messages that the one that leaves had not written back come twice; none overtakes another. */
    @Test
    void theOrderHoldsWhileConsumersComeAndGo() throws Exception {
        String topic = clients.topic("orderly-sharing", 4);
        String group = Server.unique("orderly-sharing-group");
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer first = ordered(group, topic, inbox);
        Await.until("all four", Await.REBALANCE, () -> Clients.owned(first, topic).size() == 4);
        CompletableFuture<Void> sending = CompletableFuture.runAsync(() -> sendByShard(topic, 400, 20));

        DefaultMQPushConsumer second = ordered(group, topic, inbox);
        Await.until("two for each", Await.REBALANCE,
                () -> Clients.owned(first, topic).size() == 2 && Clients.owned(second, topic).size() == 2);
        first.shutdown();
        Await.until("all four for the second", Await.REBALANCE, () -> Clients.owned(second, topic).size() == 4);

        sending.get(40, TimeUnit.SECONDS);
        Await.until("everything", Await.REBALANCE, () -> inbox.distinctBodies().size() == 400);
        assertInOrder(inbox.all());
    }

    /** A lock lives for 60 s after its owner renewed it last; nobody else may have the queue before. */
    @Test
    @Timeout(150)
    void aKilledConsumersQueuesAreTakenOverWhenItsLocksHaveEnded() throws Exception {
        String topic = clients.topic("orderly-killed", 2);
        String group = Server.unique("orderly-killed-group");
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer first = ordered(group, topic, inbox);
        DefaultMQPushConsumer second = ordered(group, topic, inbox);
        Await.until("one for each", Await.REBALANCE,
                () -> Clients.owned(first, topic).size() == 1 && Clients.owned(second, topic).size() == 1);
        sendByShard(topic, 40, 0);
        Await.until("the first forty", Await.REBALANCE, () -> inbox.distinctBodies().size() == 40);

        Clients.kill(first);
        Await.until("both for the second", Duration.ofSeconds(100), () -> Clients.owned(second, topic).size() == 2);
        clients.send(topic, Messages.numbered("after", 10));

        Await.until("the rest", Await.REBALANCE, () -> inbox.distinctBodies().size() == 50);
        assertInOrder(inbox.all());
    }

    private DefaultMQPushConsumer ordered(String group, String topic, Inbox inbox) throws Exception {
        DefaultMQPushConsumer consumer = clients.orderlyConsumer(group, (messages, context) -> {
            inbox.keep(messages);
            return ConsumeOrderlyStatus.SUCCESS;
        });
        consumer.subscribe(topic, "*");
        consumer.start();
        return consumer;
    }

    /** shard-N#0, shard-N#1, ...: messages of ten shards in turn, each shard in one queue. */
    private void sendByShard(String topic, int count, long pauseMs) {
        try {
            for (int number = 0; number < count; number++) {
                String shard = "shard-" + number % 10;
                Message message = Messages.message(topic, shard + "#" + number / 10);
                Clients.sent(clients.producer().send(message, new SelectMessageQueueByHash(), shard));
                Thread.sleep(pauseMs);
            }
        } catch (Exception error) {
            throw new IllegalStateException(error);
        }
    }

    /** Each queue's offsets one after the other; after a change of owner some may come again, but none is skipped. */
    private static void assertInOrder(List<MessageExt> messages) {
        Map<MessageQueue, Long> next = new ConcurrentHashMap<>();
        List<String> seen = new ArrayList<>();
        for (MessageExt message : messages) {
            MessageQueue queue = new MessageQueue(message.getTopic(), message.getBrokerName(), message.getQueueId());
            seen.add(message.getQueueId() + "/" + message.getQueueOffset());
            long due = next.getOrDefault(queue, 0L);
            assertTrue(message.getQueueOffset() <= due, "offset " + due + " was due in " + queue + ": " + seen);
            next.put(queue, message.getQueueOffset() + 1);
        }
    }
}
