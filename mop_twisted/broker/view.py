"""The broker as operators see it: pages of sessions, subscriptions and retained messages.

Everything is answered from memory, a page at a time, and nothing that passes here is on the way
of messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, TypeVar, final

from twisted.internet.defer import Deferred, succeed

from ..codec.packets import Publish
from ..errors import BackendError, Refused, TopicNameInvalid
from ..interfaces import IMessageLog, IStateStore
from ..model import Entry
from ..reasons import ReasonCode
from ..topics import check_topic_filter, check_topic_name
from .broker import Broker
from .session import Session
from .shown import ShownClient, ShownListener, ShownRetained, ShownSubscription

Item = TypeVar("Item")
NODE = "mop"
"""Who publishes in the node's own name."""


def _page(items: Iterator[Item], offset: int, limit: int) -> list[Item]:
    return list(islice(items, offset, offset + limit))


@final
class View:
    """What the admin room asks of a broker. C{listeners} is set by the composition root."""

    def __init__(
        self, broker: Broker, log: IMessageLog, store: IStateStore, seconds: Callable[[], float]
    ) -> None:
        self._broker = broker
        self._log = log
        self._store = store
        self._seconds = seconds
        self.listeners: Callable[[], list[ShownListener]] = list

    def clients(self, offset: int, limit: int) -> tuple[list[ShownClient], int]:
        """Sessions, connected or not, in an order that stays while none comes or goes."""
        sessions = self._broker.sessions.by_client
        page = _page(iter(sessions.values()), offset, limit)
        return [self._shown(session) for session in page], len(sessions)

    def client(self, client_id: str) -> ShownClient | None:
        """One of them."""
        session = self._broker.sessions.find(client_id)
        return None if session is None else self._shown(session)

    def _shown(self, session: Session) -> ShownClient:
        connection = session.connection
        connected = connection is not None and connection.established
        cursor = session.cursor
        queued = len(session.queue or ())
        queued_bytes = session.queue_bytes
        if cursor is not None:
            queued, queued_bytes = cursor.backlog_messages, cursor.backlog_bytes
        since = session.left_at if connection is None else connection.opened
        return ShownClient(
            client_id=session.client_id,
            connected=connected,
            user_name=session.identity.user_name,
            peer="" if connection is None else connection.peer.address,
            listener=session.identity.listener,
            version=0 if connection is None else connection.version,
            keep_alive=0 if connection is None else connection.keep_alive,
            session_expiry=session.expiry,
            seconds=self._seconds() - since,
            subscriptions=len(session.subscriptions),
            in_flight=len(session.flights.sent) + len(session.flights.released),
            queued_messages=queued,
            queued_bytes=queued_bytes,
            discarded=session.discarded,
            paused=session.pause_reason.name.lower(),
        )

    def subscriptions(
        self, client_id: str | None, offset: int, limit: int
    ) -> tuple[list[ShownSubscription], int]:
        """Those of a client, or of all."""
        sessions = self._broker.sessions
        if client_id is None:
            found = (
                subscription
                for session in sessions.by_client.values()
                for subscription in session.subscriptions.values()
            )
            count = self._broker.counters.subscriptions
        else:
            session = sessions.find(client_id)
            own = {} if session is None else session.subscriptions
            found = (subscription for subscription in own.values())
            count = len(own)
        page = [
            ShownSubscription(
                client_id=subscription.session.client_id,
                topic_filter=subscription.topic_filter,
                qos=subscription.qos,
                no_local=subscription.no_local,
                retain_as_published=subscription.retain_as_published,
                retain_handling=subscription.retain_handling,
                identifier=subscription.identifier,
                share_name=subscription.group,
            )
            for subscription in _page(found, offset, limit)
        ]
        return page, count

    def retained(
        self, topic_filter: str, offset: int, limit: int
    ) -> tuple[list[ShownRetained], int]:
        """Retained messages that match.

        @raise TopicFilterInvalid: C{topic_filter} is no valid one.
        """
        check_topic_filter(topic_filter, self._broker.limits.topic_levels)
        now = self._seconds()
        page = [
            ShownRetained(
                topic=topic,
                qos=publish.qos,
                payload_bytes=len(publish.payload),
                expires_in=publish.expires_at - now if publish.expires_at else None,
            )
            for topic, publish in _page(self._broker.retained.find(topic_filter), offset, limit)
        ]
        return page, len(self._broker.retained)

    def kick(self, client_id: str) -> bool:
        """End the client's connection with 0x98, Administrative action; the session stays.
        False: it has no connection."""
        return self._broker.disconnect(client_id, ReasonCode.ADMINISTRATIVE_ACTION)

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> Deferred[None]:
        """Publish in the node's own name; fires when it is as durable as it will be.

        @raise MopError: (in the Deferred) the topic is not valid, or the log does not take it.
        """
        done: Deferred[Any] = Deferred()
        try:
            check_topic_name(topic, self._broker.limits.topic_levels)
            if topic.startswith("$"):
                raise TopicNameInvalid("topics that begin with $ are the server's own")
        except TopicNameInvalid as error:
            done.errback(error)
            return done
        publish = Publish(topic, payload, qos, retain)
        publish.publisher = NODE
        if retain:
            refusal = self._broker.retained.refusal(publish)
            if refusal is not None:
                done.errback(Refused(refusal, "no room for another retained message"))
                return done
            self._broker.retained.appended(publish)
            self._store.put([self._broker.retained.change(publish)], lambda error: None)
        plan = self._broker.router.match(topic)
        entry = Entry(publish, plan.audience if qos else None, None, plan.history)

        def completed(error: BackendError | None) -> None:
            if retain:
                self._broker.retained.arrived(publish)
            _fire(done, error)

        self._log.publish([entry], completed)
        return done

    def delete_retained(self, topic: str) -> Deferred[bool]:
        """Forget a retained message, durably; False: there was none.

        @raise MopError: (in the Deferred) the store does not take it.
        """
        retained = self._broker.retained
        if not retained.has(topic):
            return succeed(False)
        nothing = Publish(topic, b"", 0, True)
        done: Deferred[Any] = Deferred()
        self._store.put([retained.change(nothing)], lambda error: _fire(done, error))
        retained.apply(nothing)
        return done.addCallback(lambda _: True)


def _fire(done: Deferred[Any], error: Exception | None) -> None:
    if error is None:
        done.callback(None)
    else:
        done.errback(error)
