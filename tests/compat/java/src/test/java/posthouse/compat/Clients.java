package posthouse.compat;

import io.netty.channel.ChannelFuture;
import java.lang.reflect.Field;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import org.apache.rocketmq.client.ClientConfig;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;
import org.junit.jupiter.api.extension.AfterEachCallback;
import org.junit.jupiter.api.extension.ExtensionContext;

/**
 * The clients of one test: each has a connection of its own, and all are shut down when the test ends.
 *
 * <p>That happens beside the next test, which uses other names: a client now and then needs 3 s for it, because its own
 * event thread sleeps that long.
 */
final class Clients implements AfterEachCallback {
    private static final int SEND_TIMEOUT_MS = 10_000;

    // A heartbeat that meets another one on its way is dropped by the client, and with it the news of a subscription:
    // the consumer is then told that its subscription is not the latest until the next heartbeat, 30 s by default.
    private static final int HEARTBEAT_MS = 5_000;
    private static final ExecutorService CLOSING = Executors.newCachedThreadPool(Clients::daemon);

    private final Deque<Runnable> shutdowns = new ArrayDeque<>();
    private DefaultMQAdminExt admin;
    private DefaultMQPullConsumer reader;
    private DefaultMQProducer producer;

    @Override
    public void afterEach(ExtensionContext context) {
        shutdowns.forEach(CLOSING::execute);
        shutdowns.clear();
    }

    /** The test's own producer, started. */
    DefaultMQProducer producer() throws MQClientException {
        if (producer == null) {
            producer = newProducer();
        }
        return producer;
    }

    /** One more producer, started. */
    DefaultMQProducer newProducer() throws MQClientException {
        return started(new DefaultMQProducer(Server.unique("producers")));
    }

    /** A producer made by the test: connected, started. */
    <T extends DefaultMQProducer> T started(T made) throws MQClientException {
        connected(made);
        made.setSendMsgTimeout(SEND_TIMEOUT_MS);
        shutdowns.push(made::shutdown);
        made.start();
        return made;
    }

    /** A push consumer that reads from the topic's beginning; not yet subscribed, not yet started. */
    DefaultMQPushConsumer pushConsumer(String group, MessageListenerConcurrently listener) {
        DefaultMQPushConsumer made = prepared(new DefaultMQPushConsumer(group));
        made.registerMessageListener(listener);
        return made;
    }

    /** The same for one that keeps the order of each queue. */
    DefaultMQPushConsumer orderlyConsumer(String group, MessageListenerOrderly listener) {
        DefaultMQPushConsumer made = prepared(new DefaultMQPushConsumer(group));
        made.registerMessageListener(listener);
        return made;
    }

    /** A push consumer made by the test: connected, reading from the topic's beginning; without a listener. */
    DefaultMQPushConsumer prepared(DefaultMQPushConsumer made) {
        connected(made);
        made.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        shutdowns.push(made::shutdown); // of no effect when the test has stopped it itself
        return made;
    }

    /** A push consumer of the whole topic, started. */
    DefaultMQPushConsumer consuming(String group, String topic, MessageListenerConcurrently inbox)
            throws MQClientException {
        DefaultMQPushConsumer made = pushConsumer(group, inbox);
        made.subscribe(topic, "*");
        made.start();
        return made;
    }

    /** A lite pull consumer, not yet subscribed, not yet started. */
    DefaultLitePullConsumer litePullConsumer(String group) {
        DefaultLitePullConsumer made = connected(new DefaultLitePullConsumer(group));
        made.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        shutdowns.push(made::shutdown);
        return made;
    }

    /**
     * What happens to a process that is killed: its connections close, and it says nothing more.
     *
     * <p>Apache may handle a heartbeat after the end of its connection, and then counts the client that is gone for two
     * minutes more: so the heartbeats that a change in the group has caused get a second to arrive.
     */
    static void kill(DefaultMQPushConsumer consumer) throws InterruptedException {
        Thread.sleep(1_000);
        consumer.getDefaultMQPushConsumerImpl()
                .getmQClientFactory()
                .getMQClientAPIImpl()
                .getRemotingClient()
                .shutdown();
    }

    /** Closes the consumer's connections beneath it; it makes new ones when it needs them. */
    static void cut(DefaultMQPushConsumer consumer) throws ReflectiveOperationException {
        Object remoting = consumer.getDefaultMQPushConsumerImpl()
                .getmQClientFactory()
                .getMQClientAPIImpl()
                .getRemotingClient();
        Field table = remoting.getClass().getDeclaredField("channelTables");
        table.setAccessible(true);
        for (Object wrapper : List.copyOf(((Map<?, ?>) table.get(remoting)).values())) {
            Field future = wrapper.getClass().getDeclaredField("channelFuture");
            future.setAccessible(true);
            ((ChannelFuture) future.get(wrapper)).channel().close().awaitUninterruptibly();
        }
    }

    /** The queues of the topic that the consumer thinks are its own. */
    static Set<MessageQueue> owned(DefaultMQPushConsumer consumer, String topic) {
        Set<MessageQueue> owned = new TreeSet<>();
        for (MessageQueue queue : consumer.getDefaultMQPushConsumerImpl()
                .getRebalanceImpl()
                .getProcessQueueTable()
                .keySet()) {
            if (queue.getTopic().equals(topic)) {
                owned.add(queue);
            }
        }
        return owned;
    }

