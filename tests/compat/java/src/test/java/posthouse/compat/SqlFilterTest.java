package posthouse.compat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.MessageSelector;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

class SqlFilterTest {
    private static final int SUBSCRIPTION_PARSE_FAILED = 23;

    @RegisterExtension final Clients clients = new Clients();

    /** Each expression with the bodies that it lets through, of those that `sendSamples` sends. */
    private static final Map<String, List<String>> EXPRESSIONS = expressions();

    @Test
    void aPullWithAnExpressionFindsWhatMatches() throws Exception {
        String topic = clients.topic("sql-pull", 1);
        sendSamples(topic);
        MessageQueue queue = clients.queues(topic).get(0);
        Map<String, List<String>> found = new LinkedHashMap<>();
        // The client asks for nothing by SQL before a heartbeat has told it the broker's version.
        Await.until("a first pull by SQL", Await.SOON,
                () -> clients.reader().pull(queue, MessageSelector.bySql("colour = 'red'"), 0, 32));

        for (String expression : EXPRESSIONS.keySet()) {
            List<String> bodies = new ArrayList<>();
            long offset = 0;
            while (offset < 5) {
                PullResult result = clients.reader().pull(queue, MessageSelector.bySql(expression), offset, 32);
                if (result.getPullStatus() == PullStatus.FOUND) {
                    bodies.addAll(Messages.bodies(result.getMsgFoundList()));
                }
                assertTrue(result.getNextBeginOffset() > offset, expression + " at " + offset + ": " + result);
                offset = result.getNextBeginOffset();
            }
            found.put(expression, bodies);
        }

        assertEquals(EXPRESSIONS, found);
    }

    @Test
    void aPushConsumerGetsWhatMatchesNowAndLater() throws Exception {
        String topic = clients.topic("sql-push", 4);
        sendSamples(topic);
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = clients.pushConsumer(Server.unique("sql-push-group"), inbox);
        consumer.subscribe(topic, MessageSelector.bySql("colour = 'red' AND size BETWEEN 5 AND 15"));
        consumer.start();
        inbox.awaitSize(1, Await.REBALANCE);

        sendSamples(topic);

        inbox.awaitExactly(2);
        assertEquals(List.of("red-10", "red-10"), inbox.bodies());
    }

    /** What waits at the broker for a match is not woken by what does not match, and soon by what does. */
    @Test
    void aWaitingConsumerIsWokenByAMatch() throws Exception {
        String topic = clients.topic("sql-waiting", 1);
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = clients.pushConsumer(Server.unique("sql-waiting-group"), inbox);
        consumer.subscribe(topic, MessageSelector.bySql("colour = 'blue'"));
        consumer.start();
        sendSamples(topic);
        inbox.awaitSize(1, Await.REBALANCE);
        Thread.sleep(300);

        clients.send(sample(topic, "red-1", "red", 1));
        long sent = System.nanoTime();
        clients.send(sample(topic, "blue-2", "blue", 2));

        inbox.awaitExactly(2);
        assertEquals(List.of("blue-10", "blue-2"), inbox.bodies());
        long tookMs = (inbox.arrivedAt(1) - sent) / 1_000_000;
        assertTrue(tookMs < 2_000, tookMs + " ms");
    }

    @Test
    void tagsCanBeAskedForInAnExpression() throws Exception {
        String topic = clients.topic("sql-tags", 1);
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = clients.pushConsumer(Server.unique("sql-tags-group"), inbox);
        consumer.subscribe(topic, MessageSelector.bySql("TAGS IS NOT NULL AND TAGS IN ('TagA', 'TagC')"));
        consumer.start();

        clients.send(Messages.message(topic, "TagA", "a"));
        clients.send(Messages.message(topic, "TagB", "b"));
        clients.send(Messages.message(topic, "TagC", "c"));
        clients.send(Messages.message(topic, "none"));

        inbox.awaitExactly(2);
        assertEquals(List.of("a", "c"), inbox.bodies());
    }

