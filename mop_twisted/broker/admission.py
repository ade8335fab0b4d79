"""CONNECT: who gets in, which session it gets, and what CONNACK says.

A connection that is let in takes its session over from whoever had it. CONNACK leaves once all
that it promises is in the store, the work of the old connection included.

MQTT 5.0 sections 3.1.4, 3.2, 4.12; design 3.2, 3.4, 3.5.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator
from typing import Any, Final, final

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.logger import Logger

from ..codec.packets import Auth, Connack, Connect, Properties
from ..codec.properties import (
    ASSIGNED_CLIENT_IDENTIFIER,
    AUTHENTICATION_DATA,
    AUTHENTICATION_METHOD,
    MAXIMUM_PACKET_SIZE,
    RECEIVE_MAXIMUM,
    RESPONSE_INFORMATION,
    SERVER_KEEP_ALIVE,
    SESSION_EXPIRY_INTERVAL,
    TOPIC_ALIAS_MAXIMUM,
)
from ..errors import BackendError, Refused
from ..interfaces import IExchange, IMessageLog, IStateStore
from ..limits import Limits
from ..model import Identity
from ..protocol.connection import Connection
from ..protocol.flights import Flights
from ..protocol.sender import CONNECTING
from ..reasons import ReasonCode
from .authority import Authority
from .counters import Counters
from .outbox import Outbox
from .session import Session
from .sessions import Sessions
from .wills import Wills

_IN_DISCONNECT: Final = {
    ReasonCode.BAD_USER_NAME_OR_PASSWORD: ReasonCode.NOT_AUTHORIZED,
    ReasonCode.SERVER_UNAVAILABLE: ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR,
}
"""Reasons of CONNACK that a DISCONNECT has no code for. [MQTT5-3.14.2-1]"""


@final
class _Exchange:
    """Enhanced authentication under way on one connection."""

    __slots__ = ("busy", "connect", "exchange")

    def __init__(self, exchange: IExchange, connect: Connect | None) -> None:
        self.exchange = exchange
        self.connect = connect
        """C{None} in a re-authentication."""
        self.busy = False


@final
class Admission:
    """Answers CONNECT and AUTH."""

    log = Logger()

    def __init__(
        self,
        sessions: Sessions,
        wills: Wills,
        authority: Authority,
        log: IMessageLog,
        store: IStateStore,
        limits: Limits,
        counters: Counters,
        outbox: Outbox,
    ) -> None:
        self._sessions = sessions
        self._wills = wills
        self._authority = authority
        self._log = log
        self._store = store
        self._limits = limits
        self._counters = counters
        self._outbox = outbox
        self._exchanges: dict[Connection, _Exchange] = {}
        self.leave: Callable[[Connection, bool], None] = lambda connection, with_will: None
        """End a connection's hold on its session; set by the broker."""
        self.admitted: Callable[[Session, Connection, list[Any]], None] = lambda *_: None
        """A connection is established, with the events that it held; set by the broker."""

    # Who

    def connect(self, connection: Connection, connect: Connect) -> None:
        """Answer a CONNECT, now or later."""
        method = connection.authentication_method
        if method is not None:
            mechanism = self._authority.mechanism(method)
            if mechanism is None:
                # [MQTT5-4.12.0-1]
                self._refuse(connection, ReasonCode.BAD_AUTHENTICATION_METHOD)
                return
            exchange = _Exchange(mechanism.begin(connect.client_id), connect)
            self._exchanges[connection] = exchange
            self._respond(connection, exchange, connect.properties.get(AUTHENTICATION_DATA, b""))
            return
        admitting = self._authority.admit(connect, connection.peer)
        admitting.addCallback(self._identified, connection, connect, None)
        admitting.addErrback(self._refused, connection)

    def auth(self, connection: Connection, packet: Auth) -> None:
        """AUTH: the next step of an exchange, or a re-authentication. [MQTT5-4.12.1-1]"""
        exchange = self._exchanges.get(connection)
        if exchange is None:
            mechanism = self._authority.mechanism(connection.authentication_method or "")
            if mechanism is None or connection.session is None:
                self._refuse(connection, ReasonCode.BAD_AUTHENTICATION_METHOD)
                return
            exchange = _Exchange(mechanism.begin(connection.client_id), None)
            self._exchanges[connection] = exchange
        if exchange.busy:
            self._refuse(connection, ReasonCode.PROTOCOL_ERROR)
            return
        self._respond(connection, exchange, packet.properties.get(AUTHENTICATION_DATA, b""))

    def _respond(self, connection: Connection, exchange: _Exchange, data: bytes) -> None:
        exchange.busy = True
        responding = exchange.exchange.respond(data)
        responding.addCallback(self._responded, connection, exchange)
        responding.addErrback(self._refused, connection)

    def _responded(
        self, answer: tuple[bytes, str | None], connection: Connection, exchange: _Exchange
    ) -> Any:
        data, user_name = answer
        exchange.busy = False
        if self._exchanges.get(connection) is not exchange:
            return None
        if user_name is None:
            connection.authenticate(ReasonCode.CONTINUE_AUTHENTICATION, data)
            self._outbox.add(connection)
            return None
        del self._exchanges[connection]
        if exchange.connect is not None:
            identity = Identity(connection.client_id, user_name, connection.peer.listener)
            return self._identified(identity, connection, exchange.connect, data)
        session: Session | None = connection.session
        if session is None or session.identity.user_name != user_name:
            # A session belongs to the identity that made it [design 3.5].
            raise Refused(ReasonCode.NOT_AUTHORIZED, "re-authentication as somebody else")
        connection.authenticate(ReasonCode.SUCCESS, data)
        self._outbox.add(connection)
        return None

    def _refused(self, failure: Any, connection: Connection) -> None:
        self._exchanges.pop(connection, None)
        if failure.check(Refused, BackendError):
            reason = failure.value.reason
        else:
            # Nothing of ours may leave as detail; the log has it.
            self.log.failure("CONNECT failed", failure, log_event="connect_failed")
            reason = ReasonCode.UNSPECIFIED_ERROR
        if failure.check(BackendError):
            reason = ReasonCode.SERVER_UNAVAILABLE
        self._refuse(connection, reason)

    def _refuse(self, connection: Connection, reason: ReasonCode) -> None:
        """[MQTT5-4.12.0-4] [MQTT5-4.12.1-2] [MQTT5-3.1.4-2] [MQTT311-3.1.4-2]"""
        if connection.phase == CONNECTING:
            self._counters.connack[reason] += 1
            connection.refuse(reason)
        elif connection.established:
            self.leave(connection, True)
            connection.disconnect(_IN_DISCONNECT.get(reason, reason))
        self._outbox.add(connection)

    def forget(self, connection: Connection) -> None:
        """Its transport is gone."""
        self._exchanges.pop(connection, None)

    # Which session

    @inlineCallbacks
    def _identified(
        self, identity: Identity, connection: Connection, connect: Connect, data: bytes | None
    ) -> Generator[Deferred[Any], Any, None]:
        if connection.phase != CONNECTING:
            return
        assigned = not connect.client_id
        if assigned:
            # [MQTT5-3.1.3-6] [MQTT5-3.1.3-7] [MQTT5-3.2.2-16] [MQTT311-3.1.3-6]
            connection.client_id = identity.client_id = "mop-" + secrets.token_hex(10)
        will = connect.will
        if will is not None and not self._authority.authorizer.may_publish(identity, will.topic):
            raise Refused(ReasonCode.NOT_AUTHORIZED, "will topic")
        session, present = self._take_session(connection, connect, identity)
        asked = connection.session_expiry
        session.expiry = min(asked, self._limits.session_expiry_maximum)
        session.incarnation = secrets.randbits(62)
        # [MQTT5-3.1.2-7]
        session.will = will
        self._wills.cancel(session)
        try:
            if session.expiry and session.cursor is None:
                cursor = yield self._log.cursor(session.client_id)
                if self._ended_meanwhile(session):
                    return
                session.cursor = cursor
            if session.durable or will is not None:
                # [design 3.2, 3.11]: the session and its will are safe before CONNACK.
                stored: Deferred[Any] = Deferred()
                self._store.put([self._sessions.change(session)], stored.callback)
                error = yield stored
                if error is not None:
                    raise error
        except BackendError:
            if session.connection is connection and not present:
                session.will = None
                session.connection = None
                self._sessions.end(session)
            raise
        if session.connection is not connection or connection.phase != CONNECTING:
            return
        if not session.durable:
            session.flights = Flights()
        self._accept(session, present, connection, connect, asked, assigned, data)

    def _ended_meanwhile(self, session: Session) -> bool:
        """Whether a later CONNECT has ended this session while its cursor was made; the cursor
        is then nobody's, unless that one has need of it too."""
        current = self._sessions.find(session.client_id)
        if current is session:
            return False
        if current is None or not current.expiry:
            self._log.delete_cursor(session.client_id, lambda error: None)
        return True

    def _take_session(
        self, connection: Connection, connect: Connect, identity: Identity
    ) -> tuple[Session, bool]:
        """The session of this client identifier, taken over, resumed, or new."""
        # [MQTT5-3.1.3-5] [MQTT311-3.1.3-5]: an identifier of any length and any characters that
        # the authority does not refuse is taken. [MQTT311-3.1.3-2]
        client_id = identity.client_id
        sessions = self._sessions
        session = sessions.find(client_id)
        if session is not None and session.identity.user_name != identity.user_name:
            # H20: not with the clean start of somebody else either.
            raise Refused(ReasonCode.NOT_AUTHORIZED, "the session belongs to somebody else")
        if session is not None and session.connection is not None:
            # [MQTT5-3.1.4-3] [MQTT311-3.1.4-2]
            old = session.connection
            self._counters.taken_over += 1
            if (
                not connect.clean_start
                and session.expiry
                and session.will is not None
                and session.will.delay
            ):
                # [MQTT5-3.1.3-9]: the session goes on before the delay has passed.
                session.will = None
            self.leave(old, True)
            old.disconnect(ReasonCode.SESSION_TAKEN_OVER)
            self._outbox.add(old)
            session = sessions.find(client_id)
        if session is not None and connect.clean_start:
            # [MQTT5-3.1.2-4] [MQTT5-3.1.4-4] [MQTT311-3.1.2-6] [MQTT311-3.1.4-3]
            sessions.end(session)
            session = None
        present = session is not None
        if session is None:
            if len(sessions) >= self._limits.sessions:
                raise Refused(ReasonCode.QUOTA_EXCEEDED, "no room for another session")
            session = sessions.create(client_id, identity, 0)
        # [MQTT5-3.1.2-5] [MQTT311-3.1.2-4]
        session.identity = identity
        session.connection = connection
        connection.session = session
        return session, present

    # What CONNACK says

    def _accept(
        self,
        session: Session,
        present: bool,
        connection: Connection,
        connect: Connect,
        asked_expiry: int,
        assigned: bool,
        data: bytes | None,
    ) -> None:
        limits = self._limits
        keep_alive = connect.keep_alive
        longest = limits.keep_alive_maximum
        if longest and not 0 < keep_alive <= longest:
            keep_alive = longest
        properties: Properties = {}
        if connection.dialect.has_properties:
            if limits.receive_maximum < 65535:
                properties[RECEIVE_MAXIMUM] = limits.receive_maximum
            properties[MAXIMUM_PACKET_SIZE] = limits.maximum_packet_size
            if limits.topic_alias_maximum:
                properties[TOPIC_ALIAS_MAXIMUM] = limits.topic_alias_maximum
            if assigned:
                properties[ASSIGNED_CLIENT_IDENTIFIER] = session.client_id
            if session.expiry != asked_expiry:
                properties[SESSION_EXPIRY_INTERVAL] = session.expiry
            if keep_alive != connect.keep_alive:
                # [MQTT5-3.2.2-22]: else the client's own is used.
                properties[SERVER_KEEP_ALIVE] = keep_alive
            if connection.dialect.wants_response_information(connect):
                # [MQTT5-3.1.2-28]
                properties[RESPONSE_INFORMATION] = f"mop/response/{session.client_id}"
            if connection.authentication_method is not None:
                # [MQTT5-4.12.0-5] [MQTT5-4.12.0-6]
                properties[AUTHENTICATION_METHOD] = connection.authentication_method
                if data:
                    properties[AUTHENTICATION_DATA] = data
        # [MQTT5-3.2.2-2] [MQTT5-3.2.2-3] [MQTT311-3.2.2-1] [MQTT311-3.2.2-2] [MQTT311-3.2.2-3]
        connack = Connack(ReasonCode.SUCCESS, present, properties)
        self._counters.connack[ReasonCode.SUCCESS] += 1
        connection.session_expiry = session.expiry
        events = connection.accept(connack, session.flights, session.durable, keep_alive)
        self._outbox.add(connection)
        self.admitted(session, connection, events)
