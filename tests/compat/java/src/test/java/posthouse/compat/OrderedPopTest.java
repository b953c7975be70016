package posthouse.compat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.PopResult;
import org.apache.rocketmq.client.consumer.PopStatus;
import org.apache.rocketmq.common.message.MessageExt;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

/** Pops that keep the order of a queue, as the proxies of 5.x ask for them. */
class OrderedPopTest {
    @RegisterExtension final Clients clients = new Clients();

    @Test
    void aQueueGivesNothingMoreUntilAllOfThePopBeforeIsAcknowledged() throws Exception {
        PopRequests pops = filled("pop-blocked", 6);

        List<MessageExt> first = pops.pop(2, 20_000);
        assertEquals(List.of("n-000", "n-001"), Messages.bodies(first));
        assertEquals(List.of(), pops.pop(2, 20_000));
        pops.ack(first.get(0));
        assertEquals(List.of(), pops.pop(2, 20_000));
        pops.ack(first.get(1));

        assertEquals(List.of("n-002", "n-003"), Messages.bodies(pops.pop(2, 20_000)));
    }

    @Test
    void afterTheirTimeTheSameMessagesComeAgainInOrder() throws Exception {
        PopRequests pops = filled("pop-again", 4);

        List<MessageExt> first = pops.pop(2, 2_000);
        List<MessageExt> again = pops.await(4, 20_000);

        assertEquals(List.of("n-000", "n-001"), Messages.bodies(first));
        assertEquals(Messages.numbered("n", 4), Messages.bodies(again));
        assertEquals(List.of(0, 0), attempts(first));
        assertEquals(List.of(1, 1, 0, 0), attempts(again));
        again.forEach(message -> assertEquals(first.get(0).getTopic(), message.getTopic()));
        for (MessageExt message : again) {
            pops.ack(message);
        }
        assertEquals(List.of(), pops.pop(8, 20_000));
    }

    @Test
    void whatIsAcknowledgedOutOfTurnDoesNotComeAgain() throws Exception {
        PopRequests pops = filled("pop-out-of-turn", 3);

        List<MessageExt> first = pops.pop(3, 2_000);
        pops.ack(first.get(1));

        List<String> again = new ArrayList<>();
        for (int number = 0; number < 2; number++) {
            List<MessageExt> next = pops.await(1, 20_000);
            again.addAll(Messages.bodies(next));
            for (MessageExt message : next) {
                pops.ack(message);
            }
            if (again.size() >= 2) {
                break;
            }
        }
        assertTrue(again.containsAll(List.of("n-000", "n-002")), again.toString());
    }

    @Test
    void theSameAttemptGetsTheSameMessagesAtOnce() throws Exception {
        PopRequests pops = filled("pop-attempt", 4);

        List<MessageExt> first = pops.pop(2, 20_000, "attempt-one");

        assertEquals(Messages.bodies(first), Messages.bodies(pops.pop(2, 20_000, "attempt-one")));
        assertEquals(List.of(), pops.pop(2, 20_000, "attempt-two"));
    }

    @Test
    void aWaitingPopGetsTheNextOnesWhenTheQueueIsFree() throws Exception {
        PopRequests pops = filled("pop-freed", 4);
        List<MessageExt> first = pops.pop(2, 30_000);
        var waiting = pops.ask(2, 30_000, 15_000, "*", "waiting");
        Thread.sleep(500);
        assertTrue(!waiting.isDone());

        pops.ack(first.get(0));
        pops.ack(first.get(1));

        long acknowledged = System.nanoTime();
        PopResult result = waiting.get(20, TimeUnit.SECONDS);
        assertEquals(PopStatus.FOUND, result.getPopStatus());
        assertEquals(List.of("n-002", "n-003"), Messages.bodies(result.getMsgFoundList()));
        assertTrue((System.nanoTime() - acknowledged) / 1_000_000 < 3_000);
    }

    @Test
    void eachQueueIsBlockedByItsOwnMessagesOnly() throws Exception {
        String topic = clients.topic("pop-queues", 2);
        PopRequests pops = new PopRequests(clients, topic, PopRequests.group(clients, topic, 0)).inOrder();
        clients.send(topic, Messages.numbered("n", 4));

        List<MessageExt> popped = new ArrayList<>(pops.pop(1, 20_000));
        popped.addAll(pops.pop(1, 20_000));

        assertEquals(2, popped.size());
        assertEquals(2, popped.stream().map(MessageExt::getQueueId).distinct().count());
        assertEquals(List.of(), pops.pop(1, 20_000));
    }

    private static List<Integer> attempts(List<MessageExt> messages) {
        return messages.stream().map(MessageExt::getReconsumeTimes).collect(Collectors.toList());
    }

    /** One queue with numbered messages, and an ordered group that has popped nothing yet. */
    private PopRequests filled(String purpose, int count) throws Exception {
        String topic = clients.topic(purpose, 1);
        PopRequests pops = new PopRequests(clients, topic, PopRequests.group(clients, topic, 0)).inOrder();
        clients.send(topic, Messages.numbered("n", count));
        return pops;
    }
}
