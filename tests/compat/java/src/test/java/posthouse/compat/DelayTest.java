package posthouse.compat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageExt;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

class DelayTest {
    /** Properties, so that the client of 4.9, which has no methods for them, sends them as well. */
    private static final String IN_MILLISECONDS = "TIMER_DELAY_MS";

    private static final String IN_SECONDS = "TIMER_DELAY_SEC";
    private static final String AT = "TIMER_DELIVER_MS";

    private static final long LATE_MS = 5_000;

    /** Apache rounds the time of a timer down to a whole second. */
    private static final long EARLY_TIMER_MS = 1_000;

    @RegisterExtension final Clients clients = new Clients();

    @Test
    void aDelayLevelHoldsAMessageBack() throws Exception {
        String topic = clients.topic("levels", 2);
        Inbox inbox = new Inbox();
        clients.consuming(Server.unique("levels-group"), topic, inbox);
        clients.send(topic, List.of("the consumer is ready"));
        inbox.awaitSize(1, Await.REBALANCE);
        Map<String, Integer> levels = Map.of("now", 0, "after 1 s", 1, "after 5 s", 2);
        Map<String, Long> sent = new TreeMap<>();

        for (String body : List.of("after 5 s", "after 1 s", "now")) {
            Message message = Messages.message(topic, "TagL", body);
            if (levels.get(body) > 0) {
                message.setDelayTimeLevel(levels.get(body));
            }
            message.setKeys("key-l");
            sent.put(body, System.nanoTime());
            clients.send(message);
        }

        inbox.awaitExactly(4);
        assertEquals(List.of("now", "after 1 s", "after 5 s"), inbox.arrived().subList(1, 4));
        assertHeld(inbox, 2, sent, 1_000, 0);
        assertHeld(inbox, 3, sent, 5_000, 0);
        for (MessageExt message : inbox.all().subList(1, 4)) {
            assertEquals(topic, message.getTopic());
            assertEquals("TagL", message.getTags());
            assertEquals("key-l", message.getKeys());
            assertEquals(0, message.getReconsumeTimes());
        }
    }

    @Test
    void aMessageCanBeDueAtAnyTime() throws Exception {
        String topic = clients.topic("timers", 2);
        Inbox inbox = new Inbox();
        clients.consuming(Server.unique("timers-group"), topic, inbox);
        clients.send(topic, List.of("the consumer is ready"));
        inbox.awaitSize(1, Await.REBALANCE);
        Map<String, Long> sent = new TreeMap<>();
        sendTimed(topic, "in 6 s", IN_SECONDS, 6, sent);
        sendTimed(topic, "in 4 s", AT, System.currentTimeMillis() + 4_000, sent);
        sendTimed(topic, "in 2 s", IN_MILLISECONDS, 2_000, sent);

        inbox.awaitExactly(4);

        assertEquals(List.of("in 2 s", "in 4 s", "in 6 s"), inbox.arrived().subList(1, 4));
        assertHeld(inbox, 1, sent, 2_000, EARLY_TIMER_MS);
        assertHeld(inbox, 2, sent, 4_000, EARLY_TIMER_MS);
        assertHeld(inbox, 3, sent, 6_000, EARLY_TIMER_MS);
    }

    @Test
    void whatIsDueAlreadyComesAtOnce() throws Exception {
        String topic = clients.topic("timer-past", 1);
        Map<String, Long> sent = new TreeMap<>();

        sendTimed(topic, "yesterday", AT, System.currentTimeMillis() - 86_400_000, sent);

        assertEquals(List.of("yesterday"), Messages.bodies(clients.readAll(topic, 1)));
    }

    private void sendTimed(String topic, String body, String property, long value, Map<String, Long> sent)
            throws Exception {
        Message message = Messages.message(topic, body);
        MessageAccessor.putProperty(message, property, Long.toString(value));
        sent.put(body, System.nanoTime());
        clients.send(message);
    }

    private static void assertHeld(Inbox inbox, int index, Map<String, Long> sent, long delayMs, long earlyMs) {
        String body = inbox.arrived().get(index);
        long heldMs = (inbox.arrivedAt(index) - sent.get(body)) / 1_000_000;
        assertTrue(heldMs >= delayMs - earlyMs - 10, body + ": " + heldMs + " ms, that is early");
        assertTrue(heldMs < delayMs + LATE_MS, body + ": " + heldMs + " ms");
    }
}
