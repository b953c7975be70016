package posthouse.compat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

class OffsetResetTest {
    /** Until a client has asked again (it waits 15 s at the broker), been told, and begun anew (4.9: 10 s later). */
    private static final Duration TAKEN_UP = Duration.ofSeconds(60);

    private static final long TO_THE_END = -1;

    @RegisterExtension final Clients clients = new Clients();

    @Test
    void anOnLineGroupGoesBackInTime() throws Exception {
        String topic = clients.topic("back-on-line", 2);
        String group = Server.unique("back-on-line-group");
        clients.send(topic, Messages.numbered("early", 10));
        long between = pause();
        List<String> late = Messages.numbered("late", 10);
        clients.send(topic, late);
        Inbox inbox = new Inbox();
        clients.consuming(group, topic, inbox);
        inbox.awaitSize(20, Await.REBALANCE);
        awaitCommitted(group, topic, 10);

        Map<MessageQueue, Long> reset = clients.admin().resetOffsetByTimestamp(topic, group, between, true);

        assertEquals(Map.of(clients.queues(topic).get(0), 5L, clients.queues(topic).get(1), 5L), reset);
        inbox.awaitSize(30, TAKEN_UP);
        inbox.awaitExactly(30);
        assertEquals(late, inbox.arrived().subList(20, 30).stream().sorted().collect(Collectors.toList()));
    }

    @Test
    void anOffLineGroupGoesBackInTime() throws Exception {
        String topic = clients.topic("back-off-line", 2);
        String group = Server.unique("back-off-line-group");
        clients.send(topic, Messages.numbered("early", 10));
        long between = pause();
        List<String> late = Messages.numbered("late", 10);
        clients.send(topic, late);
        consumeAndLeave(group, topic, 20);

        clients.admin().resetOffsetByTimestamp(topic, group, between, true);

        Inbox again = new Inbox();
        clients.consuming(group, topic, again);
        again.awaitSize(10, TAKEN_UP);
        again.awaitExactly(10);
        assertEquals(late, again.bodies());
    }

    @Test
    void anOffLineGroupGoesToTheBeginning() throws Exception {
        String topic = clients.topic("to-the-beginning", 2);
        String group = Server.unique("to-the-beginning-group");
        List<String> bodies = Messages.numbered("n", 10);
        clients.send(topic, bodies);
        consumeAndLeave(group, topic, 10);

        clients.admin().resetOffsetNew(group, topic, 0);

        Inbox again = new Inbox();
        clients.consuming(group, topic, again);
        again.awaitSize(10, TAKEN_UP);
        assertEquals(bodies, again.bodies());
    }

    @Test
    void aGroupSkipsAllThatWaits() throws Exception {
        String topic = clients.topic("skipped", 2);
        String group = Server.unique("skipped-group");
        clients.send(topic, Messages.numbered("read", 10));
        consumeAndLeave(group, topic, 10);
        clients.send(topic, Messages.numbered("skipped", 50));

        clients.admin().resetOffsetByTimestamp(topic, group, TO_THE_END, true);

        Inbox again = new Inbox();
        DefaultMQPushConsumer consumer = clients.consuming(group, topic, again);
        Await.until("both queues", Await.REBALANCE, () -> Clients.owned(consumer, topic).size() == 2);
        List<String> later = Messages.numbered("later", 10);
        clients.send(topic, later);
        again.awaitSize(10, TAKEN_UP);
        again.awaitExactly(10);
        assertEquals(later, again.bodies());
    }

