"""Kills a gateway under load again and again, and sees whether it kept its word.

Four publishers (QoS 1 and 2, each by a 5.0 and a 3.1.1 client), one that retains; two subscribers
of which one is often away, two that share a subscription; and clients with wills.
Every round ends with SIGKILL at a moment that the seed decides; the next begins at once, on the
same folder and port. In the end:

- what was acknowledged has reached both subscribers, in each publisher's order;
- at QoS 2 once, at QoS 1 again only with DUP or after a kill;
- who shares a subscription has got each message between them, at QoS 2 once;
- sessions were present, and the retained message is the one acknowledged last;
- every will of a client that was connected at a kill has fired, once, and no other.

C{scripts/chaos kill} runs it at length.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable

from mop_twisted.codec.packets import WillMessage

from .client import Client, Loop, Publisher
from .gateway import Gateway
from .subscriber import GroupMember, Shares, Subscriber

PATIENCE = 30.0
"""Seconds without progress after which something is lost, or hangs."""
ENOUGH = 20
"""Complaints after which there is no point in going on."""
LAG = 20_000
"""Messages by which a subscriber may be behind before publishers wait for it: the end of a
campaign waits for all of them."""
NEVER = 3600
"""Seconds of delay of a will that no test waits for."""


class Watcher(Client):
    """Has a will. Connected at a kill, the will is due."""

    def resume(self, present: bool) -> None:
        """It is connected; nothing else is expected of it."""


class Campaign:
    """One run.

    A round lasts until C{messages} have been acknowledged in it, and then a random while that is
    no longer than C{longest} seconds; without C{messages} the while is all. C{ending} is the
    signal that ends it: after SIGTERM, a drain, QoS 1 comes again with DUP alone.
    """

    def __init__(
        self,
        folder: str,
        seed: int,
        rounds: int,
        messages: int = 0,
        longest: float = 1.0,
        largest: int = 200,
        ending: signal.Signals = signal.SIGKILL,
        progress: Callable[[Campaign], None] = lambda campaign: None,
    ) -> None:
        self.seed = seed
        self.rounds = rounds
        self.round = 0
        self.kills = 0
        self.messages = messages
        self.longest = longest
        self.ending = ending
        self.complaints: list[str] = []
        self.began = time.monotonic()
        self.gateway = Gateway(folder)
        self._progress = progress
        self._random = source = random.Random(seed)
        self._loop = Loop()
        complain = self.complain

        def filler() -> bytes:
            # Mostly small; now and then one that does not fit into a page.
            return b"." * source.randint(0, largest * (50 if source.random() < 0.01 else 1))

        self.publishers = {}
        for name, version, qos, retain in (
            ("p1-v5", 5, 1, False),
            ("p1-v4", 4, 1, False),
            ("p2-v5", 5, 2, False),
            ("p2-v4", 4, 2, False),
            ("kept", 5, 1, True),
        ):
            self.publishers[name] = Publisher(
                self._loop, name, version, complain, qos, f"crash/{name}",
                8 if retain else source.randint(20, 200), retain, filler,
            )  # fmt: skip
        self.subscribers = [
            Subscriber(
                self._loop, name, version, complain, ["crash/+", "will/#"], self.publishers, source
            )
            for name, version in (("s-v5", 5), ("s-v4", 4))
        ]
        self.subscribers[0].receive_maximum = 100
        self.shares = Shares(self.publishers)
        self.members: list[Subscriber] = []
        for name, version in (("g-v5", 5), ("g-v4", 4)):
            member = GroupMember(
                self._loop, name, version, complain, ["$share/group/crash/+"], self.publishers,
                source,
            )  # fmt: skip
            member.shares = self.shares
            self.members.append(member)
        self._readers = [*self.subscribers, *self.members]
        self._numbered: list[Client] = [*self.publishers.values(), *self._readers]
        self._due: dict[bytes, bool] = {}
        """Payload of each will → whether it must have fired (False: may)."""
        self._watchers: list[Watcher] = []
        # Its will is never due: its session is always resumed before the delay is over.
        self._patient = Watcher(
            self._loop, "patient", 5, complain,
            WillMessage("will/patient", b"patient", 2, delay=NEVER),
        )  # fmt: skip
        self._next_disturbance = 0.0
        self._away = dict.fromkeys([self.subscribers[1], *self.members], 0.0)
        """Who may stay away, and until when."""

    # Reports

    def complain(self, text: str) -> None:
        """The gateway broke a promise."""
        if len(self.complaints) < ENOUGH:
            self.complaints.append(f"seed {self.seed}, round {self.round}: {text}")

    @property
    def acknowledged(self) -> int:
        """Messages that the gateway has answered for."""
        return sum(p.acknowledged for p in self.publishers.values())

    def summary(self) -> dict[str, object]:
        """What was done and found, for JSON."""
        return {
            "seed": self.seed,
            "rounds": self.round,
            "kills": self.kills,
            "acknowledged": self.acknowledged,
            "received": sum(s.received for s in self._readers),
            "repeated_at_qos_1": sum(s.repetitions for s in self.subscribers),
            "wills": len(self._due),
            "seconds": round(time.monotonic() - self.began, 1),
            "complaints": self.complaints,
        }

    # The whole

    def run(self) -> list[str]:
        """Carry it out; the complaints."""
        try:
            self.gateway.start()
            self._set_up()
            while self.round < self.rounds:
                self.round += 1
                self._load()
                self._end()
                self._restart()
                if len(self.complaints) >= ENOUGH:
                    return self.complaints
                self._progress(self)
            self._settle()
            self._compare()
        except AssertionError as error:
            self.complain(str(error))
        finally:
            self.gateway.kill()
            for client in self._all():
                client.drop()
            self._loop.close()
        if "Traceback" in self.gateway.logged():
            logged = self.gateway.logged()
            at = logged.index("Traceback")
            self.complain(f"the gateway logged: {logged[max(at - 500, 0) : at + 4000]}")
        return self.complaints

    def _all(self) -> list[Client]:
        return [*self._numbered, *self._watchers, self._patient]

    def _set_up(self) -> None:
        for client in (*self._readers, self._patient):
            client.connect(self.gateway.port)
        self._wait(lambda: all(s.subscribed for s in self._readers), "SUBACK")
        self._reconnect()

    def _reconnect(self) -> None:
        """Everybody who shall be there, at once after a start."""
        port = self.gateway.port
        clients = [c for c in self._numbered if not c.open and not self._is_away(c)]
        self._random.shuffle(clients)
        for client in [*clients, self._patient]:
            client.connect(port)
        # One whose session ends with its connection, one whose session goes on and who is
        # back as soon as it can be.
        for name, persistent in ((f"w{self.round}", False), ("again", True)):
            payload = f"{name} {self.round}".encode()
            will = WillMessage(f"will/{name}", payload, 2)
            watcher = Watcher(self._loop, name, 5, self.complain, will, persistent=persistent)
            watcher._known = None
            watcher.connect(port)
            self._watchers.append(watcher)

    def _is_away(self, client: Client) -> bool:
        """Whether it has left for a while, perhaps over a kill or two."""
        return time.monotonic() < self._away.get(client, 0.0)

    # One round

    def _load(self) -> None:
        """Load, with what happens to connections in life."""
        target = self.acknowledged + self.messages
        self._wait(lambda: self.acknowledged >= target, "acknowledgements", self._disturb)
        end = time.monotonic() + self._random.random() * self.longest
        while time.monotonic() < end:
            self._turn(self._disturb)

    def _turn(self, also: Callable[[], None] = lambda: None, publish: bool = True) -> None:
        self._loop.turn(0.002 if any(s.owes for s in self._readers) else 0.02)
        if publish and self._lag() < LAG:
            for publisher in self.publishers.values():
                publisher.fill()
        for reader in self._readers:
            reader.answer()
        also()

    def _lag(self) -> int:
        """Messages that the slowest subscriber has not got, about."""
        numbers = (sum(t.number for t in s.streams.values()) for s in self.subscribers)
        return self.acknowledged - min([*numbers, sum(self.shares.distinct.values())])

    def _wait(
        self,
        done: Callable[[], bool],
        what: str,
        also: Callable[[], None] = lambda: None,
        publish: bool = True,
    ) -> None:
        progress = -1
        patience = 0.0
        while not done():
            self._turn(also, publish)
            now = time.monotonic()
            if not self.gateway.running:
                raise AssertionError(f"the gateway went by itself: {self.gateway.logged()[-4000:]}")
            current = self.acknowledged + sum(s.received for s in self._readers)
            if current != progress:
                progress = current
                patience = now + PATIENCE
            elif now > patience:
                raise AssertionError(f"waited in vain for {what}: {self._state()}")

    def _state(self) -> str:
        return "; ".join(
            f"{c.client_id} {'on' if c.established else 'off'} {', '.join(list(c.trace)[-8:])}"
            for c in self._all()
        )

    def _disturb(self) -> None:
        """Connections that break, clients that come twice, some that stay away."""
        now = time.monotonic()
        for client in self._numbered:
            if not client.open and not self._is_away(client):
                if client.said is not None or client not in self._away:
                    self.complain(f"{client.client_id} was disconnected: {client.trace}")
                client.connect(self.gateway.port)
        if now < self._next_disturbance:
            return
        source = self._random
        self._next_disturbance = now + source.expovariate(6.0)
        client = source.choice(self._numbered)
        if client in self._away and source.random() < 0.7:
            if not self._is_away(client):
                longest = 3.0 if source.random() < 0.2 else 0.4
                self._away[client] = now + source.random() * longest
                client.drop(source.random() < 0.5)
        elif client.open:
            client.connect(self.gateway.port, take_over=source.random() < 0.5)

    def _end(self) -> None:
        for watcher in self._watchers:
            if watcher.open:
                assert watcher.will is not None
                self._due[watcher.will.payload] = watcher.established
        process = self.gateway.program.process
        process.send_signal(self.ending)
        end = time.monotonic() + PATIENCE
        # What it said before it died was said.
        while any(c.open for c in self._all()) or process.poll() is None:
            self._loop.turn(0.1)
            if time.monotonic() > end:
                raise AssertionError(f"still there after {self.ending!r}: {self._state()}")
        if self.gateway.end() != -self.ending:
            raise AssertionError(f"ended otherwise: {self.gateway.logged()[-4000:]}")
        self._watchers = []
        self.kills += 1
        if self.ending == signal.SIGKILL:
            for subscriber in self.subscribers:
                subscriber.restarted()

    def _restart(self) -> None:
        while self.ending == signal.SIGKILL and self._random.random() < 0.15:
            # Killed once more while it comes back.
            self.gateway.launch()
            time.sleep(self._random.random() * 0.8)
            self.gateway.kill()
            self.kills += 1
        self.gateway.start()
        self._reconnect()

    # The end

    def _settle(self) -> None:
        """No more messages; everybody is there until all is answered for and delivered."""
        for client in self._numbered:
            if not client.open:
                client.connect(self.gateway.port)
        self._wait(
            lambda: all(p.idle and p.established for p in self.publishers.values()),
            "the end of all exchanges of publishers",
            publish=False,
        )
        try:
            self._wait(self._all_delivered, "the delivery of all messages", publish=False)
        except AssertionError as error:
            raise AssertionError(f"{', '.join(self._missing())}: {error}") from None
        for watcher in (*self._watchers, self._patient):
            watcher.drop(politely=True)
        # A later message that has come: what would come again or wrongly has come before.
        last = {name: p.sent + 1 for name, p in self.publishers.items()}
        for name, publisher in self.publishers.items():
            publisher.fill(last[name])
        self._wait(
            lambda: (
                self._all_delivered()
                and all(p.idle for p in self.publishers.values())
                and not any(s.owes for s in self._readers)
            ),
            "the last messages",
            publish=False,
        )

    def _all_delivered(self) -> bool:
        return not self._missing()

    def _missing(self) -> list[str]:
        """What each subscriber has not got, at most."""
        missing = []
        for s in self.subscribers:
            for name, p in self.publishers.items():
                number = s.streams[name].number if name in s.streams else 0
                if number < p.acknowledged:
                    missing.append(f"{s.client_id} misses {name} {number + 1} to {p.acknowledged}")
            for payload, must in self._due.items():
                if must and payload not in s.others:
                    missing.append(f"{s.client_id} misses will {payload!r}")
        return missing + self.shares.missing()

    def _compare(self) -> None:
        for subscriber in self.subscribers:
            for payload, count in subscriber.others.items():
                if payload not in self._due:
                    self.complain(f"{subscriber.client_id} got will {payload!r} without cause")
                elif count != 1:
                    self.complain(f"{subscriber.client_id} got will {payload!r} {count} times")
        kept = self.publishers["kept"]
        reader = Subscriber(
            self._loop, "reader", 5, self.complain, [kept.topic], {}, self._random, 0.0
        )
        reader.persistent = False
        reader.connect(self.gateway.port)
        self._numbered.append(reader)
        expected = b"kept %d " % kept.acknowledged
        end = time.monotonic() + PATIENCE
        while not reader.others and time.monotonic() < end:
            self._loop.turn(0.02)
        found = list(reader.others)
        if len(found) != 1 or not found[0].startswith(expected):
            heads = [payload[:20] for payload in found]
            self.complain(f"retained is {heads}, acknowledged last was {expected!r}")