    @Test
    void anExpressionThatCannotBeReadStopsTheConsumersStart() throws Exception {
        String topic = clients.topic("sql-bad", 1);
        for (String expression : List.of("colour = ", "size > 'text'", "(colour = 'red'")) {
            DefaultMQPushConsumer consumer = clients.pushConsumer(Server.unique("sql-bad-group"), new Inbox());
            consumer.subscribe(topic, MessageSelector.bySql(expression));

            MQClientException refused = assertThrows(MQClientException.class, consumer::start, expression);

            assertEquals(SUBSCRIPTION_PARSE_FAILED, refused.getResponseCode(), refused.toString());
        }
    }

    @Test
    void aRetryIsNotFilteredAgain() throws Exception {
        String topic = clients.topic("sql-retry", 1);
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer =
                clients.pushConsumer(Server.unique("sql-retry-group"), (messages, context) -> {
                    inbox.keep(messages);
                    context.setDelayLevelWhenNextConsume(1);
                    return messages.get(0).getReconsumeTimes() == 0
                            ? ConsumeConcurrentlyStatus.RECONSUME_LATER
                            : ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
                });
        consumer.subscribe(topic, MessageSelector.bySql("size > 5"));
        consumer.start();
        Clients.awaitRetryQueue(consumer);

        sendSamples(topic);

        inbox.awaitExactly(4);
        assertEquals(List.of("blue-10", "blue-10", "red-10", "red-10"), inbox.bodies());
    }

    @Test
    void aSelectorByTagIsATagSubscription() throws Exception {
        String topic = clients.topic("by-tag", 1);
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = clients.pushConsumer(Server.unique("by-tag-group"), inbox);
        consumer.subscribe(topic, MessageSelector.byTag(" TagA||  TagB "));
        consumer.start();

        for (String tag : List.of("TagA", "TagB", "TagC")) {
            clients.send(Messages.message(topic, tag, tag));
        }

        inbox.awaitExactly(2);
        assertEquals(List.of("TagA", "TagB"), inbox.bodies());
    }

    private void sendSamples(String topic) throws Exception {
        clients.send(sample(topic, "red-1", "red", 1));
        clients.send(sample(topic, "red-10", "red", 10));
        clients.send(sample(topic, "blue-10", "blue", 10));
        Message odd = Messages.message(topic, "odd");
        odd.putUserProperty("size", "big");
        odd.putUserProperty("ready", "true");
        clients.send(odd);
        clients.send(Messages.message(topic, "bare"));
    }

    private static Message sample(String topic, String body, String colour, int size) {
        Message message = Messages.message(topic, body);
        message.putUserProperty("colour", colour);
        message.putUserProperty("size", Integer.toString(size));
        return message;
    }

    private static Map<String, List<String>> expressions() {
        Map<String, List<String>> table = new LinkedHashMap<>();
        table.put("colour = 'red'", List.of("red-1", "red-10"));
        table.put("colour <> 'red'", List.of("blue-10"));
        table.put("colour IS NULL", List.of("bare", "odd"));
        table.put("colour IS NOT NULL", List.of("blue-10", "red-1", "red-10"));
        table.put("size > 1", List.of("blue-10", "red-10"));
        table.put("size >= 1.0 AND size <= 9.5", List.of("red-1"));
        table.put("size BETWEEN 1 AND 5", List.of("red-1"));
        table.put("size NOT BETWEEN 1 AND 5", List.of("blue-10", "red-10"));
        table.put("colour IN ('red', 'green')", List.of("red-1", "red-10"));
        table.put("colour NOT IN ('red', 'green')", List.of("blue-10"));
        table.put("NOT (colour = 'red')", List.of("blue-10"));
        table.put("colour = 'blue' OR size = 1", List.of("blue-10", "red-1"));
        table.put("colour = 'blue' OR colour = 'red' AND size = 1", List.of("blue-10", "red-1"));
        table.put("ready = TRUE", List.of("odd"));
        table.put("ready = TRUE OR size < 5", List.of("odd", "red-1"));
        table.put("colour = 'RED'", List.of());
        table.put("Colour = 'red'", List.of());
        return table;
    }
}