    /**
     * Waits until the consumer reads its group's retry topic.
     *
     * <p>It learns by itself too that the topic is there now, but only with its next look at the routes (30 s) and its
     * next sharing of the queues (20 s).
     */
    static void awaitRetryQueue(DefaultMQPushConsumer consumer) throws InterruptedException {
        String topic = "%RETRY%" + consumer.getDefaultMQPushConsumerImpl().groupName();
        Await.until("a queue of " + topic, Await.REBALANCE.multipliedBy(2), () -> {
            if (owned(consumer, topic).isEmpty()) {
                var client = consumer.getDefaultMQPushConsumerImpl().getmQClientFactory();
                client.updateTopicRouteInfoFromNameServer(topic);
                client.rebalanceImmediately();
                Thread.sleep(200);
            }
            return !owned(consumer, topic).isEmpty();
        });
    }

    /** How many messages the consumer has got and not finished. */
    static long cached(DefaultMQPushConsumer consumer) {
        return consumer.getDefaultMQPushConsumerImpl().getRebalanceImpl().getProcessQueueTable().values().stream()
                .mapToLong(queue -> queue.getMsgCount().get())
                .sum();
    }

    /** A pull consumer, started. */
    DefaultMQPullConsumer pullConsumer(String group) throws MQClientException {
        DefaultMQPullConsumer made = connected(new DefaultMQPullConsumer(group));
        shutdowns.push(made::shutdown);
        made.start();
        return made;
    }

    /** The test's own admin client, started. */
    DefaultMQAdminExt admin() throws MQClientException {
        if (admin == null) {
            admin = connected(new DefaultMQAdminExt(Server.unique("admin")));
            shutdowns.push(admin::shutdown);
            admin.start();
        }
        return admin;
    }

    /** The address of the cluster's one broker. */
    String brokerAddress() throws Exception {
        var brokers = admin().examineBrokerClusterInfo().getBrokerAddrTable().values();
        if (brokers.size() != 1) {
            throw new AssertionError("the suite is for a cluster of one broker, this one has " + brokers);
        }
        return brokers.iterator().next().selectBrokerAddr();
    }

    /** A new topic whose route can be had. */
    String topic(String purpose, int queues) throws Exception {
        String topic = Server.unique(purpose);
        admin().createAndUpdateTopicConfig(brokerAddress(), new TopicConfig(topic, queues, queues, 6));
        awaitRoute(topic);
        return topic;
    }

    void awaitRoute(String topic) throws Exception {
        DefaultMQAdminExt asked = admin();
        Await.until("a route of " + topic, Await.SOON, () -> asked.examineTopicRouteInfo(topic));
    }

    /** Sends one message for each body, one after another. */
    List<SendResult> send(String topic, List<String> bodies) throws Exception {
        List<SendResult> results = new ArrayList<>();
        for (String body : bodies) {
            results.add(sent(producer().send(Messages.message(topic, body))));
        }
        return results;
    }

    SendResult send(Message message) throws Exception {
        return sent(producer().send(message));
    }

    static SendResult sent(SendResult result) {
        if (result.getSendStatus() != SendStatus.SEND_OK) {
            throw new AssertionError("not SEND_OK: " + result);
        }
        return result;
    }

    /** The test's own pull consumer, started. */
    DefaultMQPullConsumer reader() throws MQClientException {
        if (reader == null) {
            reader = pullConsumer(Server.unique("readers"));
        }
        return reader;
    }

    /** The topic's queues in order of their ids. */
    List<MessageQueue> queues(String topic) throws MQClientException {
        Set<MessageQueue> queues = new TreeSet<>(Comparator.comparing(MessageQueue::getQueueId));
        queues.addAll(reader().fetchSubscribeMessageQueues(topic));
        return new ArrayList<>(queues);
    }

    /** All of a topic, queue after queue, once it holds at least `count` messages. */
    List<MessageExt> readAll(String topic, int count) throws Exception {
        Await.until(count + " messages stored in " + topic, Await.SOON, () -> stored(topic) >= count);
        List<MessageExt> found = new ArrayList<>();
        for (MessageQueue queue : queues(topic)) {
            found.addAll(read(queue));
        }
        return found;
    }

    /** All of a queue. */
    List<MessageExt> read(MessageQueue queue) throws Exception {
        List<MessageExt> found = new ArrayList<>();
        long offset = reader().minOffset(queue);
        long end = reader().maxOffset(queue);
        while (offset < end) {
            PullResult result = reader().pull(queue, "*", offset, 32);
            if (result.getPullStatus() != PullStatus.FOUND) {
                throw new AssertionError("at offset " + offset + " below " + end + " of " + queue + ": " + result);
            }
            found.addAll(result.getMsgFoundList());
            offset = result.getNextBeginOffset();
        }
        return found;
    }

    private long stored(String topic) throws Exception {
        long sum = 0;
        for (MessageQueue queue : queues(topic)) {
            sum += reader().maxOffset(queue) - reader().minOffset(queue);
        }
        return sum;
    }

    private static Thread daemon(Runnable work) {
        Thread thread = new Thread(work, "closing");
        thread.setDaemon(true);
        return thread;
    }

    private static <T extends ClientConfig> T connected(T client) {
        client.setNamesrvAddr(Server.NAMESERVER);
        client.setInstanceName(Server.unique("client"));
        client.setHeartbeatBrokerInterval(HEARTBEAT_MS);
        return client;
    }
}
