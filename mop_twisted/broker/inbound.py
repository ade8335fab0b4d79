"""What clients publish: may they, who wants it, who keeps it, and when it is acknowledged.

A run of PUBLISHes of one read comes in as one list. What nobody keeps is handed to delivery at
once and acknowledged in the same turn; the rest becomes entries of the log, and the
acknowledgement is promised.

MQTT 5.0 sections 3.3.4, 4.3; decision 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from ..codec.packets import Publish, WillMessage
from ..codec.properties import MESSAGE_EXPIRY_INTERVAL
from ..errors import BackendError, TopicNameInvalid
from ..interfaces import IAuthorizer, IMessageLog, IStateStore
from ..limits import Limits
from ..model import Entry, Origin, Subscription
from ..protocol.connection import Connection
from ..protocol.promises import Promise
from ..reasons import FAILURE, ReasonCode
from ..topics import check_topic_name
from .authority import Authority
from .counters import Counters, DropReason
from .delivery import Delivery
from .outbox import Outbox
from .plan import Plan, make_plan
from .retained import Retained
from .router import Router
from .session import Session

VERDICTS: Final = 1024
"""Publish verdicts that a session remembers."""


@final
class Inbound:
    """Takes what clients publish, and what is published in their name (wills)."""

    def __init__(
        self,
        router: Router[Plan],
        authority: Authority,
        delivery: Delivery,
        retained: Retained,
        log: IMessageLog,
        store: IStateStore,
        limits: Limits,
        counters: Counters,
        outbox: Outbox,
        seconds: Callable[[], float],
    ) -> None:
        self._router = router
        self._authority = authority
        self._delivery = delivery
        self._retained = retained
        self._log = log
        self._store = store
        self._limits = limits
        self._counters = counters
        self._outbox = outbox
        self._seconds = seconds
        self.paused: list[Connection] = []
        """Connections that are not read until the log has room."""

    def plan(self, topic: str, subscriptions: list[Subscription]) -> Plan:
        """The router's way to make a plan."""
        plan = make_plan(topic, subscriptions, self._authority.authorizer, self._log.keeps(topic))
        try:
            check_topic_name(topic, self._limits.topic_levels)
        except TopicNameInvalid:
            plan.valid = False
        return plan

    def may_publish(self, session: Session, topic: str) -> bool:
        """The authorisation function's verdict, remembered by the session."""
        authorizer: IAuthorizer = self._authority.authorizer
        verdicts = session.publish_verdicts
        if verdicts is None or session.verdict_version != authorizer.version:
            verdicts = session.publish_verdicts = {}
            session.verdict_version = authorizer.version
        verdict = verdicts.get(topic)
        if verdict is None:
            verdict = bool(authorizer.may_publish(session.identity, topic))
            if len(verdicts) >= VERDICTS:
                verdicts.clear()
            verdicts[topic] = verdict
        return verdict

    def publish(self, session: Session, connection: Connection, run: list[Publish]) -> None:
        """Take a run of one connection's PUBLISHes, in order."""
        router = self._router
        client_id = session.client_id
        tells = connection.dialect.may_refuse_publish
        asks = not self._authority.authorizer.open
        queueing = connection.has_promised
        topic: str | None = None
        plan: Plan | None = None
        refusal: ReasonCode | None = None
        passing: list[Publish] = []
        entries: list[Entry] = []
        retained: list[Publish] = []
        outcomes: dict[int, ReasonCode] | None = None
        acknowledged = False
        # QoS 0 that goes through the log, as retained does, is not overtaken by what does not.
        behind = session.unfed > 0
        received = self._counters.publishes_received
        payload_bytes = 0
        for publish in run:
            if publish.topic is not topic:
                if passing:
                    assert plan is not None
                    self._delivery.pass_on(plan, passing)
                    passing = []
                topic = publish.topic
                plan = router.match(topic)
                refusal = self._refusal(session, topic, plan, asks)
            assert plan is not None
            publish.publisher = client_id
            qos = publish.qos
            received[qos] += 1
            payload_bytes += len(publish.payload)
            if publish.properties and MESSAGE_EXPIRY_INTERVAL in publish.properties:
                publish.expires_at = self._seconds() + publish.properties[MESSAGE_EXPIRY_INTERVAL]
            if qos:
                acknowledged = True
            if refusal is not None:
                self._counters.drop(DropReason.NOT_AUTHORIZED, 1)
                if qos and tells:
                    outcomes = outcomes or {}
                    outcomes[publish.packet_id] = refusal
                continue
            if publish.retain:
                refused = self._retained.refusal(publish)
                if refused is not None:
                    if qos and tells:
                        outcomes = outcomes or {}
                        outcomes[publish.packet_id] = refused
                    self._counters.drop(DropReason.NO_MEMORY, 1)
                    continue
                retained.append(publish)
                behind = True
                entries.append(self._entry(session, plan, publish))
            elif qos == 0:
                if plan.history or behind:
                    entries.append(Entry(publish, None, None, plan.history))
                    behind = True
                else:
                    passing.append(publish)
            elif (
                queueing
                or entries
                or plan.audience is not None
                or plan.history
                or (qos == 2 and session.cursor is not None)
            ):
                entries.append(self._entry(session, plan, publish))
            else:
                passing.append(publish)
            if plan.excluded and qos:
                self._discard_for(plan.excluded)
            if tells and qos and not plan.matches:
                # MQTT 5.0, 3.4.2.1
                outcomes = outcomes or {}
                outcomes[publish.packet_id] = ReasonCode.NO_MATCHING_SUBSCRIBERS
        self._counters.publish_bytes_received += payload_bytes
        if passing:
            assert plan is not None
            self._delivery.pass_on(plan, passing)
        if entries:
            promise = connection.promise(run, outcomes)
            self._append(session, connection, promise, entries, retained)
        elif acknowledged:
            connection.acknowledge(run, outcomes)

    def _refusal(self, session: Session, topic: str, plan: Plan, asks: bool) -> ReasonCode | None:
        """Why the client may not publish to this topic, if so. A 3.x client is acknowledged all
        the same, as [MQTT311-3.3.5-2] demands of who does not close."""
        if not plan.valid:
            return ReasonCode.TOPIC_NAME_INVALID
        if (asks or topic[0] == "$") and not self.may_publish(session, topic):
            return ReasonCode.NOT_AUTHORIZED
        return None

    def _entry(self, session: Session, plan: Plan, publish: Publish) -> Entry:
        origin = None
        if publish.qos == 2 and session.cursor is not None:
            # [MQTT5-4.3.3-10]: known again after a crash, with the message or not at all.
            origin = Origin(session.client_id, 0, publish.packet_id)
        # [MQTT5-4.5.0-1] [MQTT311-4.5.0-1]
        audience = plan.audience if publish.qos else None
        return Entry(publish, audience, origin, plan.history)

    def _discard_for(self, sessions: list[Session]) -> None:
        for session in sessions:
            session.discarded += 1
        self._counters.drop(DropReason.QUEUE_FULL, len(sessions))

    def _append(
        self,
        session: Session,
        connection: Connection,
        promise: Promise,
        entries: list[Entry],
        retained: list[Publish],
    ) -> None:
        log = self._log
        began = self._seconds()
        failures: list[BackendError] = []
        # Records first: a crash between the two makes the client publish again, which the
        # append recognises by its origin and the record does not mind.
        for publish in retained:
            self._retained.appended(publish)
        unacknowledged = any(e.publish is not None and e.publish.qos == 0 for e in entries)
        if unacknowledged:
            session.unfed += 1
        if retained:
            self._store.put(
                [self._retained.change(publish) for publish in retained],
                lambda error: failures.append(error) if error is not None else None,
            )

        def completed(error: BackendError | None) -> None:
            if unacknowledged:
                session.unfed -= 1
            if error is not None:
                failures.append(error)
            for publish in retained:
                self._retained.arrived(publish)
            waited = self._seconds() - began
            self._counters.publish_ack_seconds.observe(waited, len(promise.run))
            self._appended(session, connection, promise, failures)

        log.publish(entries, completed)
        if log.congested and connection.reading:
            # [design 3.7]: for the log's sake, and never because its output is full.
            connection.reading = False
            self.paused.append(connection)
            self._outbox.add(connection)

    def _appended(
        self,
        session: Session,
        connection: Connection,
        promise: Promise,
        failures: list[BackendError],
    ) -> None:
        if failures:
            reason = failures[0].reason
            self._counters.append_failures += 1
            for publish in promise.run:
                if publish.qos == 2:
                    session.flights.received.pop(publish.packet_id, None)
            if not connection.dialect.may_refuse_publish:
                # [MQTT311-4.8.0-2]: a withheld PUBACK is never asked for again [design 3.1].
                connection.disconnect(reason)
                self._outbox.add(connection)
                return
            outcomes = promise.outcomes = dict(promise.outcomes or {})
            for publish in promise.run:
                if outcomes.get(publish.packet_id, 0) < FAILURE:
                    outcomes[publish.packet_id] = reason
        connection.fulfil(promise)
        if connection.output or connection.closing:
            self._outbox.add(connection)

    def eased(self, now: float) -> None:
        """The log has room again."""
        paused, self.paused = self.paused, []
        for connection in paused:
            connection.resume_reading(now)
            self._outbox.add(connection)

    def publish_will(
        self,
        session: Session,
        will: WillMessage,
        completed: Callable[[Origin | None], None],
        failed: Callable[[], None],
    ) -> None:
        """Publish a will in its session's name, once, also over a crash; then C{completed}, with
        the origin that the log remembers it by: to be forgotten once the record of the will is.
        C{failed}: the log did not take it.

        [MQTT5-3.1.2-8] [MQTT5-3.1.2-14] [MQTT5-3.1.2-15] [MQTT311-3.1.2-16]
        [MQTT311-3.1.2-17]
        """
        # H15: the right is asked for when it fires as well as at CONNECT.
        if not self._authority.authorizer.may_publish(session.identity, will.topic):
            self._counters.drop(DropReason.NOT_AUTHORIZED, 1)
            completed(None)
            return
        publish = Publish(
            will.topic, will.payload, will.qos, will.retain, properties=will.properties
        )
        publish.publisher = session.client_id
        expiry = will.properties.get(MESSAGE_EXPIRY_INTERVAL)
        if expiry is not None:
            publish.expires_at = self._seconds() + expiry
        plan = self._router.match(will.topic)
        origin = Origin("will\0" + session.client_id, session.incarnation, 0)
        audience = plan.audience if publish.qos else None
        entry = Entry(publish, audience, origin, plan.history)
        if publish.retain and self._retained.refusal(publish) is not None:
            publish.retain = False
        if publish.retain:
            self._retained.appended(publish)
            self._store.put([self._retained.change(publish)], lambda error: None)
        self._counters.wills_published += 1

        def ended(error: BackendError | None) -> None:
            if publish.retain:
                self._retained.arrived(publish)
            if error is None:
                completed(origin)
            else:
                failed()

        self._log.publish([entry], ended)
