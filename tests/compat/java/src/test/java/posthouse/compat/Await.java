package posthouse.compat;

import java.time.Duration;
import java.util.concurrent.Callable;

/** Bounded waiting: asks again and again, and fails with what it waited for and what it saw last. */
final class Await {
    /** For what a server does at once, on a machine that is busy. */
    static final Duration SOON = Duration.ofSeconds(15);

    /** For what needs the consumers of a group to share their queues anew. */
    static final Duration REBALANCE = Duration.ofSeconds(30);

    /** How long to look for messages that must not come. */
    static final Duration QUIET = Duration.ofMillis(700);

    private Await() {}

    /** What `ask` gives once it is there (not null, not false); an exception of `ask` counts as not yet there. */
    static <T> T until(String what, Duration limit, Callable<T> ask) throws InterruptedException {
        long deadline = System.nanoTime() + limit.toNanos();
        Object last = null;
        while (true) {
            try {
                T answer = ask.call();
                if (answer != null && !Boolean.FALSE.equals(answer)) {
                    return answer;
                }
                last = answer;
            } catch (InterruptedException interrupted) {
                throw interrupted;
            } catch (Exception notYet) {
                last = notYet;
            }
            if (System.nanoTime() > deadline) {
                throw new AssertionError("not within " + limit.toMillis() + " ms: " + what + "; last: " + last);
            }
            Thread.sleep(20);
        }
    }
}
