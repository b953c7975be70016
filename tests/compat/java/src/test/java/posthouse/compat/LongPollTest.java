package posthouse.compat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.common.message.MessageQueue;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

class LongPollTest {
    private static final long WELL_UNDER_A_SECOND_MS = 500;

    @RegisterExtension final Clients clients = new Clients();

    @Test
    void aWaitingPushConsumerGetsANewMessageWellUnderASecond() throws Exception {
        String topic = clients.topic("latency", 1);
        Inbox inbox = new Inbox();
        clients.consuming(Server.unique("latency-group"), topic, inbox);
        clients.send(topic, List.of("first"));
        inbox.awaitSize(1, Await.REBALANCE);

        List<Long> latencies = new ArrayList<>();
        for (int round = 1; round <= 7; round++) {
            Thread.sleep(300); // by now its next pull waits at the broker
            long sent = System.nanoTime();
            clients.send(topic, List.of("round " + round));
            inbox.awaitSize(round + 1, Await.SOON);
            latencies.add((inbox.arrivedAt(round) - sent) / 1_000_000);
        }

        Collections.sort(latencies);
        assertTrue(latencies.get(3) < WELL_UNDER_A_SECOND_MS, "milliseconds: " + latencies);
        assertTrue(latencies.get(5) < 1000, "milliseconds: " + latencies);
    }

    @Test
    void aBlockingPullReturnsSoonAfterTheMessageWasSent() throws Exception {
        String topic = clients.topic("blocked", 1);
        MessageQueue queue = clients.queues(topic).get(0);
        DefaultMQPullConsumer reader = clients.reader();
        clients.send(topic, List.of("warm"));
        clients.readAll(topic, 1);
        CompletableFuture<PullResult> waiting = CompletableFuture.supplyAsync(() -> {
            try {
                return reader.pullBlockIfNotFound(queue, "*", 1, 32);
            } catch (Exception error) {
                throw new IllegalStateException(error);
            }
        });
        Thread.sleep(1000);
        assertTrue(!waiting.isDone(), "a pull of nothing must wait, not answer");

        long sent = System.nanoTime();
        clients.send(topic, List.of("awaited"));
        PullResult result = waiting.get(15, TimeUnit.SECONDS);

        long tookMs = (System.nanoTime() - sent) / 1_000_000;
        assertEquals(PullStatus.FOUND, result.getPullStatus());
        assertEquals(List.of("awaited"), Messages.bodies(result.getMsgFoundList()));
        assertTrue(tookMs < 1000, tookMs + " ms");
    }

    @Test
    void aPullThatWaitsForOneTagIsNotAnsweredByAnother() throws Exception {
        String topic = clients.topic("waiting-tag", 1);
        Inbox inbox = new Inbox();
        var consumer = clients.pushConsumer(Server.unique("waiting-tag-group"), inbox);
        consumer.subscribe(topic, "Wanted");
        consumer.start();
        clients.send(Messages.message(topic, "Wanted", "one"));
        inbox.awaitSize(1, Await.REBALANCE);

        clients.send(Messages.message(topic, "Other", "two"));
        Thread.sleep(300);
        long sent = System.nanoTime();
        clients.send(Messages.message(topic, "Wanted", "three"));

        inbox.awaitExactly(2);
        assertEquals(List.of("one", "three"), inbox.bodies());
        assertTrue((inbox.arrivedAt(1) - sent) / 1_000_000 < 1000);
    }
}
