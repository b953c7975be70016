// What tests/golden/record.py lets the official Java client do, so that its frames can be recorded.
// Runs from source with both client lines: java -cp <client and tools> Exercise.java 127.0.0.1:9876

import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

public class Exercise {
    static final String TOPIC = "GoldenTopic";

    public static void main(String[] args) {
        try {
            exercise(args[0]);
            System.exit(0);
        } catch (Exception error) {
            error.printStackTrace();
            System.exit(1); // the client's threads would keep the process
        }
    }

    static void exercise(String nameserver) throws Exception {
        var producer = new DefaultMQProducer("golden_producer");
        producer.setNamesrvAddr(nameserver);
        producer.setClientIP("127.0.0.1");
        producer.setInstanceName("golden");
        producer.start();
        var plain = new Message(TOPIC, "TagA", "key1", "hello".getBytes(StandardCharsets.UTF_8));
        plain.putUserProperty("colour", "grün");
        producer.send(plain);
        var large = new Message(TOPIC, "TagB", "key2", "0123456789".repeat(500).getBytes(StandardCharsets.UTF_8));
        producer.send(large);
        producer.send(List.of(
            new Message(TOPIC, "TagA", "b1".getBytes(StandardCharsets.UTF_8)),
            new Message(TOPIC, "TagA", "b2".getBytes(StandardCharsets.UTF_8))));

        var arrived = new CountDownLatch(4);
        var consumer = new DefaultMQPushConsumer("golden_consumer");
        consumer.setNamesrvAddr(nameserver);
        consumer.setClientIP("127.0.0.1");
        consumer.setInstanceName("golden");
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(TOPIC, "TagA || TagB");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(message -> arrived.countDown());
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        if (!arrived.await(60, TimeUnit.SECONDS)) {
            throw new IllegalStateException("still missing: " + arrived.getCount());
        }
        Thread.sleep(16000); // offsets are first sent after ten seconds, then every five

        var admin = new DefaultMQAdminExt();
        admin.setNamesrvAddr(nameserver);
        admin.setInstanceName("golden_admin");
        admin.start();
        var cluster = admin.examineBrokerClusterInfo();
        var broker = cluster.getBrokerAddrTable().values().iterator().next().selectBrokerAddr();
        admin.examineTopicStats(TOPIC);
        admin.examineConsumeStats("golden_consumer");
        admin.examineConsumerConnectionInfo("golden_consumer");
        admin.examineProducerConnectionInfo("golden_producer", TOPIC);
        admin.getAllSubscriptionGroup(broker, 5000);
        admin.getAllTopicConfig(broker, 5000);
        admin.fetchBrokerRuntimeStats(broker);
        admin.getBrokerConfig(broker);
        admin.fetchAllTopicList();
        admin.shutdown();
        consumer.shutdown();
        producer.shutdown();
    }
}
