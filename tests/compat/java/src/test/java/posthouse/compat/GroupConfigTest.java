package posthouse.compat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.common.MQVersion;
import org.apache.rocketmq.common.message.MessageQueue;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

/** A group's configuration, as administrators write it; its class moved between 4.9 and 5.x, so it is never named. */
class GroupConfigTest {
    @RegisterExtension final Clients clients = new Clients();

    @Test
    void aGroupThatIsSwitchedOffGetsNothingUntilItIsSwitchedOn() throws Exception {
        String topic = clients.topic("switched-off", 2);
        String group = known(topic);
        var config = clients.admin().examineSubscriptionGroupConfig(clients.brokerAddress(), group);
        config.setConsumeEnable(false);
        clients.admin().createAndUpdateSubscriptionGroupConfig(clients.brokerAddress(), config);
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = clients.consuming(group, topic, inbox);
        Await.until("its queues", Await.REBALANCE, () -> Clients.owned(consumer, topic).size() == 2);
        clients.send(topic, Messages.numbered("n", 10));
        Thread.sleep(1_500);
        assertEquals(0, inbox.size());

        config.setConsumeEnable(true);
        clients.admin().createAndUpdateSubscriptionGroupConfig(clients.brokerAddress(), config);

        inbox.awaitExactly(10);
    }

    @Test
    void aGroupThatMayNotBroadcastGetsNothing() throws Exception {
        String topic = clients.topic("no-broadcast", 1);
        String group = known(topic);
        var config = clients.admin().examineSubscriptionGroupConfig(clients.brokerAddress(), group);
        config.setConsumeBroadcastEnable(false);
        clients.admin().createAndUpdateSubscriptionGroupConfig(clients.brokerAddress(), config);
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = clients.pushConsumer(group, inbox);
        consumer.setMessageModel(Enum.valueOf(consumer.getMessageModel().getDeclaringClass(), "BROADCASTING"));
        consumer.subscribe(topic, "*");
        consumer.start();
        clients.send(topic, List.of("not for you"));
        Await.until("its queue", Await.REBALANCE, () -> Clients.owned(consumer, topic).size() == 1);
        Thread.sleep(1_500);

        assertEquals(0, inbox.size());
    }

    @Test
    void whatIsWrittenCanBeRead() throws Exception {
        String group = known(clients.topic("configured-group", 1));
        var config = clients.admin().examineSubscriptionGroupConfig(clients.brokerAddress(), group);
        assertEquals(16, config.getRetryMaxTimes());
        assertEquals(1, config.getRetryQueueNums());
        assertTrue(config.isConsumeEnable());
        config.setRetryMaxTimes(3);
        config.setRetryQueueNums(2);
        config.setBrokerId(0);
        config.setNotifyConsumerIdsChangedEnable(false);

        clients.admin().createAndUpdateSubscriptionGroupConfig(clients.brokerAddress(), config);

        var read = clients.admin().examineSubscriptionGroupConfig(clients.brokerAddress(), group);
        assertEquals(config.toString(), read.toString());
        assertEquals(3, clients.admin().getAllSubscriptionGroup(clients.brokerAddress(), 5_000)
                .getSubscriptionGroupTable().get(group).getRetryMaxTimes());
    }

    @Test
    void aDeletedGroupsOffsetsGoWithIt() throws Exception {
        String topic = clients.topic("deleted-group", 1);
        String group = Server.unique("deleted-group");
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = clients.consuming(group, topic, inbox);
        List<String> bodies = Messages.numbered("n", 10);
        clients.send(topic, bodies);
        inbox.awaitSize(10, Await.REBALANCE);
        Await.until("the last one finished", Await.SOON, () -> Clients.cached(consumer) == 0);
        consumer.shutdown();
        MessageQueue queue = clients.queues(topic).get(0);
        Await.until("the offset", Await.SOON, () -> clients.admin().examineConsumeStats(group)
                .getOffsetTable().get(queue).getConsumerOffset() == 10);

        clients.admin().deleteSubscriptionGroup(clients.brokerAddress(), group, true);

        if (MQVersion.CURRENT_VERSION < MQVersion.Version.V5_0_0.ordinal()) {
            return; // 4.9 and 5.x name this wish differently, and Apache 5.x does not know the name of 4.9
        }
        Inbox again = new Inbox();
        clients.consuming(group, topic, again);
        again.awaitExactly(10);
        assertEquals(bodies, again.bodies());
    }

    /** A group that the broker knows, because it had a member. */
    private String known(String topic) throws Exception {
        String group = Server.unique("known-group");
        DefaultMQPushConsumer consumer = clients.consuming(group, topic, new Inbox());
        Await.until("the group", Await.SOON,
                () -> !clients.admin().examineConsumerConnectionInfo(group).getConnectionSet().isEmpty());
        consumer.shutdown();
        Await.until("the member gone", Await.SOON, () -> {
            try {
                return clients.admin().examineConsumerConnectionInfo(group).getConnectionSet().isEmpty();
            } catch (MQBrokerException refused) {
                return true;
            }
        });
        return group;
    }
}
