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
    private final List<Integer> attempts = new ArrayList<>();

    @Override
    public ConsumeConcurrentlyStatus consumeMessage(List<MessageExt> delivered, ConsumeConcurrentlyContext context) {
        keep(delivered);
        return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
    }

    /** For listeners that answer otherwise. */
    synchronized void keep(List<MessageExt> delivered) {
        for (MessageExt message : delivered) {
            messages.add(message);
            arrivals.add(System.nanoTime());
            attempts.add(message.getReconsumeTimes()); // an orderly client counts on in the same object
        }
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

    /** Milliseconds between the first delivery and the n-th. */
    synchronized long millisUntil(int index) {
        return (arrivals.get(index) - arrivals.get(0)) / 1_000_000;
    }

    /** The reconsumeTimes of each delivery, in order of arrival. */
    synchronized List<Integer> attempts() {
        return new ArrayList<>(attempts);
    }

    /** The bodies as text, in order of arrival. */
    List<String> arrived() {
        return all().stream().map(Messages::text).collect(Collectors.toList());
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
