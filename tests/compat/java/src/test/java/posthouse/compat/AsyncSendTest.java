package posthouse.compat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.MessageExt;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

class AsyncSendTest {
    private static final int COUNT = 200;

    @RegisterExtension final Clients clients = new Clients();

    @Test
    void eachOfTwoHundredSendsIsCalledBackOnce() throws Exception {
        String topic = clients.topic("async", 4);
        List<String> bodies = Messages.numbered("async", COUNT);
        CountDownLatch open = new CountDownLatch(COUNT);
        Queue<SendResult> results = new ConcurrentLinkedQueue<>();
        Queue<Throwable> errors = new ConcurrentLinkedQueue<>();

        for (String body : bodies) {
            clients.producer().send(Messages.message(topic, body), new SendCallback() {
                @Override
                public void onSuccess(SendResult result) {
                    results.add(result);
                    open.countDown();
                }

                @Override
                public void onException(Throwable error) {
                    errors.add(error);
                    open.countDown();
                }
            });
        }

        assertTrue(open.await(30, TimeUnit.SECONDS), "no answer to " + open.getCount() + " sends");
        assertEquals(List.of(), new ArrayList<>(errors));
        assertEquals(COUNT, results.size());
        Map<Integer, TreeSet<Long>> offsets = new TreeMap<>();
        HashSet<String> ids = new HashSet<>();
        for (SendResult result : results) {
            assertEquals(SendStatus.SEND_OK, result.getSendStatus());
            ids.add(result.getMsgId());
            offsets.computeIfAbsent(result.getMessageQueue().getQueueId(), queue -> new TreeSet<>())
                    .add(result.getQueueOffset());
        }
        assertEquals(COUNT, ids.size());
        for (TreeSet<Long> queue : offsets.values()) {
            assertEquals(0, queue.first());
            assertEquals(queue.size() - 1, queue.last());
        }
        assertEquals(bodies, Messages.bodies(clients.readAll(topic, COUNT)));
    }

    @Test
    void aOneWaySendArrivesWithoutAnAnswer() throws Exception {
        String topic = clients.topic("one-way", 4);
        List<String> bodies = Messages.numbered("one-way", 50);

        for (String body : bodies) {
            clients.producer().sendOneway(Messages.message(topic, "Tag", body));
        }

        List<MessageExt> stored = clients.readAll(topic, 50);
        assertEquals(bodies, Messages.bodies(stored));
        assertTrue(stored.stream().allMatch(message -> message.getTags().equals("Tag")));
    }
}
