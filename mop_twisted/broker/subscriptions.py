"""SUBSCRIBE and UNSUBSCRIBE: each filter gets its own answer, in order.

A durable session's SUBACK and UNSUBACK leave once the change is in the store; messages may come
before, as the specification allows.

MQTT 5.0 sections 3.8 to 3.11.
"""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Any, final

from twisted.internet.defer import Deferred, inlineCallbacks

from ..codec.packets import FilterRequest, Suback, Subscribe, Unsuback, Unsubscribe
from ..codec.properties import SUBSCRIPTION_IDENTIFIER, USER_PROPERTY
from ..errors import BackendError, TopicFilterInvalid
from ..interfaces import IStateStore
from ..limits import Limits
from ..model import Change, Subscription
from ..protocol.connection import Connection
from ..reasons import FAILURE, ReasonCode
from ..topics import check_topic_filter, parse_shared
from .authority import Authority
from .counters import Counters
from .history import Replays, start_of
from .outbox import Outbox
from .plan import Plan
from .records import SUBSCRIPTION, encode_record, subscription_key, subscription_record
from .retained import Retained
from .router import Router
from .session import Session
from .shared import Groups


@final
class Subscriptions:
    """Adds and removes the subscriptions of sessions."""

    def __init__(
        self,
        router: Router[Plan],
        groups: Groups,
        authority: Authority,
        retained: Retained,
        replays: Replays,
        store: IStateStore,
        limits: Limits,
        counters: Counters,
        outbox: Outbox,
    ) -> None:
        self._router = router
        self._groups = groups
        self._authority = authority
        self._retained = retained
        self._replays = replays
        self._store = store
        self._limits = limits
        self._counters = counters
        self._outbox = outbox

    # SUBSCRIBE

    def subscribe(self, session: Session, connection: Connection, packet: Subscribe) -> None:
        """Carry out a SUBSCRIBE. [MQTT5-3.8.4-1] [MQTT5-3.8.4-5] [MQTT311-3.8.4-1]
        [MQTT311-3.8.4-4]"""
        self._subscribe(session, connection, packet).addErrback(self._failed, connection)

    @inlineCallbacks
    def _subscribe(
        self, session: Session, connection: Connection, packet: Subscribe
    ) -> Generator[Deferred[Any], Any, None]:
        identifiers = packet.properties.get(SUBSCRIPTION_IDENTIFIER)
        identifier = identifiers[0] if identifiers else 0
        start = start_of(packet.properties.get(USER_PROPERTY, ()))
        position: Any = None
        if start is not None:
            try:
                position = yield self._replays.position_at(start)
            except ValueError:
                reasons = [int(ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR)] * len(packet.requests)
                self._answer(connection, Suback(packet.packet_id, reasons))
                return
            if session.connection is not connection:
                return
        reasons = []
        added: list[tuple[Subscription, bool]] = []
        for request in packet.requests:
            made = self._add(session, connection, request, identifier, position)
            if isinstance(made, ReasonCode):
                reasons.append(int(made))
            else:
                # [MQTT5-3.8.4-7] [MQTT311-3.8.4-5]
                reasons.append(made[0].qos)
                added.append(made)
        for subscription, _ in added:
            group = self._groups.find(subscription.topic_filter) if subscription.group else None
            if group is not None and self._groups.needs_cursor(group):
                yield self._groups.open_cursor(group)
                self._router.touch(subscription)
        if session.connection is not connection:
            return
        # What an UNSUBSCRIBE behind this packet has taken back is not stored again.
        added = [
            (subscription, new)
            for subscription, new in added
            if session.subscriptions.get(subscription.topic_filter) is subscription
        ]
        if session.durable and added:
            # [design 3.2]: SUBACK is gated by its change.
            done: Deferred[Any] = Deferred()
            changes = [
                Change(
                    SUBSCRIPTION,
                    subscription_key(session.client_id, subscription.topic_filter),
                    encode_record(subscription_record(subscription, position if new else None)),
                )
                for subscription, new in added
            ]
            self._store.put(changes, done.callback)
            error = yield done
            if error is not None:
                reasons = [reason if reason >= FAILURE else int(error.reason) for reason in reasons]
                for subscription, new in added:
                    if new and session.subscriptions.get(subscription.topic_filter) is subscription:
                        self._remove(session, subscription)
                added = []
        # [MQTT5-3.8.4-2] [MQTT5-3.8.4-6] [MQTT5-3.9.3-1] [MQTT311-3.8.4-2] [MQTT311-3.9.3-1]
        self._answer(connection, Suback(packet.packet_id, reasons))
        for subscription, new in added:
            if session.subscriptions.get(subscription.topic_filter) is not subscription:
                continue
            if subscription.group:
                self._groups.joined(session, subscription)
            elif position is not None and new:
                self._replays.begin(session, subscription, position)
            elif self._wants_retained(subscription, new):
                self._retained.begin(session, subscription)

    @staticmethod
    def _wants_retained(subscription: Subscription, new: bool) -> bool:
        """[MQTT5-3.3.1-9] [MQTT5-3.3.1-10] [MQTT5-3.3.1-11]; none for shared subscriptions."""
        handling = subscription.retain_handling
        return not subscription.group and (handling == 0 or (handling == 1 and new))

    def _add(
        self,
        session: Session,
        connection: Connection,
        request: FilterRequest,
        identifier: int,
        position: Any,
    ) -> tuple[Subscription, bool] | ReasonCode:
        """One filter: its subscription and whether it is new, or why there is none."""
        topic_filter = request.topic_filter
        try:
            check_topic_filter(topic_filter, self._limits.topic_levels)
            shared = parse_shared(topic_filter)
        except TopicFilterInvalid:
            return ReasonCode.TOPIC_FILTER_INVALID
        group, pattern = shared if shared is not None else ("", topic_filter)
        old = session.subscriptions.get(topic_filter)
        if old is None and len(session.subscriptions) >= self._limits.subscriptions_per_session:
            return ReasonCode.QUOTA_EXCEEDED
        # H17: asked for the pattern, never for the name with $share before it.
        if not self._authority.authorizer.may_subscribe(session.identity, pattern):
            return ReasonCode.NOT_AUTHORIZED
        if old is not None and session.replaying is not None and old in session.replaying:
            # Its history is still being read: it goes on, by the new options.
            old.qos = request.qos
            old.no_local = request.no_local or connection.bridge
            old.retain_as_published = request.retain_as_published or connection.bridge
            old.identifier = identifier
            return old, False
        subscription = Subscription(
            session,
            topic_filter,
            request.qos,
            request.no_local or (connection.bridge and not group),
            request.retain_as_published or connection.bridge,
            request.retain_handling,
            identifier,
            group,
            pattern,
        )
        # [MQTT5-3.8.4-3] [MQTT5-3.8.4-4] [MQTT311-3.8.4-3]: the same filter again replaces.
        session.subscriptions[topic_filter] = subscription
        if old is None:
            self._counters.subscribed(topic_filter)
        if group:
            self._groups.join(session, subscription)
        if old is None and position is not None and not group:
            # It reads the past first, and is given to the router when it has caught up.
            session.replaying = [*(session.replaying or ()), subscription]
            return subscription, True
        self._router.add(subscription)
        return subscription, old is None

    # UNSUBSCRIBE

    def unsubscribe(self, session: Session, connection: Connection, packet: Unsubscribe) -> None:
        """Carry out an UNSUBSCRIBE. [MQTT5-3.10.4-1] [MQTT5-3.10.4-6] [MQTT311-3.10.4-1]
        [MQTT311-3.10.4-6]"""
        reasons: list[int] = []
        changes: list[Change] = []
        for topic_filter in packet.topic_filters:
            subscription = session.subscriptions.get(topic_filter)
            if subscription is None:
                reasons.append(ReasonCode.NO_SUBSCRIPTION_EXISTED)
                continue
            self._remove(session, subscription)
            reasons.append(ReasonCode.SUCCESS)
            key = subscription_key(session.client_id, topic_filter)
            changes.append(Change(SUBSCRIPTION, key, None))
        # [MQTT5-3.10.4-4] [MQTT5-3.10.4-5] [MQTT5-3.11.3-1] [MQTT311-3.10.4-4] [MQTT311-3.10.4-5]
        unsuback = Unsuback(packet.packet_id, reasons)
        if session.durable and changes:
            self._store.put(changes, partial(self._unsubscribed, connection, unsuback))
        else:
            self._answer(connection, unsuback)

    def _unsubscribed(
        self, connection: Connection, unsuback: Unsuback, error: BackendError | None
    ) -> None:
        if error is not None:
            unsuback.reasons = [int(error.reason)] * len(unsuback.reasons)
            if not connection.dialect.may_refuse_publish:
                connection.disconnect(error.reason)
                self._outbox.add(connection)
                return
        self._answer(connection, unsuback)

    def _remove(self, session: Session, subscription: Subscription) -> None:
        """[MQTT5-3.10.4-2] [MQTT311-3.10.4-2]"""
        del session.subscriptions[subscription.topic_filter]
        self._counters.subscribed(subscription.topic_filter, -1)
        self._router.remove(subscription)
        if session.replaying is not None and subscription in session.replaying:
            session.replaying.remove(subscription)
        if subscription.group:
            self._groups.leave(session, subscription)

    def _answer(self, connection: Connection, packet: Suback | Unsuback) -> None:
        if connection.established:
            connection.send(packet)
            self._outbox.add(connection)

    def _failed(self, failure: Any, connection: Connection) -> None:
        """The log or the store does not answer."""
        failure.trap(BackendError)
        connection.disconnect(failure.value.reason)
        self._outbox.add(connection)
