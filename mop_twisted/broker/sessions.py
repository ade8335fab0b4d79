"""The sessions of a node: found, made, ended, expired, stored and loaded.

A session that outlives its connection has a record, its subscriptions' records and a cursor.
One that does not has a record only while it has a will, which a kill of the gateway must not
lose.

MQTT 5.0 sections 3.1.2.11.2 and 4.1.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from heapq import heappop, heappush
from typing import Any, final

import msgspec
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.logger import Logger

from ..errors import TopicFilterInvalid
from ..interfaces import IMessageLog, IStateStore
from ..model import SECONDS_FOR_EVER, Change, Identity, Origin, Subscription
from ..topics import parse_shared
from .counters import Counters
from .plan import Plan
from .records import (
    ASSIGNED,
    GROUP,
    RETAINED,
    SESSION,
    SUBSCRIPTION,
    SessionRecord,
    decode_retained,
    decode_session,
    decode_subscription,
    encode_record,
    subscription_key,
    will_of,
    will_record,
)
from .retained import Retained
from .router import Router
from .session import Session
from .shared import Groups
from .wills import Wills


def _ignore(error: object) -> None:
    """For a record whose loss a restart can bear: the log itself tells when it is unwell."""


@final
class Sessions:
    """All sessions of this node by client identifier. [MQTT5-3.1.3-2]"""

    log = Logger()

    def __init__(
        self,
        router: Router[Plan],
        groups: Groups,
        wills: Wills,
        retained: Retained,
        log: IMessageLog,
        store: IStateStore,
        counters: Counters,
        seconds: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._router = router
        self._groups = groups
        self._wills = wills
        self._retained = retained
        self._log = log
        self._store = store
        self._counters = counters
        self._seconds = seconds
        self._wall = wall
        self._expiring: list[tuple[float, int, Session]] = []
        self._count = 0
        self.by_client: dict[str, Session] = {}
        self.resume_history: Callable[[Session, Subscription, Any], None] = lambda *_: None
        """Go on with a subscription that was still reading the past; set by the broker."""
        wills.settled = self._will_settled

    def __len__(self) -> int:
        return len(self.by_client)

    def find(self, client_id: str) -> Session | None:
        """The session of a client identifier, if there is one."""
        return self.by_client.get(client_id)

    def create(self, client_id: str, identity: Identity, incarnation: int) -> Session:
        """A new session; there is none of that client identifier. [MQTT5-3.1.2-6]"""
        session = Session(client_id, identity, incarnation)
        self.by_client[client_id] = session
        return session

    # Records

    def change(self, session: Session) -> Change:
        """The record of a session as it is now."""
        session.recorded = True
        left = 0.0
        if session.connection is None:
            left = self._wall() + session.left_at - self._seconds()
        record = SessionRecord(
            session.identity.user_name,
            session.identity.listener,
            session.incarnation,
            session.expiry,
            session.durable,
            left,
            will_record(session.will),
        )
        return Change(SESSION, session.client_id, encode_record(record))

    def store(self, session: Session) -> None:
        """Write its record, or delete it when nothing needs it any more."""
        if session.durable or session.will is not None:
            self._store.put([self.change(session)], _ignore)
        elif session.recorded:
            session.recorded = False
            self._store.put([Change(SESSION, session.client_id, None)], _ignore)

    def _will_settled(self, session: Session, origin: Origin | None) -> None:
        """Its will has been published: the record forgets it, and then so does the log."""

        def stored(error: object) -> None:
            if error is None and origin is not None:
                self._log.forget([origin], _ignore)

        # Of whoever has the client identifier by now: a session that ended with its will left
        # its record, and who began anew may have had nothing to write.
        current = self.by_client.get(session.client_id)
        if current is None or not (current.durable or current.will is not None):
            self._store.put([Change(SESSION, session.client_id, None)], stored)
        else:
            self._store.put([self.change(current)], stored)

    # Ends

    def end(self, session: Session) -> None:
        """Discard it with all that belongs to it; its will, if it still has one, fires now.

        [MQTT5-3.1.2-4] [MQTT5-4.1.0-2] [MQTT311-3.1.2-6]. Retained messages are no part of it
        [MQTT311-3.1.2-7].
        """
        if self.by_client.get(session.client_id) is session:
            del self.by_client[session.client_id]
        changes: list[Change] = []
        for topic_filter, subscription in session.subscriptions.items():
            self._counters.subscribed(topic_filter, -1)
            if subscription.group:
                self._groups.leave(session, subscription)
            self._router.remove(subscription)
            if session.durable:
                key = subscription_key(session.client_id, topic_filter)
                changes.append(Change(SUBSCRIPTION, key, None))
        session.subscriptions = {}
        self._groups.session_ended(session)
        if session.cursor is not None:
            session.cursor = None
            self._log.delete_cursor(session.client_id, _ignore)
            self._log.forget_session(session.client_id, _ignore)
        if session.will is not None:
            self._wills.fire(session)
        elif session.recorded:
            session.recorded = False
            changes.append(Change(SESSION, session.client_id, None))
        if changes:
            self._store.put(changes, _ignore)

    def left(self, session: Session, now: float) -> None:
        """Its connection ended and it goes on: from now on its expiry counts.
        [MQTT5-3.1.2-23]"""
        session.left_at = now
        self._schedule(session)

    def _schedule(self, session: Session) -> None:
        when = session.left_at + session.expiry
        # One entry a session: an earlier one finds out when it comes up.
        if session.expiry != SECONDS_FOR_EVER and not 0.0 < session.expiry_noted <= when:
            session.expiry_noted = when
            self._count += 1
            heappush(self._expiring, (when, self._count, session))

    def tick(self, now: float) -> None:
        """End what has expired; drop retained messages that have."""
        expiring = self._expiring
        while expiring and expiring[0][0] <= now:
            when, _, session = heappop(expiring)
            if session.expiry_noted != when:
                continue
            session.expiry_noted = 0.0
            if session.connection is not None or self.find(session.client_id) is not session:
                continue
            if session.left_at + session.expiry <= now:
                self._counters.sessions_expired += 1
                self.end(session)
            else:
                self._schedule(session)
        gone = self._retained.expired(now)
        if gone:
            self._store.put(gone, _ignore)

    # Start

    @inlineCallbacks
    def load(self) -> Generator[Deferred[Any], Any, None]:
        """Bring back what the store and the log remember. Nothing listens yet.

        @raise BackendError: (in the Deferred) it cannot be read.
        """
        now = self._seconds()
        wall = self._wall()
        positions: list[tuple[Session, Subscription, Any]] = []

        def sessions(found: list[tuple[str, bytes]]) -> None:
            for client_id, value in found:
                try:
                    self._load_session(client_id, decode_session(value), now, wall)
                except msgspec.DecodeError as error:
                    self._unreadable(SESSION, client_id, error)

        def subscriptions(found: list[tuple[str, bytes]]) -> None:
            for key, value in found:
                client_id, _, topic_filter = key.partition("\0")
                session = self.by_client.get(client_id)
                if session is not None:
                    try:
                        position = self._load_subscription(session, topic_filter, value)
                    except (msgspec.DecodeError, TopicFilterInvalid) as error:
                        self._unreadable(SUBSCRIPTION, key, error)
                        continue
                    if position is not None:
                        subscription = session.subscriptions[topic_filter]
                        positions.append((session, subscription, position))

        def retained(found: list[tuple[str, bytes]]) -> None:
            for topic, value in found:
                try:
                    self._retained.load(topic, decode_retained(value))
                except msgspec.DecodeError as error:
                    self._unreadable(RETAINED, topic, error)

        yield self._store.load(SESSION, sessions)
        for session in list(self.by_client.values()):
            if session.durable:
                session.cursor = yield self._log.cursor(session.client_id)
                packet_ids = yield self._log.origins(session.client_id, 0)
                session.flights.received = dict.fromkeys(packet_ids, True)
        yield self._store.load(SUBSCRIPTION, subscriptions)
        yield self._store.load(RETAINED, retained)
        yield self._store.load(ASSIGNED, self._groups.load_assigned)
        yield self._store.load(GROUP, self._groups.load_groups)
        yield self._groups.open_cursors()
        for session, subscription, position in positions:
            self.resume_history(session, subscription, position)
        for session in list(self.by_client.values()):
            self._settle_loaded(session, now)

    def _unreadable(self, kind: str, key: str, error: Exception) -> None:
        """One record that says nothing must not keep the others out."""
        self.log.error(
            "record {kind} {key!r} cannot be read: {error}",
            event="record_unreadable",
            kind=kind,
            key=key,
            error=str(error),
        )

    def _load_session(self, client_id: str, record: SessionRecord, now: float, wall: float) -> None:
        identity = Identity(client_id, record.user_name, record.listener)
        session = self.create(client_id, identity, record.incarnation)
        session.expiry = record.expiry
        # A session that was connected at a kill counts from the restart [design 3.4]; a clock
        # that was set back must not make one immortal.
        away = max(wall - record.left, 0.0) if record.left else 0.0
        session.left_at = now - away
        session.will = will_of(record.will)
        session.cursor = True if record.durable else None
        session.recorded = True

    def _load_subscription(self, session: Session, topic_filter: str, value: bytes) -> Any:
        record = decode_subscription(value)
        shared = parse_shared(topic_filter)
        group, pattern = shared if shared is not None else ("", topic_filter)
        subscription = Subscription(
            session,
            topic_filter,
            record.qos,
            record.no_local,
            record.retain_as_published,
            record.retain_handling,
            record.identifier,
            group,
            pattern,
        )
        session.subscriptions[topic_filter] = subscription
        self._counters.subscribed(topic_filter)
        if record.position is None:
            if group:
                self._groups.join(session, subscription)
            self._router.add(subscription)
        return record.position

    def _settle_loaded(self, session: Session, now: float) -> None:
        if not session.durable:
            # It ended with the process; what is left is its will.
            self.end(session)
            return
        self._schedule(session)
        if session.will is not None:
            due = session.left_at + min(session.will.delay, session.expiry)
            if due > now:
                self._wills.postpone(session, due)
            else:
                # Now, not with the next tick: a client that is back sooner must not cancel it.
                self._wills.fire(session)
