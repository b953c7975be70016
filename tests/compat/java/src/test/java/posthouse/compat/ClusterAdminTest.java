package posthouse.compat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

class ClusterAdminTest {
    @RegisterExtension final Clients clients = new Clients();

    @Test
    void theClusterInfoNamesTheBrokerItsClusterAndItsAddress() throws Exception {
        var info = clients.admin().examineBrokerClusterInfo();

        assertEquals(1, info.getClusterAddrTable().size());
        String cluster = info.getClusterAddrTable().keySet().iterator().next();
        Set<String> names = info.getClusterAddrTable().get(cluster);
        assertEquals(info.getBrokerAddrTable().keySet(), names);
        var broker = info.getBrokerAddrTable().get(names.iterator().next());
        assertEquals(cluster, broker.getCluster());
        assertEquals(names.iterator().next(), broker.getBrokerName());
        assertEquals(Set.of(0L), broker.getBrokerAddrs().keySet());
        assertTrue(broker.selectBrokerAddr().matches("127\\.0\\.0\\.1:\\d+"), broker.selectBrokerAddr());
    }

    @Test
    void theRuntimeStatsCountTheMessages() throws Exception {
        String topic = clients.topic("runtime", 1);
        String broker = clients.brokerAddress();
        long before = number(clients.admin().fetchBrokerRuntimeStats(broker).getTable(), "msgPutTotalTodayNow");

        clients.send(topic, Messages.numbered("n", 10));

        var admin = clients.admin();
        Await.until("ten more messages", Await.SOON,
                () -> number(admin.fetchBrokerRuntimeStats(broker).getTable(), "msgPutTotalTodayNow") >= before + 10);
        Map<String, String> stats = admin.fetchBrokerRuntimeStats(broker).getTable();
        for (String name : Set.of("brokerVersionDesc", "bootTimestamp", "putTps", "getTransferredTps",
                "commitLogMaxOffset", "commitLogMinOffset", "commitLogDirCapacity", "runtime")) {
            assertFalse(stats.getOrDefault(name, "").isEmpty(), name + " in " + stats.keySet());
        }
        assertTrue(number(stats, "commitLogMaxOffset") > number(stats, "commitLogMinOffset"));
        assertTrue(number(stats, "bootTimestamp") <= System.currentTimeMillis());
    }

    @Test
    void theClusterOfATopicCanBeAskedFor() throws Exception {
        String topic = clients.topic("cluster-of", 1);

        Set<String> clusters = clients.admin().getTopicClusterList(topic);

        assertEquals(clients.admin().examineBrokerClusterInfo().getClusterAddrTable().keySet(), clusters);
    }

    private static long number(Map<String, String> stats, String name) {
        return Long.parseLong(stats.get(name));
    }
}
