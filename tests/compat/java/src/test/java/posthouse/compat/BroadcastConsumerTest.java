package posthouse.compat;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

class BroadcastConsumerTest {
    @RegisterExtension final Clients clients = new Clients();

    @Test
    void eachConsumerOfABroadcastGroupGetsEverything() throws Exception {
        String topic = clients.topic("broadcast", 4);
        String group = Server.unique("broadcast-group");
        Inbox one = new Inbox();
        Inbox two = new Inbox();
        for (Inbox inbox : List.of(one, two)) {
            var consumer = clients.pushConsumer(group, inbox);
            // The class of the two models moved between 4.9 and 5.x, so it is asked for, not named.
            consumer.setMessageModel(Enum.valueOf(consumer.getMessageModel().getDeclaringClass(), "BROADCASTING"));
            consumer.subscribe(topic, "*");
            consumer.start();
        }

        List<String> bodies = Messages.numbered("n", 40);
        clients.send(topic, bodies);

        one.awaitExactly(40);
        two.awaitExactly(40);
        assertEquals(bodies, one.bodies());
        assertEquals(bodies, two.bodies());
    }
}
