package posthouse.compat;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Random;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.rocketmq.common.message.Message;

/** Making and reading messages. */
final class Messages {
    private Messages() {}

    static Message message(String topic, String body) {
        return new Message(topic, body.getBytes(StandardCharsets.UTF_8));
    }

    static Message message(String topic, String tag, String body) {
        return new Message(topic, tag, body.getBytes(StandardCharsets.UTF_8));
    }

    static String text(Message message) {
        return new String(message.getBody(), StandardCharsets.UTF_8);
    }

    /** The bodies as text, sorted, with repetitions. */
    static List<String> bodies(Collection<? extends Message> messages) {
        return messages.stream().map(Messages::text).sorted().collect(Collectors.toList());
    }

    /** prefix-000, prefix-001, ...: their order as text is their order as numbers. */
    static List<String> numbered(String prefix, int count) {
        return IntStream.range(0, count)
                .mapToObj(number -> String.format("%s-%03d", prefix, number))
                .collect(Collectors.toCollection(ArrayList::new));
    }

    /** Bytes that no compression makes smaller, the same on every run. */
    static byte[] noise(int size) {
        byte[] bytes = new byte[size];
        new Random(size).nextBytes(bytes);
        return bytes;
    }
}
