"""C{$SYS/broker/…}, as clients of mosquitto know it."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mop_twisted.broker.counters import Counters, DropReason
from mop_twisted.codec.packets import CONNECT, SUBSCRIBE
from mop_twisted.ops.observed import Observed
from mop_twisted.ops.systree import SystemTree

# What "mosquitto_sub -t '$SYS/#' -v" shows of a running mosquitto 2.0.11, but for heap, which it
# shows where it was built so.
MOSQUITTO = [
    "bytes/received",
    "bytes/sent",
    "clients/active",
    "clients/connected",
    "clients/disconnected",
    "clients/expired",
    "clients/inactive",
    "clients/maximum",
    "clients/total",
    "heap/current",
    "heap/maximum",
    "load/bytes/received/1min",
    "load/bytes/received/5min",
    "load/bytes/received/15min",
    "load/bytes/sent/1min",
    "load/bytes/sent/5min",
    "load/bytes/sent/15min",
    "load/connections/1min",
    "load/connections/5min",
    "load/connections/15min",
    "load/messages/received/1min",
    "load/messages/received/5min",
    "load/messages/received/15min",
    "load/messages/sent/1min",
    "load/messages/sent/5min",
    "load/messages/sent/15min",
    "load/publish/dropped/1min",
    "load/publish/dropped/5min",
    "load/publish/dropped/15min",
    "load/publish/received/1min",
    "load/publish/received/5min",
    "load/publish/received/15min",
    "load/publish/sent/1min",
    "load/publish/sent/5min",
    "load/publish/sent/15min",
    "load/sockets/1min",
    "load/sockets/5min",
    "load/sockets/15min",
    "messages/received",
    "messages/sent",
    "messages/stored",
    "publish/bytes/received",
    "publish/bytes/sent",
    "publish/messages/dropped",
    "publish/messages/received",
    "publish/messages/sent",
    "shared_subscriptions/count",
    "store/messages/bytes",
    "store/messages/count",
    "subscriptions/count",
    "uptime",
    "version",
]


class SystemTreeTests(SynchronousTestCase):
    """What is published, and when."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.counters = Counters()
        self.observed = Observed(self.clock.seconds)
        self.published: list[tuple[str, bytes]] = []
        self.tree = self.make_tree()

    def make_tree(self, interval: float = 10.0) -> SystemTree:
        return SystemTree(
            self.counters,
            self.observed,
            lambda topic, payload: self.published.append((topic, payload)),
            self.clock,
            interval,
        )

    def last(self, name: str) -> str:
        """The newest value of a topic."""
        found = [payload for topic, payload in self.published if topic == "$SYS/broker/" + name]
        return found[-1].decode()

    def test_names_are_those_of_mosquitto(self) -> None:
        """A board made for mosquitto finds every topic that it knows, and no other ones."""
        self.tree.start()
        names = {topic.removeprefix("$SYS/broker/") for topic, _ in self.published}
        self.assertEqual({*MOSQUITTO, "retained messages/count"}, names)

    def test_all_at_once_when_started(self) -> None:
        """Nobody waits an interval for the first values."""
        self.counters.sessions_connected = 3
        self.tree.start()
        self.assertEqual("3", self.last("clients/connected"))
        self.assertEqual("0 seconds", self.last("uptime"))

    def test_only_what_changed(self) -> None:
        """An idle node publishes its uptime, its memory where that moves, and nothing else."""
        self.tree.start()
        self.published.clear()
        self.clock.advance(10)
        changed = {t for t, _ in self.published if not t.startswith("$SYS/broker/heap/")}
        self.assertEqual({"$SYS/broker/uptime"}, changed)
        self.assertEqual("10 seconds", self.last("uptime"))

    def test_values(self) -> None:
        """Each topic says what its name means to users of mosquitto."""
        c = self.counters
        c.sessions_connected, c.sessions_offline, c.sessions_expired = 5, 2, 1
        c.connections_maximum = 9
        c.packets_received[CONNECT] = 5
        c.packets_received[SUBSCRIBE] = 1
        c.publishes_received = [10, 20, 30]
        c.publishes_sent = [1, 2, 3]
        c.publish_bytes_received, c.publish_bytes_sent = 600, 60
        c.bytes_received, c.bytes_sent = 1000, 100
        c.drop(DropReason.EXPIRED, 4)
        c.subscribed("a/#")
        c.subscribed("$share/g/a")
        c.retained_messages, c.retained_bytes = 7, 70
        self.observed.backlog_messages = lambda: 11
        self.observed.backlog_bytes = lambda: 110
        self.tree.start()
        for name, value in [
            ("clients/total", "7"),
            ("clients/active", "5"),
            ("clients/inactive", "2"),
            ("clients/disconnected", "2"),
            ("clients/expired", "1"),
            ("clients/maximum", "9"),
            ("messages/received", "66"),
            ("messages/sent", "6"),
            ("messages/stored", "18"),
            ("store/messages/count", "18"),
            ("store/messages/bytes", "180"),
            ("publish/messages/received", "60"),
            ("publish/messages/sent", "6"),
            ("publish/messages/dropped", "4"),
            ("publish/bytes/received", "600"),
            ("publish/bytes/sent", "60"),
            ("bytes/received", "1000"),
            ("bytes/sent", "100"),
            ("subscriptions/count", "1"),
            ("shared_subscriptions/count", "1"),
            ("retained messages/count", "7"),
        ]:
            self.assertEqual(value, self.last(name), name)

    def test_averages_as_mosquitto_computes_them(self) -> None:
        """The same counts give the same averages: the numbers are a real mosquitto's, which had
        received 5 packets of 52 bytes, and one connection, in its first 2 seconds."""
        tree = self.make_tree(2.0)
        tree.start()
        self.assertEqual("0.00", self.last("load/messages/received/1min"))
        self.counters.packets_received[CONNECT] = 2
        self.counters.publishes_received[1] = 3
        self.counters.bytes_received = 52
        self.counters.connections_total = 2
        self.clock.advance(2)
        for name, value in [
            ("messages/received/1min", "4.92"),
            ("messages/received/5min", "1.00"),
            ("messages/received/15min", "0.33"),
            ("bytes/received/1min", "51.14"),
            ("bytes/received/5min", "10.37"),
            ("bytes/received/15min", "3.46"),
            ("connections/1min", "1.97"),
            ("sockets/5min", "0.40"),
            ("sockets/15min", "0.13"),
        ]:
            self.assertEqual(value, self.last("load/" + name), name)
        self.clock.advance(2)
        self.assertEqual("4.76", self.last("load/messages/received/1min"))
        self.assertEqual("49.47", self.last("load/bytes/received/1min"))

    def test_own_publishing_counts_next_time(self) -> None:
        """Values are taken together, before publishing them changes the counters."""
        counters = self.counters
        seen: list[bytes] = []

        def publish(topic: str, payload: bytes) -> None:
            counters.publishes_sent[0] += 1
            if topic == "$SYS/broker/publish/messages/sent":
                seen.append(payload)

        SystemTree(counters, self.observed, publish, self.clock).start()
        self.assertEqual([b"0"], seen)

    def test_refreshes(self) -> None:
        """What is cheaper to count now and then is counted before it is shown."""

        def refresh() -> None:
            self.counters.subscriptions = 42

        self.observed.refresh = refresh
        self.tree.start()
        self.assertEqual("42", self.last("subscriptions/count"))

    def test_interval_0_is_off(self) -> None:
        """sys_interval = 0 publishes nothing, as in mosquitto."""
        self.make_tree(0.0).start()
        self.assertEqual(([], []), (self.published, self.clock.getDelayedCalls()))

    def test_stops(self) -> None:
        """A stopped node leaves nothing scheduled."""
        self.tree.start()
        self.tree.stop()
        self.published.clear()
        self.clock.advance(100)
        self.assertEqual(([], []), (self.published, self.clock.getDelayedCalls()))

    def test_reload(self) -> None:
        """Another sys_interval takes effect without a restart, also from and to 0."""
        self.tree.start()
        self.tree.reload(0)
        self.published.clear()
        self.clock.advance(100)
        self.assertEqual([], self.published)
        self.tree.reload(1)
        self.assertEqual("100 seconds", self.last("uptime"))
        self.clock.advance(1)
        self.assertEqual("101 seconds", self.last("uptime"))