    /** The way of the tools of old: no request of its own, but statistics, a search by time and a commit per queue. */
    @Test
    void theOldToolsWayWorksForAGroupThatIsOffLine() throws Exception {
        String topic = clients.topic("old-way", 2);
        String group = Server.unique("old-way-group");
        clients.send(topic, Messages.numbered("early", 10));
        long between = pause();
        List<String> late = Messages.numbered("late", 10);
        clients.send(topic, late);
        consumeAndLeave(group, topic, 20);

        var stats = clients.admin().resetOffsetByTimestampOld(group, topic, between, true);

        assertEquals(2, stats.size());
        stats.forEach(each -> assertEquals(List.of(10L, 5L),
                List.of(each.getConsumerOffset(), each.getRollbackOffset())));
        Inbox again = new Inbox();
        clients.consuming(group, topic, again);
        again.awaitSize(10, TAKEN_UP);
        assertEquals(late, again.bodies());
    }

    @Test
    void withoutForceAnOffsetOnlyGoesBack() throws Exception {
        String topic = clients.topic("only-back", 1);
        String group = Server.unique("only-back-group");
        clients.send(topic, Messages.numbered("read", 10));
        consumeAndLeave(group, topic, 10);
        clients.send(topic, Messages.numbered("unread", 10));

        var stats = clients.admin().resetOffsetByTimestampOld(group, topic, System.currentTimeMillis() + 60_000, false);

        assertEquals(1, stats.size());
        assertEquals(10, stats.get(0).getRollbackOffset(), "10 to 20 would be forwards");
        assertEquals(10, committed(group, clients.queues(topic).get(0)));
    }

    @Test
    void offsetsAreClonedFromOneGroupToAnother() throws Exception {
        String topic = clients.topic("cloned", 2);
        String source = Server.unique("source-group");
        String target = Server.unique("target-group");
        clients.send(topic, Messages.numbered("read", 10));
        consumeAndLeave(source, topic, 10);
        consumeAndLeave(target, clients.topic("elsewhere", 1), 0);
        List<String> later = Messages.numbered("later", 10);
        clients.send(topic, later);

        clients.admin().cloneGroupOffset(source, target, topic, true);

        for (MessageQueue queue : clients.queues(topic)) {
            assertEquals(5, committed(target, queue));
        }
        Inbox inbox = new Inbox();
        clients.consuming(target, topic, inbox);
        inbox.awaitExactly(10);
        assertEquals(later, inbox.bodies());
    }

    /** Milliseconds since 1970 that lie well between what was sent before and what is sent after. */
    private static long pause() throws InterruptedException {
        Thread.sleep(300);
        long now = System.currentTimeMillis();
        Thread.sleep(300);
        return now;
    }

    private void consumeAndLeave(String group, String topic, int count) throws Exception {
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = clients.consuming(group, topic, inbox);
        DefaultMQAdminExt admin = clients.admin();
        Await.until("the group known", Await.SOON,
                () -> !admin.examineConsumerConnectionInfo(group).getConnectionSet().isEmpty());
        inbox.awaitSize(count, Await.REBALANCE);
        Await.until("the last one finished", Await.SOON, () -> Clients.cached(consumer) == 0);
        consumer.shutdown(); // writes its offsets back
        if (count > 0) {
            int queues = clients.queues(topic).size();
            awaitCommitted(group, topic, count / queues);
        }
        Await.until("the group off line", Await.SOON, () -> isOffLine(group));
    }

    private boolean isOffLine(String group) throws Exception {
        try {
            return clients.admin().examineConsumerConnectionInfo(group).getConnectionSet().isEmpty();
        } catch (MQBrokerException refused) {
            return true; // nobody of the group is there
        }
    }

    private void awaitCommitted(String group, String topic, long offset) throws Exception {
        for (MessageQueue queue : clients.queues(topic)) {
            Await.until("offset " + offset + " of " + queue, Await.SOON, () -> committed(group, queue) == offset);
        }
    }

    private long committed(String group, MessageQueue queue) throws Exception {
        var offsets = clients.admin().examineConsumeStats(group).getOffsetTable();
        assertTrue(offsets.containsKey(queue), "no offset of " + queue + " in " + offsets.keySet());
        return offsets.get(queue).getConsumerOffset();
    }
}
