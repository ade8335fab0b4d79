"""Shared subscriptions: the groups of a node, who is in them, and what they have on the log.

What a group does with its messages is in L{mop_twisted.broker.group}.

MQTT 5.0 section 4.8.2; design 3.12.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, final

from twisted.internet.defer import Deferred, inlineCallbacks

from ..interfaces import IAuthorizer, IMessageLog, IStateStore
from ..limits import Limits
from ..model import Change, Subscription
from .counters import Counters
from .group import Group
from .records import ASSIGNED, GROUP
from .session import FETCHING, Session

if TYPE_CHECKING:
    from .sending import Sending


def cursor_name(topic_filter: str) -> str:
    """The name of a group's cursor: none that a client identifier could be, since NUL is in no
    string of MQTT [MQTT5-1.5.4-2]."""
    return "\0" + topic_filter


def _ignore(error: object) -> None:
    """For a record or a cursor that the next start removes, if it is left over."""


@final
class Groups:
    """All shared groups of a node, by C{$share/name/filter}."""

    def __init__(
        self,
        log: IMessageLog,
        store: IStateStore,
        limits: Limits,
        counters: Counters,
        authorizer: IAuthorizer,
        seconds: Callable[[], float],
    ) -> None:
        self._log = log
        self.store = store
        self.limits = limits
        self.counters = counters
        self.authorizer = authorizer
        self.seconds = seconds
        self.sending: Sending
        self.find_session: Callable[[str], Session | None] = lambda client_id: None
        self.assigned: dict[str, str] = {}
        """From the store: QoS 2 messages under way at a restart → client identifier."""
        self._recorded: dict[str, None] = {}
        """From the store: filters of groups that had a cursor."""
        self.by_filter: dict[str, Group] = {}
        self.queued_bytes = 0
        """What waits in memory in all groups."""

    def find(self, topic_filter: str) -> Group | None:
        """A group by its whole filter."""
        return self.by_filter.get(topic_filter)

    def join(self, session: Session, subscription: Subscription) -> Group:
        """Add a member, or replace its subscription."""
        topic_filter = subscription.topic_filter
        group = self.by_filter.get(topic_filter)
        if group is None:
            group = self.by_filter[topic_filter] = Group(self, topic_filter)
        group.add(session, subscription)
        if session.groups is None:
            session.groups = {}
        session.groups[topic_filter] = group
        return group

    def joined(self, session: Session, subscription: Subscription) -> None:
        """Its SUBACK is on its way: messages that waited while nobody was online may follow."""
        group = self.by_filter.get(subscription.topic_filter)
        if group is not None and session in group.members:
            group.pump(session)

    def needs_cursor(self, group: Group) -> bool:
        """Whether a member's session outlives its connection, and the group has none yet."""
        return group.cursor is None and group.durable

    @inlineCallbacks
    def open_cursor(self, group: Group) -> Generator[Deferred[Any], Any, None]:
        """Put the group on the log.

        @raise BackendError: (in the Deferred) the log does not answer.
        """
        topic_filter = group.topic_filter
        if topic_filter not in self._recorded:
            # Before the cursor, so that none is ever left over without a record of it.
            self.store.put([Change(GROUP, topic_filter, b"")], _ignore)
        cursor = yield self._log.cursor(cursor_name(topic_filter))
        current = self.by_filter.get(topic_filter)
        if current is not group:
            # All members have left meanwhile. Others may have come, who ask for it themselves.
            if current is None or not current.durable:
                self._delete_cursor(topic_filter)
            return
        if group.cursor is None:
            group.cursor = cursor
            group.mode = FETCHING
        group.pump()

    def _delete_cursor(self, topic_filter: str) -> None:
        self._log.delete_cursor(cursor_name(topic_filter), _ignore)
        self.store.put([Change(GROUP, topic_filter, None)], _ignore)

    @inlineCallbacks
    def open_cursors(self) -> Generator[Deferred[Any], Any, None]:
        """At start, when the members are known; cursors of those that have none are deleted."""
        for group in list(self.by_filter.values()):
            if self.needs_cursor(group):
                yield self.open_cursor(group)
        for topic_filter in self._recorded:
            found = self.by_filter.get(topic_filter)
            if found is None or found.cursor is None:
                self._delete_cursor(topic_filter)
        self._recorded = {}
        gone = [k for k in self.assigned if k.rpartition("\0")[0] not in self.by_filter]
        if gone:
            self.store.put([Change(ASSIGNED, key, None) for key in gone], _ignore)
            for key in gone:
                del self.assigned[key]

    def leave(self, session: Session, subscription: Subscription) -> None:
        """A member unsubscribed, or its session ended. The group's cursor, with what waits at
        it, is there for whoever is left."""
        topic_filter = subscription.topic_filter
        group = self.by_filter.get(topic_filter)
        if group is None or not group.remove(session):
            return
        if session.groups is not None:
            session.groups.pop(topic_filter, None)
            if not session.groups:
                session.groups = None
        if group.members:
            return
        del self.by_filter[topic_filter]
        group.discard()
        if group.cursor is not None:
            group.cursor = None
            self._delete_cursor(topic_filter)

    def session_ended(self, session: Session) -> None:
        """QoS 2 in flight to it goes to nobody else. [MQTT5-4.8.2-5]"""
        flights = session.flights
        for flight in [*flights.sent.values(), *flights.released.values()]:
            if flight.group is not None:
                flight.group.settled(flight)
        flights.sent = {}
        flights.released = {}

    def load_assigned(self, found: list[tuple[str, bytes]]) -> None:
        """Records of the store, at start."""
        for key, client_id in found:
            self.assigned[key] = client_id.decode()

    def load_groups(self, found: list[tuple[str, bytes]]) -> None:
        """Records of the store, at start."""
        for topic_filter, _ in found:
            self._recorded[topic_filter] = None
