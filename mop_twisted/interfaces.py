"""The seams between worlds, as zope interfaces: the log, the state store, and who gets in.

The contract tests in C{tests/contracts} hold every implementation to the sentences below.
All calls are made, and all callbacks come, in the reactor's thread. Callbacks that are plain
functions are called once with C{None} or with a L{mop_twisted.errors.BackendError}: the hot
path makes no Deferred.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from .errors import BackendError
from .model import Change, Entry, Fetched, History, Identity, Origin

Completed = Callable[[BackendError | None], None]
"""Told once how it ended."""


class IMessageLog(Interface):
    """An ordered, durable log of messages, with cursors.

    Order: entries are appended in the order of the calls and, within one, of the list. The
    feed and the completions come in that order too, the feed of an entry before its
    completion; a failure fails everything that was published behind it and not yet completed.
    """

    healthy = Attribute("False while appends fail: readiness is false too. A bool.")
    congested = Attribute(
        "True while more bytes wait to be appended than the high mark allows: publishers are "
        "not read until it is False again. A bool."
    )

    def start(feed: Callable[[Sequence[Entry]], None], eased: Callable[[], None]) -> Deferred[None]:
        """Open, and call C{feed} with every batch of entries that has been committed; call
        C{eased} whenever C{congested} becomes False.

        @raise BackendError: (in the Deferred) it cannot be opened; nothing was changed.
        """

    def keeps(topic: str) -> bool:
        """Whether messages on C{topic} enter the log even when no cursor wants them."""

    def publish(entries: list[Entry], completed: Completed) -> None:
        """Append; C{completed} comes when all are durable (fsynced, or receipted). An entry
        whose origin is known already is not stored and not fed again, and counts as appended.
        """

    def forget(origins: list[Origin], completed: Completed) -> None:
        """From here on these origins are new ones; C{completed} when that is durable."""

    def forget_session(session: str, completed: Completed) -> None:
        """The same for all origins of a session, of every epoch."""

    def origins(session: str, epoch: int) -> Deferred[list[int]]:
        """The packet identifiers of a session's origins that are not forgotten."""

    def cursor(name: str) -> Deferred[Any]:
        """The L{ICursor} of that name, made at the end of the log when there is none; durable
        before the Deferred fires. C{cursor.existed} tells."""

    def delete_cursor(name: str, completed: Completed) -> None:
        """Delete it; entries that nobody else wants go too. A missing one is no error."""

    def position_at(start: str) -> Deferred[Any]:
        """Where history begins for C{earliest}, C{latest}, an ISO 8601 time, an age such as
        C{-1h}, or a position of this log as text.

        @raise ValueError: (in the Deferred) C{start} is none of these.
        """

    def history(topic_filter: str, position: Any, limit: int) -> Deferred[History]:
        """At most C{limit} kept entries behind C{position} that match, oldest first."""

    def stop() -> Deferred[None]:
        """Finish what was published, save the cursors, close."""


class ICursor(Interface):
    """A durable, individually acknowledged position of one session or shared group.

    It is either fetched from or follows the feed. It begins by fetching; once a fetch comes
    back C{live} it follows: each entry of the feed that has it in its audience is its own,
    to be taken with L{take}, until L{pause}.
    """

    name = Attribute("A str.")
    existed = Attribute("Whether it was there before this process opened it. A bool.")
    backlog_messages = Attribute("Entries for it that are not acknowledged, about. An int.")
    backlog_bytes = Attribute("Their bytes, about. An int.")

    def fetch(limit: int, limit_bytes: int) -> Deferred[Fetched]:
        """The next entries behind the last fetched or taken, at least one if there is one;
        first, once after it was opened, those that were not acknowledged (C{redelivered}) and
        those released (C{released}), in order."""

    def take(entry: Entry) -> int:
        """From the feed: it is in flight now. Returns its ordinal, or 0: it will come by
        L{fetch} instead, and the cursor does not follow any more."""

    def pause(before: Entry | None) -> None:
        """Follow no more: what comes at and behind C{before} (C{None}: behind the feed's last
        batch) will be fetched."""

    def rewind() -> None:
        """The session forgets its flights: everything not acknowledged is fetched again."""

    def acknowledge(entries: list[Entry]) -> None:
        """These are done. Saved soon, at the latest by L{IMessageLog.stop}; a crash may lose
        it, and then a message comes again unless it was released: a release is dropped in the
        same write that saves its acknowledgement, so what is done is never sent anew."""

    def release(entries: list[Entry], completed: Completed) -> None:
        """PUBREC was received for these: C{completed} when a restart would know it."""

    def save(completed: Completed) -> None:
        """Make all acknowledgements so far durable."""

    def close() -> None:
        """Keep the place and free the memory. The next L{IMessageLog.cursor} opens it anew."""


class IStateStore(Interface):
    """Keyed records that survive: C{session}, C{subscription}, C{retained} and others.

    On one node puts are durable in the order of the calls, also relative to
    L{IMessageLog.publish} where both seams have one implementation.
    """

    def load(kind: str, found: Callable[[list[tuple[str, bytes]]], None]) -> Deferred[int]:
        """Call C{found} with all records of a kind, some thousands at a time, in order of
        their keys; fires with their number."""

    def put(changes: list[Change], completed: Completed) -> None:
        """Store all or nothing; C{completed} when a restart would find them."""

    def watch(kind: str, changed: Callable[[list[Change]], None]) -> None:
        """Call C{changed} with what *other* nodes put. A store of one node never does."""


class IAuthenticator(Interface):
    """One way to prove who one is with a user name and a password."""

    def authenticate(client_id: str, user_name: str, password: bytes) -> Deferred[bool]:
        """Whether that is so. Trouble in a back end is C{False}, and logged."""


class IAuthorizer(Interface):
    """The one function that says what a client may do [design 3.8]. Pure and quick: verdicts
    are cached by the callers until L{version} changes."""

    version = Attribute("Rises whenever a verdict may have changed (a reload). An int.")
    open = Attribute("Everything is allowed, so that nobody needs to ask. A bool.")

    def may_publish(identity: Identity, topic: str) -> bool:
        """Whether the client may publish to this topic name."""

    def may_subscribe(identity: Identity, topic_filter: str) -> bool:
        """Whether any topic of this filter (without C{$share/…/}) could reach the client."""

    def may_receive(identity: Identity, topic: str) -> bool:
        """Whether a message on this topic name may reach the client, by whatever way."""


class IMechanism(Interface):
    """A method of enhanced authentication [MQTT 5.0, 4.12]."""

    name = Attribute("The Authentication Method, as SCRAM-SHA-256. A str.")

    def begin(client_id: str) -> Any:
        """A new L{IExchange}."""


class IExchange(Interface):
    """One authentication under way: a state machine of challenges and responses."""

    def respond(data: bytes) -> Deferred[tuple[bytes, str | None]]:
        """What the server says to this Authentication Data: (its data, C{None}) to go on, or
        (its last data, the user name) when the client has proved who it is.

        @raise Refused: (in the Deferred) it has not.
        """
