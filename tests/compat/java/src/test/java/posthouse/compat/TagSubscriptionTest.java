package posthouse.compat;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.List;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

class TagSubscriptionTest {
    @RegisterExtension final Clients clients = new Clients();

    @Test
    void aPushConsumerGetsOnlyTheTagsThatItAskedFor() throws Exception {
        String topic = clients.topic("tags", 4);
        Inbox inbox = new Inbox();
        var consumer = clients.pushConsumer(Server.unique("tags-group"), inbox);
        consumer.subscribe(topic, "TagA || TagB");
        consumer.start();

        sendTagged(topic, 10);

        inbox.awaitExactly(20);
        assertEquals(new TreeSet<>(List.of("TagA", "TagB")),
                inbox.all().stream().map(MessageExt::getTags).collect(Collectors.toCollection(TreeSet::new)));
        List<String> expected = Messages.numbered("TagA", 10);
        expected.addAll(Messages.numbered("TagB", 10));
        assertEquals(expected, inbox.bodies());
    }

    @Test
    void aConsumerThatIsStartedLaterGetsOnlyItsTagsOfWhatIsStored() throws Exception {
        String topic = clients.topic("stored-tags", 2);
        sendTagged(topic, 10);
        Inbox inbox = new Inbox();
        var consumer = clients.pushConsumer(Server.unique("stored-tags-group"), inbox);

        consumer.subscribe(topic, "TagC");
        consumer.start();

        inbox.awaitExactly(10);
        assertEquals(Messages.numbered("TagC", 10), inbox.bodies());
    }

    @Test
    void aStarGetsMessagesWithAndWithoutTags() throws Exception {
        String topic = clients.topic("star", 2);
        Inbox inbox = new Inbox();
        clients.consuming(Server.unique("star-group"), topic, inbox);

        sendTagged(topic, 3);

        inbox.awaitExactly(12);
    }

    @Test
    void aPullWithATagSkipsTheOthersAndMovesOn() throws Exception {
        String topic = clients.topic("pulled-tags", 1);
        sendTagged(topic, 5);
        MessageQueue queue = clients.queues(topic).get(0);
        Await.until("20 messages", Await.SOON, () -> clients.reader().maxOffset(queue) == 20);

        PullResult found = clients.reader().pull(queue, "TagB", 0, 32);
        PullResult unmatched = clients.reader().pull(queue, "TagZ", 0, 32);

        assertEquals(PullStatus.FOUND, found.getPullStatus());
        assertEquals(Messages.numbered("TagB", 5), Messages.bodies(found.getMsgFoundList()));
        assertEquals(20, found.getNextBeginOffset());
        assertEquals(PullStatus.NO_MATCHED_MSG, unmatched.getPullStatus());
        assertEquals(20, unmatched.getNextBeginOffset());
    }

    /** `each` messages of TagA, TagB, TagC and without a tag, in turn. */
    private void sendTagged(String topic, int each) throws Exception {
        for (int number = 0; number < each; number++) {
            for (String tag : List.of("TagA", "TagB", "TagC")) {
                clients.send(Messages.message(topic, tag, String.format("%s-%03d", tag, number)));
            }
            clients.send(Messages.message(topic, String.format("none-%03d", number)));
        }
    }
}
