package posthouse.compat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

class PushConsumerTest {
    @RegisterExtension final Clients clients = new Clients();

    @Test
    void oneConsumerGetsEverythingExactlyOnceAndInOrderOfOffsets() throws Exception {
        String topic = clients.topic("push", 4);
        List<String> early = Messages.numbered("early", 100);
        List<String> late = Messages.numbered("late", 100);
        clients.send(topic, early);
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = clients.pushConsumer(Server.unique("push-group"), inbox);
        consumer.setConsumeThreadMin(1);
        consumer.setConsumeThreadMax(1); // with more threads a concurrent consumer mixes the order itself
        consumer.subscribe(topic, "*");
        consumer.start();

        clients.send(topic, late);

        inbox.awaitExactly(200);
        List<String> all = new ArrayList<>(early);
        all.addAll(late);
        assertEquals(all, inbox.bodies());
        TreeMap<Integer, Long> next = new TreeMap<>();
        for (MessageExt message : inbox.all()) {
            assertEquals(next.getOrDefault(message.getQueueId(), 0L), message.getQueueOffset());
            next.put(message.getQueueId(), message.getQueueOffset() + 1);
        }
        assertEquals(4, next.size());
    }

    @Test
    void aConsumerCanSubscribeToTwoTopics() throws Exception {
        String left = clients.topic("left", 2);
        String right = clients.topic("right", 2);
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = clients.pushConsumer(Server.unique("both-group"), inbox);
        consumer.subscribe(left, "*");
        consumer.subscribe(right, "*");
        consumer.start();

        clients.send(left, Messages.numbered("left", 10));
        clients.send(right, Messages.numbered("right", 10));

        inbox.awaitExactly(20);
        for (MessageExt message : inbox.all()) {
            assertEquals(Messages.text(message).startsWith("left") ? left : right, message.getTopic());
        }
    }

    @Test
    void aSecondGroupGetsEverythingAsWell() throws Exception {
        String topic = clients.topic("two-groups", 4);
        Inbox one = new Inbox();
        Inbox two = new Inbox();
        clients.consuming(Server.unique("group-one"), topic, one);
        clients.consuming(Server.unique("group-two"), topic, two);

        List<String> bodies = Messages.numbered("n", 60);
        clients.send(topic, bodies);

        one.awaitExactly(60);
        two.awaitExactly(60);
        assertEquals(bodies, one.bodies());
        assertEquals(bodies, two.bodies());
    }

    @Test
    void twoConsumersShareTheQueuesAndOneTakesOverWhenTheOtherLeaves() throws Exception {
        String topic = clients.topic("shared", 4);
        String group = Server.unique("shared-group");
        Inbox stays = new Inbox();
        Inbox leaves = new Inbox();
        DefaultMQPushConsumer staying = clients.consuming(group, topic, stays);
        DefaultMQPushConsumer leaving = clients.consuming(group, topic, leaves);
        Await.until("two queues for each consumer", Await.REBALANCE,
                () -> Clients.owned(staying, topic).size() == 2 && Clients.owned(leaving, topic).size() == 2);
        Set<MessageQueue> both = new TreeSet<>(Clients.owned(staying, topic));
        both.addAll(Clients.owned(leaving, topic));
        assertEquals(4, both.size(), "each queue has one owner");

        List<String> shared = Messages.numbered("shared", 80);
        clients.send(topic, shared);
        Await.until("the shared 80", Await.REBALANCE, () -> union(stays, leaves).containsAll(shared));

        assertEquals(2, stays.queueIds().size());
        assertEquals(2, leaves.queueIds().size());
        assertEquals(new TreeSet<>(shared), union(stays, leaves));
        int before = stays.size();
        int left = leaves.size();

        leaving.shutdown();
        List<String> after = Messages.numbered("after", 80);
        clients.send(topic, after);
        Await.until("all 80 that were sent after one has left", Await.REBALANCE,
                () -> stays.distinctBodies().containsAll(after));

        assertEquals(4, Clients.owned(staying, topic).size());
        assertEquals(left, leaves.size());
        assertTrue(stays.size() >= before + 80);
        assertEquals(0, stays.bodies().stream().filter(body -> !after.contains(body)).count() - before,
                "what the other one had finished is not delivered again");
    }

    @Test
    void aThirdConsumerGetsItsPart() throws Exception {
        String topic = clients.topic("three", 6);
        String group = Server.unique("three-group");
        List<Inbox> inboxes = List.of(new Inbox(), new Inbox(), new Inbox());
        List<DefaultMQPushConsumer> consumers = new ArrayList<>();
        for (Inbox inbox : inboxes) {
            consumers.add(clients.consuming(group, topic, inbox));
        }
        for (DefaultMQPushConsumer consumer : consumers) {
            Await.until("two of six queues", Await.REBALANCE, () -> Clients.owned(consumer, topic).size() == 2);
        }

        List<String> bodies = Messages.numbered("n", 60);
        clients.send(topic, bodies);

        for (Inbox inbox : inboxes) {
            inbox.awaitExactly(20);
        }
        List<String> received = new ArrayList<>();
        inboxes.forEach(inbox -> received.addAll(inbox.bodies()));
        received.sort(null);
        assertEquals(bodies, received);
    }

    private static TreeSet<String> union(Inbox one, Inbox two) {
        TreeSet<String> union = one.distinctBodies();
        union.addAll(two.distinctBodies());
        return union;
    }
}
