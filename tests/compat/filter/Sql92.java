import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.HashMap;
import java.util.Map;
import org.apache.rocketmq.filter.FilterFactory;
import org.apache.rocketmq.filter.expression.EvaluationContext;
import org.apache.rocketmq.filter.expression.Expression;

/**
 * RocketMQ's own SQL92 filter over standard input: a line holds an expression and encoded properties, each in base64.
 * The answer is a line of its own: refused, passes or not.
 */
public class Sql92 {
    public static void main(String[] arguments) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        PrintStream answers = new PrintStream(System.out, true, "US-ASCII");
        String line;
        while ((line = lines.readLine()) != null) {
            String[] words = line.split(",", -1);
            answers.println(answer(text(words[0]), properties(text(words[1]))));
        }
    }

    private static String answer(String expression, Map<String, String> properties) {
        Expression compiled;
        try {
            compiled = FilterFactory.INSTANCE.get("SQL92").compile(expression);
        } catch (Exception error) {
            return "refused";
        }
        try {
            return Boolean.TRUE.equals(compiled.evaluate(context(properties))) ? "passes" : "not";
        } catch (Exception error) {
            return "not";
        }
    }

    private static EvaluationContext context(Map<String, String> properties) {
        return new EvaluationContext() {
            @Override
            public Object get(String name) {
                return properties.get(name);
            }

            @Override
            public Map<String, Object> keyValues() {
                return new HashMap<>(properties);
            }
        };
    }

    private static String text(String word) {
        return new String(Base64.getDecoder().decode(word), StandardCharsets.UTF_8);
    }

    private static Map<String, String> properties(String encoded) {
        Map<String, String> found = new HashMap<>();
        for (String pair : encoded.split("\u0002")) {
            int end = pair.indexOf('\u0001');
            if (end > 0 && end < pair.length() - 1) {
                found.put(pair.substring(0, end), pair.substring(end + 1));
            }
        }
        return found;
    }
}
