package posthouse.compat;

import java.util.concurrent.atomic.AtomicInteger;

/** The server under test, and names that no other run of the suite uses on it. */
final class Server {
    static final String NAMESERVER = nameserver();

    private static final String RUN = Long.toString(System.currentTimeMillis(), 36);
    private static final AtomicInteger NAMES = new AtomicInteger();

    private Server() {}

    /** A fresh name for a topic, a group or a client, starting with what it is for. */
    static String unique(String purpose) {
        return purpose + "-" + RUN + "-" + NAMES.incrementAndGet();
    }

    private static String nameserver() {
        String property = System.getProperty("posthouse.nameserver", "");
        if (!property.isEmpty()) {
            return property;
        }
        String variable = System.getenv("POSTHOUSE_NAMESERVER");
        return variable == null || variable.isEmpty() ? "127.0.0.1:9876" : variable;
    }
}
