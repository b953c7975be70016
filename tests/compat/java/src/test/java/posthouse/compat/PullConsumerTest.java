package posthouse.compat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

class PullConsumerTest {
    @RegisterExtension final Clients clients = new Clients();

    @Test
    void theQueuesOfATopicAreThoseThatItWasCreatedWith() throws Exception {
        String topic = clients.topic("queues", 3);

        Set<MessageQueue> queues = clients.reader().fetchSubscribeMessageQueues(topic);

        assertEquals(new TreeSet<>(List.of(0, 1, 2)),
                queues.stream().map(MessageQueue::getQueueId).collect(Collectors.toCollection(TreeSet::new)));
        assertTrue(queues.stream().allMatch(queue -> queue.getTopic().equals(topic)));
    }

    @Test
    void minAndMaxOffsetsFrameTheQueue() throws Exception {
        String topic = clients.topic("frame", 1);
        MessageQueue queue = clients.queues(topic).get(0);
        assertEquals(0, clients.reader().minOffset(queue));
        assertEquals(0, clients.reader().maxOffset(queue));

        clients.send(topic, Messages.numbered("n", 12));

        Await.until("max offset 12", Await.SOON, () -> clients.reader().maxOffset(queue) == 12);
        assertEquals(0, clients.reader().minOffset(queue));
    }

    @Test
    void aPullTellsWhereToGoOn() throws Exception {
        String topic = clients.topic("pull", 1);
        clients.send(topic, Messages.numbered("n", 50));
        clients.readAll(topic, 50);
        MessageQueue queue = clients.queues(topic).get(0);

        PullResult ten = clients.reader().pull(queue, "*", 20, 10);
        assertEquals(PullStatus.FOUND, ten.getPullStatus());
        assertEquals(0, ten.getMinOffset());
        assertEquals(50, ten.getMaxOffset());
        assertEquals(30, ten.getNextBeginOffset());
        assertEquals(Messages.numbered("n", 50).subList(20, 30), Messages.bodies(ten.getMsgFoundList()));
        List<Long> offsets = ten.getMsgFoundList().stream()
                .map(MessageExt::getQueueOffset)
                .collect(Collectors.toList());
        assertEquals(List.of(20L, 21L, 22L, 23L, 24L, 25L, 26L, 27L, 28L, 29L), offsets);

        PullResult capped = clients.reader().pull(queue, "*", 0, 50);
        assertEquals(32, capped.getMsgFoundList().size(), "a broker gives 32 at most");
        assertEquals(32, capped.getNextBeginOffset());

        PullResult atTheEnd = clients.reader().pull(queue, "*", 50, 10);
        assertEquals(PullStatus.NO_NEW_MSG, atTheEnd.getPullStatus());
        assertEquals(50, atTheEnd.getNextBeginOffset());

        PullResult behindTheEnd = clients.reader().pull(queue, "*", 60, 10);
        assertEquals(PullStatus.OFFSET_ILLEGAL, behindTheEnd.getPullStatus());
        assertEquals(50, behindTheEnd.getNextBeginOffset());
    }

    @Test
    void aPullOfAnEmptyQueueFindsNothing() throws Exception {
        String topic = clients.topic("empty", 1);
        MessageQueue queue = clients.queues(topic).get(0);

        PullResult result = clients.reader().pull(queue, "*", 0, 10);

        assertTrue(Set.of(PullStatus.NO_NEW_MSG, PullStatus.NO_MATCHED_MSG).contains(result.getPullStatus()),
                result.toString());
        assertEquals(0, result.getNextBeginOffset());
    }

    @Test
    void aBlockingPullReturnsStoredMessagesAtOnce() throws Exception {
        String topic = clients.topic("blocking", 1);
        clients.send(topic, Messages.numbered("n", 5));
        clients.readAll(topic, 5);
        MessageQueue queue = clients.queues(topic).get(0);

        long before = System.nanoTime();
        PullResult result = clients.reader().pullBlockIfNotFound(queue, "*", 0, 32);

        assertEquals(PullStatus.FOUND, result.getPullStatus());
        assertEquals(Messages.numbered("n", 5), Messages.bodies(result.getMsgFoundList()));
        assertTrue(System.nanoTime() - before < 1_000_000_000L);
    }

    @Test
    void searchOffsetFindsTheFirstMessageOfAMoment() throws Exception {
        String topic = clients.topic("search", 1);
        MessageQueue queue = clients.queues(topic).get(0);
        long before = System.currentTimeMillis() - 1000;
        clients.send(topic, Messages.numbered("old", 7));
        Thread.sleep(200);
        long between = System.currentTimeMillis();
        Thread.sleep(200);
        clients.send(topic, Messages.numbered("new", 7));
        List<MessageExt> stored = clients.readAll(topic, 14);

        assertEquals(0, clients.reader().searchOffset(queue, before));
        assertEquals(7, clients.reader().searchOffset(queue, between));
        assertEquals(7, clients.reader().searchOffset(queue, stored.get(7).getStoreTimestamp()));
        assertEquals(14, clients.reader().searchOffset(queue, System.currentTimeMillis() + 60_000));
        assertEquals(stored.get(0).getStoreTimestamp(), clients.reader().earliestMsgStoreTime(queue));
    }

    @Test
    void aGroupsOffsetIsWhatWasWrittenLast() throws Exception {
        String topic = clients.topic("offset", 2);
        String group = Server.unique("offset-group");
        clients.send(topic, Messages.numbered("n", 20));
        MessageQueue queue = clients.queues(topic).get(0);
        DefaultMQPullConsumer writer = clients.pullConsumer(group);
        writer.pull(queue, "*", 0, 1); // the first pull makes the group known to the broker

        writer.updateConsumeOffset(queue, 4);
        assertEquals(4, writer.fetchConsumeOffset(queue, false));
        writer.getOffsetStore().persist(queue);

        DefaultMQPullConsumer reader = clients.pullConsumer(group);
        Await.until("offset 4", Await.SOON, () -> reader.fetchConsumeOffset(queue, true) == 4);

        writer.updateConsumeOffset(queue, 9);
        writer.getOffsetStore().persist(queue);
        Await.until("offset 9", Await.SOON, () -> reader.fetchConsumeOffset(queue, true) == 9);

        MessageQueue untouched = clients.queues(topic).get(1);
        assertTrue(reader.fetchConsumeOffset(untouched, true) <= 0);
    }
}
