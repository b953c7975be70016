package posthouse.compat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.AllocateMessageQueueStrategy;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMachineRoomNearby;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueAveragely;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueAveragelyByCircle;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueByConfig;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueConsistentHash;
import org.apache.rocketmq.common.message.MessageQueue;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

class RebalanceTest {
    /** Sooner than the next round of a client (20 s), and much sooner than a silent client is given up (120 s). */
    private static final Duration TOLD_BY_THE_BROKER = Duration.ofSeconds(12);

    @RegisterExtension final Clients clients = new Clients();

    @Test
    void aKilledConsumersQueuesGoToTheOthersAtOnce() throws Exception {
        String topic = clients.topic("killed", 4);
        String group = Server.unique("killed-group");
        Inbox survivor = new Inbox();
        Inbox victim = new Inbox();
        DefaultMQPushConsumer surviving = clients.consuming(group, topic, survivor);
        DefaultMQPushConsumer killed = clients.consuming(group, topic, victim);
        awaitShares(topic, List.of(surviving, killed), 2);

        Clients.kill(killed);

        Await.until("all queues for the one that is left", TOLD_BY_THE_BROKER,
                () -> Clients.owned(surviving, topic).size() == 4);
        List<String> after = Messages.numbered("after", 40);
        clients.send(topic, after);
        Await.until("all that was sent afterwards", Await.REBALANCE,
                () -> survivor.distinctBodies().containsAll(after));
    }

    @Test
    void aConsumerThatJoinsGetsItsShareAtOnce() throws Exception {
        String topic = clients.topic("joined", 4);
        String group = Server.unique("joined-group");
        DefaultMQPushConsumer first = clients.consuming(group, topic, new Inbox());
        awaitShares(topic, List.of(first), 4);

        DefaultMQPushConsumer second = clients.consuming(group, topic, new Inbox());

        Await.until("two queues for each", TOLD_BY_THE_BROKER,
                () -> Clients.owned(first, topic).size() == 2 && Clients.owned(second, topic).size() == 2);
    }

    /** The group changes twice, and the client finds its way back without being started anew. */
    @Test
    void aConsumerWhoseConnectionsBreakComesBack() throws Exception {
        String topic = clients.topic("cut", 4);
        String group = Server.unique("cut-group");
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer staying = clients.consuming(group, topic, inbox);
        DefaultMQPushConsumer broken = clients.consuming(group, topic, inbox);
        awaitShares(topic, List.of(staying, broken), 2);
        List<String> bodies = Messages.numbered("n", 60);
        clients.send(topic, bodies.subList(0, 20));

        Clients.cut(broken);
        clients.send(topic, bodies.subList(20, 40));

        awaitShares(topic, List.of(staying, broken), 2);
        clients.send(topic, bodies.subList(40, 60));
        Await.until("everything", Await.REBALANCE, () -> inbox.distinctBodies().containsAll(bodies));
    }

    @Test
    void nothingIsMissedWhileConsumersComeAndGo() throws Exception {
        String topic = clients.topic("come-and-go", 6);
        String group = Server.unique("come-and-go-group");
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer first = clients.consuming(group, topic, inbox);
        awaitShares(topic, List.of(first), 6);
        List<String> bodies = Messages.numbered("n", 400);
        CompletableFuture<Void> sending = CompletableFuture.runAsync(() -> {
            try {
                for (String body : bodies) {
                    clients.send(topic, List.of(body));
                    Thread.sleep(15);
                }
            } catch (Exception error) {
                throw new IllegalStateException(error);
            }
        });

        DefaultMQPushConsumer second = clients.consuming(group, topic, inbox);
        DefaultMQPushConsumer third = clients.consuming(group, topic, inbox);
        awaitShares(topic, List.of(first, second, third), 2);
        first.shutdown();
        awaitShares(topic, List.of(second, third), 3);
        Clients.kill(second);
        awaitShares(topic, List.of(third), 6);

        sending.get(30, TimeUnit.SECONDS);
        Await.until("everything", Await.REBALANCE, () -> inbox.distinctBodies().containsAll(bodies));
    }

    @Test
    void withMoreConsumersThanQueuesTheOthersWaitForTheirTurn() throws Exception {
        String topic = clients.topic("spare", 2);
        String group = Server.unique("spare-group");
        List<DefaultMQPushConsumer> consumers = new ArrayList<>();
        for (int number = 0; number < 3; number++) {
            consumers.add(clients.consuming(group, topic, new Inbox()));
        }
        Await.until("one queue for two of them, none for the third", Await.REBALANCE, () -> {
            List<Integer> shares = new ArrayList<>();
            consumers.forEach(each -> shares.add(Clients.owned(each, topic).size()));
            shares.sort(null);
            return shares.equals(List.of(0, 1, 1));
        });
        DefaultMQPushConsumer owner = consumers.stream()
                .filter(each -> !Clients.owned(each, topic).isEmpty())
                .findFirst()
                .orElseThrow();

        owner.shutdown();

        consumers.remove(owner);
        awaitShares(topic, consumers, 1);
    }

    @Test
    void aConsumerCanSubscribeToOneTopicMoreAndDropOne() throws Exception {
        String kept = clients.topic("kept", 2);
        String dropped = clients.topic("dropped", 2);
        String added = clients.topic("added", 2);
        String group = Server.unique("changing-group");
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = clients.pushConsumer(group, inbox);
        consumer.subscribe(kept, "*");
        consumer.subscribe(dropped, "*");
        consumer.start();
        clients.send(kept, List.of("kept-1"));
        clients.send(dropped, List.of("dropped-1"));
        inbox.awaitSize(2, Await.REBALANCE);

        consumer.unsubscribe(dropped);
        consumer.subscribe(added, "*");
        clients.send(added, List.of("added-1"));
        Await.until("what was sent to the new topic", Await.REBALANCE,
                () -> inbox.distinctBodies().contains("added-1"));
        Await.until("the old topic's queues given up", Await.REBALANCE,
                () -> Clients.owned(consumer, dropped).isEmpty());
        clients.send(dropped, List.of("dropped-2"));
        clients.send(kept, List.of("kept-2"));

        inbox.awaitExactly(4);
        assertEquals(List.of("added-1", "dropped-1", "kept-1", "kept-2"), inbox.bodies());
    }

