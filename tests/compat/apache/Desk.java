import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.PrintStream;
import java.lang.reflect.Field;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.tools.command.MQAdminStartup;

/**
 * Runs commands of mqadmin, one after the other, in one virtual machine: starting one takes longer than most commands.
 *
 * Each request on stdin is a count and so many texts (int, then int and UTF-8 bytes): a command of mqadmin with its
 * arguments; or "!member", name server, topic, group, which starts a push consumer and a producer of these names that
 * stay until the end. Each answer is what was written to stdout and what to stderr, both as int and bytes.
 */
public class Desk {
    private static final List<Object> MEMBERS = new ArrayList<>();

    public static void main(String[] args) throws Exception {
        DataInputStream in = new DataInputStream(System.in);
        DataOutputStream answers = new DataOutputStream(System.out);
        Thread runner = Thread.currentThread();
        Thread hurry = new Thread(() -> endSleep(runner), "hurry");
        hurry.setDaemon(true);
        hurry.start();
        while (true) {
            String[] request = read(in);
            if (request == null) {
                System.exit(0);
            }
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            ByteArrayOutputStream err = new ByteArrayOutputStream();
            System.setOut(new PrintStream(out, true, "UTF-8"));
            System.setErr(new PrintStream(err, true, "UTF-8"));
            try {
                run(request);
            } catch (Throwable error) {
                error.printStackTrace();
            }
            System.out.flush();
            System.err.flush();
            for (ByteArrayOutputStream each : Arrays.asList(out, err)) {
                answers.writeInt(each.size());
                each.writeTo(answers);
            }
            answers.flush();
        }
    }

    private static void run(String[] request) throws Exception {
        if (request.length > 0 && request[0].equals("!member")) {
            join(request[1], request[2], request[3]);
            return;
        }
        // mqadmin keeps its commands, and some of them a client that is shut down after the first use.
        Field commands = MQAdminStartup.class.getDeclaredField("SUB_COMMANDS");
        commands.setAccessible(true);
        ((List<?>) commands.get(null)).clear();
        MQAdminStartup.main0(request, null);
    }

    private static void join(String nameServer, String topic, String group) throws Exception {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(group);
        consumer.setNamesrvAddr(nameServer);
        consumer.setInstanceName("member");
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) ->
            ConsumeConcurrentlyStatus.CONSUME_SUCCESS);
        consumer.start();
        DefaultMQProducer producer = new DefaultMQProducer(group + "-producer");
        producer.setNamesrvAddr(nameServer);
        producer.setInstanceName("member");
        producer.start();
        MEMBERS.add(consumer);
        MEMBERS.add(producer);
        producer.send(new Message(topic, "from the member".getBytes(StandardCharsets.UTF_8)));
        // The first heartbeat of the producer went before it knew the broker.
        producer.getDefaultMQProducerImpl().getMqClientFactory().sendHeartbeatToAllBrokerWithLock();
        System.out.print(consumer.buildMQClientId());
    }

    /** Shutting a client down waits until its event thread has slept to the end of its 3 s. */
    private static void endSleep(Thread runner) {
        try {
            while (true) {
                Thread.sleep(50);
                if (!isIn(runner, "shutdown") || !isIn(runner, "join")) {
                    continue;
                }
                Thread[] all = new Thread[2 * Thread.activeCount() + 64];
                int count = Thread.enumerate(all);
                for (int i = 0; i < count; i++) {
                    if (all[i].getName().startsWith("NettyEventExecutor") && isIn(all[i], "poll")) {
                        all[i].interrupt();
                    }
                }
            }
        } catch (InterruptedException ended) {
            return;
        }
    }

    private static boolean isIn(Thread thread, String method) {
        return Arrays.stream(thread.getStackTrace()).anyMatch(frame -> frame.getMethodName().equals(method));
    }

    private static String[] read(DataInputStream in) throws Exception {
        int count;
        try {
            count = in.readInt();
        } catch (EOFException ended) {
            return null;
        }
        String[] texts = new String[count];
        for (int i = 0; i < count; i++) {
            texts[i] = new String(in.readNBytes(in.readInt()), StandardCharsets.UTF_8);
        }
        return texts;
    }
}
