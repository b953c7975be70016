package posthouse.compat;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.List;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.message.MessageExt;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

/** A client with a namespace writes it in front of each topic and group, and takes it off what it hands on. */
class NamespaceTest {
    @RegisterExtension final Clients clients = new Clients();

    @Test
    void topicsRetriesAndDeadLettersLieInTheNamespace() throws Exception {
        String space = Server.unique("space");
        String topic = Server.unique("inside");
        String group = Server.unique("inside-group");
        clients.admin().createAndUpdateTopicConfig(
                clients.brokerAddress(), new TopicConfig(space + "%" + topic, 2, 2, 6));
        clients.awaitRoute(space + "%" + topic);
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = clients.pushConsumer(group, (messages, context) -> {
            inbox.keep(messages);
            context.setDelayLevelWhenNextConsume(1);
            return Messages.text(messages.get(0)).equals("good")
                    ? ConsumeConcurrentlyStatus.CONSUME_SUCCESS
                    : ConsumeConcurrentlyStatus.RECONSUME_LATER;
        });
        consumer.setNamespace(space);
        consumer.setMaxReconsumeTimes(1);
        consumer.subscribe(topic, "*");
        consumer.start();
        Clients.awaitRetryQueue(consumer);
        DefaultMQProducer producer = new DefaultMQProducer(Server.unique("inside-producers"));
        producer.setNamespace(space);
        clients.started(producer);

        Clients.sent(producer.send(Messages.message(topic, "good")));
        Clients.sent(producer.send(Messages.message(topic, "bad")));

        inbox.awaitExactly(3);
        assertEquals(List.of("bad", "bad", "good"), inbox.bodies());
        for (MessageExt message : inbox.all()) {
            assertEquals(topic, message.getTopic());
        }
        String dead = "%DLQ%" + space + "%" + group;
        Await.until("a route of " + dead, Await.REBALANCE, () -> clients.admin().examineTopicRouteInfo(dead));
        assertEquals(List.of("bad"), Messages.bodies(clients.readAll(dead, 1)));
        assertEquals(2, clients.readAll(space + "%" + topic, 2).size());
    }
}