    @Test
    void averagelyByCircleDealsTheQueuesLikeCards() throws Exception {
        allocates(AllocateMessageQueueAveragelyByCircle::new);
    }

    @Test
    void averagelyCutsTheQueuesIntoRuns() throws Exception {
        allocates(AllocateMessageQueueAveragely::new);
    }

    @Test
    void consistentHashKeepsEachQueueNearItsConsumer() throws Exception {
        allocates(AllocateMessageQueueConsistentHash::new);
    }

    /** AllocateMessageQueueByMachineRoom needs brokers that are named room@name, which a cluster of one has not. */
    @Test
    void theMachineRoomNearbyIsPreferred() throws Exception {
        var everythingInRoomA = new AllocateMachineRoomNearby.MachineRoomResolver() {
            @Override
            public String brokerDeployIn(MessageQueue queue) {
                return "room-a";
            }

            @Override
            public String consumerDeployIn(String clientId) {
                return clientId.endsWith("far") ? "room-b" : "room-a";
            }
        };
        String topic = clients.topic("rooms", 4);
        String group = Server.unique("rooms-group");
        List<DefaultMQPushConsumer> consumers = new ArrayList<>();
        for (String name : List.of("near-one", "near-two", "far")) {
            DefaultMQPushConsumer consumer = clients.pushConsumer(group, new Inbox());
            consumer.setInstanceName(consumer.getInstanceName() + name);
            consumer.setAllocateMessageQueueStrategy(
                    new AllocateMachineRoomNearby(new AllocateMessageQueueAveragely(), everythingInRoomA));
            consumer.subscribe(topic, "*");
            consumer.start();
            consumers.add(consumer);
        }

        awaitShares(topic, consumers.subList(0, 2), 2);
        assertEquals(Set.of(), Clients.owned(consumers.get(2), topic));
        consumers.get(0).shutdown();
        consumers.get(1).shutdown();
        awaitShares(topic, consumers.subList(2, 3), 4);
    }

    @Test
    void aConfiguredListIsWhatAConsumerGets() throws Exception {
        String topic = clients.topic("configured", 3);
        String group = Server.unique("configured-group");
        List<MessageQueue> queues = clients.queues(topic);
        List<Inbox> inboxes = List.of(new Inbox(), new Inbox());
        for (int number = 0; number < 2; number++) {
            var strategy = new AllocateMessageQueueByConfig();
            strategy.setMessageQueueList(number == 0 ? queues.subList(0, 1) : queues.subList(1, 3));
            DefaultMQPushConsumer consumer = clients.pushConsumer(group, inboxes.get(number));
            consumer.setAllocateMessageQueueStrategy(strategy);
            // A list that never changes counts for a retry topic's queues as well, which are none of the list.
            consumer.subscribe(topic, "*");
            consumer.start();
        }

        clients.send(topic, Messages.numbered("n", 30));

        inboxes.get(0).awaitExactly(10);
        inboxes.get(1).awaitExactly(20);
        assertEquals(Set.of(0), inboxes.get(0).queueIds());
        assertEquals(Set.of(1, 2), inboxes.get(1).queueIds());
    }

    /** Three consumers come to own what their strategy says when it is asked with all ids and queues. */
    private void allocates(Strategies strategies) throws Exception {
        String topic = clients.topic("allocated", 7);
        String group = Server.unique("allocated-group");
        List<DefaultMQPushConsumer> consumers = new ArrayList<>();
        Inbox inbox = new Inbox();
        for (int number = 0; number < 3; number++) {
            DefaultMQPushConsumer consumer = clients.pushConsumer(group, inbox);
            consumer.setAllocateMessageQueueStrategy(strategies.make());
            consumer.subscribe(topic, "*");
            consumer.start();
            consumers.add(consumer);
        }
        List<MessageQueue> queues = clients.queues(topic);
        List<String> ids = new ArrayList<>();
        consumers.forEach(each -> ids.add(each.buildMQClientId()));
        ids.sort(null);
        Set<MessageQueue> seen = new TreeSet<>();
        for (DefaultMQPushConsumer consumer : consumers) {
            Set<MessageQueue> share =
                    new TreeSet<>(strategies.make().allocate(group, consumer.buildMQClientId(), queues, ids));
            Await.until("its share " + share, Await.REBALANCE, () -> Clients.owned(consumer, topic).equals(share));
            seen.addAll(share);
        }
        assertEquals(new TreeSet<>(queues), seen);

        List<String> bodies = Messages.numbered("n", 28);
        clients.send(topic, bodies);
        Await.until("everything", Await.REBALANCE, () -> inbox.distinctBodies().containsAll(bodies));
        assertTrue(inbox.size() >= 28);
    }

    private interface Strategies {
        AllocateMessageQueueStrategy make();
    }

    private static void awaitShares(String topic, List<DefaultMQPushConsumer> consumers, int queues)
            throws InterruptedException {
        for (DefaultMQPushConsumer consumer : consumers) {
            Await.until(queues + " queues for each of " + consumers.size(), Await.REBALANCE,
                    () -> Clients.owned(consumer, topic).size() == queues);
        }
    }
}
