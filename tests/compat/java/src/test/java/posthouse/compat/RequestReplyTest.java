package posthouse.compat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.exception.RequestTimeoutException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.RequestCallback;
import org.apache.rocketmq.client.utils.MessageUtil;
import org.apache.rocketmq.common.MQVersion;
import org.apache.rocketmq.common.message.Message;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

class RequestReplyTest {
    private static final long LIMIT_S = 20;

    @RegisterExtension final Clients clients = new Clients();

    @Test
    void aRequestGetsItsReply() throws Exception {
        String topic = clients.topic("asked", 1);
        echo(topic);

        Message reply = ask(clients.producer(), Messages.message(topic, "ping")).get(LIMIT_S, TimeUnit.SECONDS);

        assertEquals("echo of ping", Messages.text(reply));
        assertEquals("red", reply.getUserProperty("colour"), "properties of the reply arrive with it");
        assertTrue(Long.parseLong(reply.getProperty("PUSH_REPLY_TIME")) > 0);
    }

    /** The waiting form of 5.3.3 stops waiting as soon as the request is stored; Apache has mended it since. */
    @Test
    void aRequesterCanWaitForItsReply() throws Exception {
        String topic = clients.topic("waited", 1);
        echo(topic);
        if (MQVersion.CURRENT_VERSION >= MQVersion.Version.V5_0_0.ordinal()) {
            assertThrows(RequestTimeoutException.class,
                    () -> clients.producer().request(Messages.message(topic, "ping"), 15_000));
        } else {
            Message reply = clients.producer().request(Messages.message(topic, "ping"), 15_000);
            assertEquals("echo of ping", Messages.text(reply));
        }
    }

    @Test
    void manyRequestsAtOnceGetEachItsOwnReply() throws Exception {
        String topic = clients.topic("asked-much", 4);
        echo(topic);
        List<CompletableFuture<Message>> replies = new ArrayList<>();
        for (String body : Messages.numbered("n", 30)) {
            replies.add(ask(clients.producer(), Messages.message(topic, body)));
        }

        List<String> got = new ArrayList<>();
        for (CompletableFuture<Message> reply : replies) {
            got.add(Messages.text(reply.get(LIMIT_S, TimeUnit.SECONDS)));
        }
        assertEquals(Messages.numbered("echo of n", 30), got);
    }

    @Test
    void twoRequestersGetTheirOwnReplies() throws Exception {
        String topic = clients.topic("asked-by-two", 1);
        echo(topic);

        CompletableFuture<Message> one = ask(clients.producer(), Messages.message(topic, "one"));
        CompletableFuture<Message> two = ask(clients.newProducer(), Messages.message(topic, "two"));

        assertEquals("echo of one", Messages.text(one.get(LIMIT_S, TimeUnit.SECONDS)));
        assertEquals("echo of two", Messages.text(two.get(LIMIT_S, TimeUnit.SECONDS)));
    }

    @Test
    void aRequestThatNobodyAnswersTimesOut() throws Exception {
        String topic = clients.topic("unanswered", 1);
        CompletableFuture<Message> reply = new CompletableFuture<>();
        clients.producer().request(Messages.message(topic, "hello?"), completing(reply), 1_500);

        ExecutionException failed = assertThrows(ExecutionException.class, () -> reply.get(LIMIT_S, TimeUnit.SECONDS));

        assertInstanceOf(RequestTimeoutException.class, failed.getCause());
        assertEquals(List.of("hello?"), Messages.bodies(clients.readAll(topic, 1)), "the request itself is stored");
    }

    private static CompletableFuture<Message> ask(DefaultMQProducer producer, Message request) throws Exception {
        CompletableFuture<Message> reply = new CompletableFuture<>();
        producer.request(request, completing(reply), TimeUnit.SECONDS.toMillis(LIMIT_S));
        return reply;
    }

    private static RequestCallback completing(CompletableFuture<Message> reply) {
        return new RequestCallback() {
            @Override
            public void onSuccess(Message message) {
                if (message != null) { // these clients call it with nothing, too, when the request is stored
                    reply.complete(message);
                }
            }

            @Override
            public void onException(Throwable error) {
                reply.completeExceptionally(error);
            }
        };
    }

    /** A consumer that answers each request. */
    private void echo(String topic) throws Exception {
        DefaultMQProducer replier = clients.newProducer();
        clients.consuming(Server.unique("echo-group"), topic, (messages, context) -> {
            try {
                for (Message message : messages) {
                    byte[] body = ("echo of " + Messages.text(message)).getBytes(StandardCharsets.UTF_8);
                    Message reply = MessageUtil.createReplyMessage(message, body);
                    reply.putUserProperty("colour", "red");
                    Clients.sent(replier.send(reply, 5_000));
                }
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            } catch (Exception error) {
                throw new IllegalStateException(error);
            }
        });
    }
}
