package posthouse.compat;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.common.message.MessageExt;

/** A push consumer's listener that keeps what it was given, in order of arrival. */
final class Inbox implements MessageListenerConcurrently {
    private final List<MessageExt> messages = new ArrayList<>();
    private final List<Long> arrivals = new ArrayList<>();

    @Override
    public synchronized ConsumeConcurrentlyStatus consumeMessage(
            List<MessageExt> delivered, ConsumeConcurrentlyContext context) {
        for (MessageExt message : delivered) {
            messages.add(message);
            arrivals.add(System.nanoTime());
        }
        return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
    }

    synchronized int size() {
        return messages.size();
    }

    synchronized List<MessageExt> all() {
        return new ArrayList<>(messages);
    }

    /** System.nanoTime() of the n-th delivery. */
    synchronized long arrivedAt(int index) {
        return arrivals.get(index);
    }

    /** The bodies as text, sorted, with repetitions. */
    List<String> bodies() {
        return all().stream().map(Messages::text).sorted().collect(Collectors.toList());
    }

    /** The distinct bodies as text. */
    TreeSet<String> distinctBodies() {
        return new TreeSet<>(bodies());
    }

    TreeSet<Integer> queueIds() {
        return all().stream().map(MessageExt::getQueueId).collect(Collectors.toCollection(TreeSet::new));
    }

    void awaitSize(int size, Duration limit) throws InterruptedException {
        Await.until(size + " messages (" + this + ")", limit, () -> size() >= size);
    }

    /** Waits for `size` messages, then makes sure that no more come. */
    void awaitExactly(int size) throws InterruptedException {
        awaitSize(size, Await.REBALANCE);
        Thread.sleep(Await.QUIET.toMillis());
        if (size() != size) {
            throw new AssertionError("expected " + size + " messages, got " + size() + ": " + bodies());
        }
    }

    @Override
    public String toString() {
        return "inbox with " + size();
    }
}
