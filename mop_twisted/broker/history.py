"""Subscribing to the past: a new subscription reads what retention kept, then goes live.

While it reads, the subscription is not in the router: its live messages come from the history
too, in their place. When the history is at its end, in the same turn, the router gets it.

For a session that outlives its connection QoS 1 and 2 go through its cursor, as copies that
are addressed to it; an origin a copy makes a crash in between store none of them twice.

interface.md, "Subscribing to the past".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, final

from twisted.internet.defer import Deferred

from ..codec.packets import Publish
from ..interfaces import IMessageLog, IStateStore
from ..limits import Limits
from ..model import Audience, Change, Entry, History, Origin, Subscription
from .authority import Authority
from .plan import Plan
from .records import SUBSCRIPTION, encode_record, subscription_key, subscription_record
from .router import Router
from .session import Session

if TYPE_CHECKING:
    from .sending import Sending

_MOP_POSITIONS: Final = {"0": "latest", "1": "earliest"}
"""MoP's C{InitialPosition}: Pulsar's enumeration."""


def start_of(user_properties: Iterable[tuple[str, str]]) -> str | None:
    """Where a SUBSCRIBE asks to begin; C{None} is: now, as ever."""
    for name, value in user_properties:
        start = value
        if name == "InitialPosition":
            start = _MOP_POSITIONS.get(value, value)
        elif name != "start":
            continue
        return None if start == "latest" else start
    return None


def copy_of(publish: Publish) -> Publish:
    """The message anew, without RETAIN: it is delivered because of a subscription."""
    copy = Publish(publish.topic, publish.payload, publish.qos, properties=publish.properties)
    copy.publisher = publish.publisher
    copy.expires_at = publish.expires_at
    return copy


@final
class Replays:
    """Subscriptions that read the past."""

    def __init__(
        self,
        router: Router[Plan],
        authority: Authority,
        sending: Sending,
        log: IMessageLog,
        store: IStateStore,
        limits: Limits,
        later: Callable[[Callable[[], None]], object],
    ) -> None:
        self._router = router
        self._authority = authority
        self._sending = sending
        self._log = log
        self._store = store
        self._limits = limits
        self._later = later
        self._blocked: list[Callable[[], None]] = []

    def position_at(self, start: str) -> Deferred[Any]:
        """The log's position for what a client wrote.

        @raise ValueError: (in the Deferred) it means nothing to the log.
        """
        return self._log.position_at(start)

    def begin(self, session: Session, subscription: Subscription, position: Any) -> None:
        """Read from C{position} on; also after a restart in the middle of it."""
        if session.replaying is None:
            session.replaying = []
        if subscription not in session.replaying:
            session.replaying.append(subscription)
        self._next(session, subscription, position)

    def _over(self, session: Session, subscription: Subscription) -> bool:
        return session.subscriptions.get(subscription.topic_filter) is not subscription

    def _next(self, session: Session, subscription: Subscription, position: Any) -> None:
        if self._over(session, subscription):
            self._end(session, subscription)
            return

        def again() -> None:
            self._next(session, subscription, position)

        connection = session.connection
        if session.durable and subscription.qos:
            if self._log.congested:
                self._blocked.append(again)
                return
        elif connection is None or connection.congested or session.queue is not None:
            # Until it is back, or has taken what it was given.
            if session.waiters is None:
                session.waiters = []
            session.waiters.append(again)
            return
        reading = self._log.history(subscription.pattern, position, self._limits.history_batch)
        reading.addCallback(self._got, session, subscription)
        reading.addErrback(lambda failure: self._blocked.append(again))

    def wake(self) -> None:
        """Look again at what waited for the log."""
        blocked, self._blocked = self._blocked, []
        for again in blocked:
            again()

    def _got(self, history: History, session: Session, subscription: Subscription) -> None:
        if self._over(session, subscription):
            self._end(session, subscription)
            return
        copies_go = session.cursor is not None and subscription.qos > 0
        copies: list[Entry] = []
        for entry in history.entries:
            if not self._is_for(session, subscription, entry):
                continue
            assert entry.publish is not None
            qos = min(entry.publish.qos, subscription.qos)
            if qos and session.cursor is not None:
                copies.append(self._copy(session, subscription, entry))
            else:
                copy = copy_of(entry.publish)
                self._sending.offer_copy(session, subscription, copy, qos)
        if copies:
            self._log.publish(copies, lambda error: None)
        if session.durable:
            key = subscription_key(session.client_id, subscription.topic_filter)
            position = None if history.live else history.position
            record = encode_record(subscription_record(subscription, position))
            self._store.put([Change(SUBSCRIPTION, key, record)], lambda error: None)
        self._sending.pump(session)
        if not history.live:
            self._later(lambda: self._next(session, subscription, history.position))
            return
        self._router.add(subscription)
        if copies_go and history.assigned > history.position:
            # What was published before the router had it, and is not committed yet, is for
            # nobody's cursor: it is read once it is fed.
            self._log.publish(
                [], lambda error: self._rest(session, subscription, history.position, history)
            )
        else:
            self._end(session, subscription)

    def _rest(
        self, session: Session, subscription: Subscription, position: Any, turned: History
    ) -> None:
        """The entries up to those that were assigned when the subscription went live."""
        reading = self._log.history(subscription.pattern, position, self._limits.history_batch)

        def got(history: History) -> None:
            if self._over(session, subscription):
                self._end(session, subscription)
                return
            copies = [
                self._copy(session, subscription, entry)
                for entry in history.entries
                if entry.sequence <= turned.assigned and self._is_for(session, subscription, entry)
            ]
            if copies:
                self._log.publish(copies, lambda error: None)
            if history.live or history.position >= turned.assigned:
                self._end(session, subscription)
            else:
                self._rest(session, subscription, history.position, turned)

        reading.addCallback(got)
        reading.addErrback(
            lambda failure: self._blocked.append(
                lambda: self._rest(session, subscription, position, turned)
            )
        )

    def _is_for(self, session: Session, subscription: Subscription, entry: Entry) -> bool:
        publish = entry.publish
        authorizer = self._authority.authorizer
        if publish is None or (subscription.no_local and publish.publisher == session.client_id):
            return False
        return bool(authorizer.open or authorizer.may_receive(session.identity, publish.topic))

    def _copy(self, session: Session, subscription: Subscription, entry: Entry) -> Entry:
        """For a cursor: addressed to it, and recognised if a crash makes it come again."""
        origin = Origin(self._origin(session, subscription), 0, entry.sequence)
        assert entry.publish is not None
        copy = copy_of(entry.publish)
        return Entry(copy, Audience((session.cursor,)), origin, retained_copy=True)

    def _end(self, session: Session, subscription: Subscription) -> None:
        if session.replaying is not None and subscription in session.replaying:
            session.replaying.remove(subscription)
            if not session.replaying:
                session.replaying = None
        if subscription.qos:
            self._log.forget_session(self._origin(session, subscription), lambda error: None)

    @staticmethod
    def _origin(session: Session, subscription: Subscription) -> str:
        return f"replay\0{session.client_id}\0{subscription.topic_filter}"
