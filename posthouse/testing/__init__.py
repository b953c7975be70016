"""For tests of programs that use a message queue: a real server inside the test, in milliseconds.

    import posthouse.testing
    from posthouse import Producer

    async def test_order_is_announced():
        async with posthouse.testing.cluster() as cluster:
            async with Producer(cluster.nameservers) as producer:
                await producer.send("orders", b"42")

It is the server itself, not a stand-in: other processes and other languages can connect to it as well.
"""

from __future__ import annotations

from posthouse.testing.cluster import Cluster, cluster

__all__ = ["Cluster", "cluster"]
