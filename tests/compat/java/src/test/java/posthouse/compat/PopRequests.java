package posthouse.compat;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.AckCallback;
import org.apache.rocketmq.client.consumer.AckResult;
import org.apache.rocketmq.client.consumer.AckStatus;
import org.apache.rocketmq.client.consumer.PopCallback;
import org.apache.rocketmq.client.consumer.PopResult;
import org.apache.rocketmq.client.consumer.PopStatus;
import org.apache.rocketmq.client.impl.MQClientAPIImpl;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageRequestMode;
import org.apache.rocketmq.remoting.protocol.header.AckMessageRequestHeader;
import org.apache.rocketmq.remoting.protocol.header.ChangeInvisibleTimeRequestHeader;
import org.apache.rocketmq.remoting.protocol.header.ExtraInfoUtil;
import org.apache.rocketmq.remoting.protocol.header.PopMessageRequestHeader;
import org.apache.rocketmq.remoting.protocol.subscription.SubscriptionGroupConfig;

/**
 * Pops, acknowledgements and changes of the invisible time of one group on one topic: the requests themselves, by the
 * client's own code for them, but without its loops. Of 5.x, like {@link PopTest}.
 */
final class PopRequests {
    private static final int ANY_QUEUE = -1;
    private static final int FROM_THE_BEGINNING = 0;
    private static final long TIMEOUT_MS = 20_000;

    /** Apache looks for what has become visible again each second or two, and waits for late acknowledgements. */
    private static final Duration BACK = Duration.ofSeconds(30);

    private final String topic;
    private final String group;
    private final String broker;
    private final String brokerName;
    private final MQClientAPIImpl requests;
    private boolean ordered;

    PopRequests(Clients clients, String topic, String group) throws Exception {
        this.topic = topic;
        this.group = group;
        this.broker = clients.brokerAddress();
        this.brokerName = clients.queues(topic).get(0).getBrokerName();
        this.requests = clients.reader()
                .getDefaultMQPullConsumerImpl()
                .getRebalanceImpl()
                .getmQClientFactory()
                .getMQClientAPIImpl();
    }

    /** A new group in pop mode for the topic; with `shares` above 0 a member pops from that many others' queues too. */
    static String group(Clients clients, String topic, int shares) throws Exception {
        String group = Server.unique("pop-group");
        SubscriptionGroupConfig config = new SubscriptionGroupConfig();
        config.setGroupName(group);
        clients.admin().createAndUpdateSubscriptionGroupConfig(clients.brokerAddress(), config);
        clients.admin()
                .setMessageRequestMode(clients.brokerAddress(), topic, group, MessageRequestMode.POP, shares, 5_000);
        return group;
    }

    /** From now on each pop asks for the order of each queue. */
    PopRequests inOrder() {
        ordered = true;
        return this;
    }

    CompletableFuture<PopResult> ask(int count, long invisibleMs, long pollMs, String expression, String attempt)
            throws Exception {
        PopMessageRequestHeader header = new PopMessageRequestHeader();
        header.setConsumerGroup(group);
        header.setTopic(topic);
        header.setQueueId(ANY_QUEUE);
        header.setMaxMsgNums(count);
        header.setInvisibleTime(invisibleMs);
        header.setPollTime(pollMs);
        header.setBornTime(System.currentTimeMillis());
        header.setInitMode(FROM_THE_BEGINNING);
        header.setExpType("TAG");
        header.setExp(expression);
        header.setOrder(ordered);
        header.setAttemptId(attempt);
        CompletableFuture<PopResult> answer = new CompletableFuture<>();
        requests.popMessageAsync(brokerName, broker, header, TIMEOUT_MS, new PopCallback() {
            @Override
            public void onSuccess(PopResult result) {
                answer.complete(result);
            }

            @Override
            public void onException(Throwable error) {
                answer.completeExceptionally(error);
            }
        });
        return answer;
    }

    /** What can be had now. */
    List<MessageExt> pop(int count, long invisibleMs) throws Exception {
        return pop(count, invisibleMs, null);
    }

    /** The same for one attempt of a client, which may ask again when it did not get the answer. */
    List<MessageExt> pop(int count, long invisibleMs, String attempt) throws Exception {
        PopResult result = ask(count, invisibleMs, 0, "*", attempt).get(TIMEOUT_MS, TimeUnit.MILLISECONDS);
        return result.getPopStatus() == PopStatus.FOUND ? result.getMsgFoundList() : List.of();
    }

    /** Pops until there are as many, in order of their bodies. */
    List<MessageExt> await(int count, long invisibleMs) throws Exception {
        Map<String, MessageExt> found = new ConcurrentHashMap<>();
        Await.until(count + " popped", BACK, () -> {
            pop(32, invisibleMs).forEach(message -> found.put(Messages.text(message), message));
            return found.size() >= count;
        });
        List<MessageExt> messages = new ArrayList<>(found.values());
        messages.sort(Comparator.comparing(Messages::text));
        return messages;
    }

    void ack(MessageExt message) throws Exception {
        assertEquals(AckStatus.OK, ack(message, message.getProperty(MessageConst.PROPERTY_POP_CK)).getStatus());
    }

    AckResult ack(MessageExt message, String receipt) throws Exception {
        String[] parts = ExtraInfoUtil.split(receipt);
        AckMessageRequestHeader header = new AckMessageRequestHeader();
        header.setConsumerGroup(group);
        header.setTopic(ExtraInfoUtil.getRealTopic(parts, message.getTopic(), group));
        header.setQueueId(ExtraInfoUtil.getQueueId(parts));
        header.setOffset(ExtraInfoUtil.getQueueOffset(parts));
        header.setExtraInfo(receipt);
        return answered(callback -> requests.ackMessageAsync(broker, TIMEOUT_MS, callback, header));
    }

    void ackAll(List<MessageExt> messages) throws Exception {
        List<String> receipts = new ArrayList<>();
        messages.forEach(message -> receipts.add(message.getProperty(MessageConst.PROPERTY_POP_CK)));
        AckResult result = answered(
                callback -> requests.batchAckMessageAsync(broker, TIMEOUT_MS, callback, topic, group, receipts));
        assertEquals(AckStatus.OK, result.getStatus());
    }

    AckResult change(MessageExt message, long invisibleMs) throws Exception {
        String receipt = message.getProperty(MessageConst.PROPERTY_POP_CK);
        String[] parts = ExtraInfoUtil.split(receipt);
        ChangeInvisibleTimeRequestHeader header = new ChangeInvisibleTimeRequestHeader();
        header.setConsumerGroup(group);
        header.setTopic(ExtraInfoUtil.getRealTopic(parts, message.getTopic(), group));
        header.setQueueId(ExtraInfoUtil.getQueueId(parts));
        header.setOffset(ExtraInfoUtil.getQueueOffset(parts));
        header.setExtraInfo(receipt);
        header.setInvisibleTime(invisibleMs);
        return answered(callback ->
                requests.changeInvisibleTimeAsync(brokerName, broker, header, TIMEOUT_MS, callback));
    }

    private AckResult answered(Request request) throws Exception {
        CompletableFuture<AckResult> answer = new CompletableFuture<>();
        request.send(new AckCallback() {
            @Override
            public void onSuccess(AckResult result) {
                answer.complete(result);
            }

            @Override
            public void onException(Throwable error) {
                answer.completeExceptionally(error);
            }
        });
        return answer.get(TIMEOUT_MS, TimeUnit.MILLISECONDS);
    }

    private interface Request {
        void send(AckCallback callback) throws Exception;
    }
}
