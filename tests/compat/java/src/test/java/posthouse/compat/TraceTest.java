package posthouse.compat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Set;
import java.util.TreeMap;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.trace.TraceView;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

class TraceTest {
    private static final String TRACES = "RMQ_SYS_TRACE_TOPIC";

    @RegisterExtension final Clients clients = new Clients();

    /**
     * All tracing clients of a process share one client instance beneath them, which ends with the last of them. One
     * that starts at that moment gets the instance that is ending and its traces are lost: so one stays to the end.
     */
    @BeforeAll
    static void keepTheSharedInstanceAlive() throws Exception {
        DefaultMQProducer keeper = new DefaultMQProducer(Server.unique("trace-keeper"), true, null);
        keeper.setNamesrvAddr(Server.NAMESERVER);
        keeper.setInstanceName(Server.unique("trace-keeper"));
        keeper.start();
    }

    @Test
    void aMessagesTraceIsFoundByItsIdAndTellsWhoSentAndWhoReceivedIt() throws Exception {
        String topic = clients.topic("traced", 1);
        String producers = Server.unique("traced-producers");
        String group = Server.unique("traced-group");
        Inbox inbox = new Inbox();
        tracedConsumer(group, topic, inbox);
        DefaultMQProducer producer = clients.started(new DefaultMQProducer(producers, true, null));
        Message message = Messages.message(topic, "TagT", "look at me");
        String key = Server.unique("traced-key");
        message.setKeys(key);

        SendResult sent = Clients.sent(producer.send(message));

        inbox.awaitSize(1, Await.REBALANCE);
        Await.until("both ends", Await.REBALANCE,
                () -> traces(sent.getMsgId()).keySet().containsAll(Set.of("Pub", "SubAfter")));
        TreeMap<String, TraceView> views = traces(sent.getMsgId());
        TraceView published = views.get("Pub");
        assertEquals(topic, published.getTopic());
        assertEquals(producers, published.getGroupName());
        assertEquals("TagT", published.getTags());
        assertEquals(key, published.getKeys());
        assertEquals(sent.getOffsetMsgId(), published.getOffSetMsgId());
        assertEquals("success", published.getStatus());
        assertEquals(group, views.get("SubAfter").getGroupName());
        assertEquals("success", views.get("SubAfter").getStatus());
        assertTrue(clients.admin().queryMessage(TRACES, key, 64, 0, Long.MAX_VALUE).getMessageList().size() >= 2,
                "the message's own keys find its traces too");
    }

    @Test
    void aFailedAttemptIsInTheTrace() throws Exception {
        String topic = clients.topic("traced-failing", 1);
        String group = Server.unique("traced-failing-group");
        DefaultMQPushConsumer consumer = tracedConsumer(group, topic, (messages, context) -> {
            context.setDelayLevelWhenNextConsume(1);
            return messages.get(0).getReconsumeTimes() == 0
                    ? ConsumeConcurrentlyStatus.RECONSUME_LATER
                    : ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });

        Clients.awaitRetryQueue(consumer);

        SendResult sent = clients.send(Messages.message(topic, "look at me"));

        Await.until("a failure", Await.REBALANCE, () -> traces(sent.getMsgId()).values().stream()
                .anyMatch(view -> view.getMsgType().equals("SubAfter") && view.getStatus().equals("failed")));
        Await.until("a success", Await.REBALANCE, () -> traces(sent.getMsgId()).values().stream()
                .anyMatch(view -> view.getMsgType().equals("SubAfter") && view.getStatus().equals("success")));
    }

    @Test
    void tracesCanGoToATopicOfOnesOwn() throws Exception {
        String traces = clients.topic("own-traces", 1);
        String topic = clients.topic("own-traced", 1);
        DefaultMQProducer producer =
                clients.started(new DefaultMQProducer(Server.unique("own-traced-producers"), true, traces));

        SendResult sent = Clients.sent(producer.send(Messages.message(topic, "look at me")));

        List<MessageExt> stored = clients.readAll(traces, 1);
        assertEquals(1, TraceView.decodeFromTraceTransData(sent.getMsgId(), stored.get(0)).size());
    }

    private DefaultMQPushConsumer tracedConsumer(String group, String topic, MessageListenerConcurrently listener)
            throws Exception {
        DefaultMQPushConsumer consumer = clients.prepared(new DefaultMQPushConsumer(group, true, null));
        consumer.registerMessageListener(listener);
        consumer.subscribe(topic, "*");
        consumer.start();
        return consumer;
    }

    /** What the trace topic tells of a message: by kind, and a second one of a kind by kind and number. */
    private TreeMap<String, TraceView> traces(String id) throws Exception {
        TreeMap<String, TraceView> views = new TreeMap<>();
        for (MessageExt trace :
                clients.admin().queryMessage(TRACES, id, 64, 0, Long.MAX_VALUE).getMessageList()) {
            for (TraceView view : TraceView.decodeFromTraceTransData(id, trace)) {
                String kind = view.getMsgType();
                views.put(views.containsKey(kind) ? kind + views.size() : kind, view);
            }
        }
        return views;
    }
}
