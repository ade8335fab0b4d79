"""The things that more than one room speaks of: subscriptions, log entries, identities.

Shaped like MQTT 5.0; nothing here knows a version, a transport or a backend.
"""

from __future__ import annotations

from typing import Any, Final

from .codec.packets import Publish

SECONDS_FOR_EVER: Final = 0xFFFFFFFF
"""Session expiry interval that never comes [MQTT 5.0, 3.1.2.11.2]."""


class Identity:
    """Who a client is, once it was let in.

    C{user_name} is what authentication found it to be (a certificate's name, a password
    file's entry), C{None} for an anonymous client; C{listener} is the listener's name.
    """

    __slots__ = ("client_id", "listener", "user_name")

    def __init__(self, client_id: str, user_name: str | None, listener: str = "") -> None:
        self.client_id = client_id
        self.user_name = user_name
        self.listener = listener


class Subscription:
    """One subscription of one session [MQTT 5.0, 3.8.3, 4.7, 4.8].

    C{topic_filter} is what the client asked for, C{pattern} what is matched: the same, or for
    a shared subscription what follows C{$share/group/}. C{group} is that share name or "".
    C{identifier} 0 means none. C{session} is the broker's session that owns it.
    """

    __slots__ = (
        "group",
        "identifier",
        "no_local",
        "pattern",
        "qos",
        "retain_as_published",
        "retain_handling",
        "session",
        "topic_filter",
    )

    def __init__(
        self,
        session: Any,
        topic_filter: str,
        qos: int = 0,
        no_local: bool = False,
        retain_as_published: bool = False,
        retain_handling: int = 0,
        identifier: int = 0,
        group: str = "",
        pattern: str = "",
    ) -> None:
        self.session = session
        self.topic_filter = topic_filter
        self.qos = qos
        self.no_local = no_local
        self.retain_as_published = retain_as_published
        self.retain_handling = retain_handling
        self.identifier = identifier
        self.group = group
        self.pattern = pattern or topic_filter


class Audience:
    """The cursors that an entry is for, interned: entries of one topic share one object while
    its subscriptions stay the same."""

    __slots__ = ("cursors", "key")

    def __init__(self, cursors: tuple[Any, ...]) -> None:
        self.cursors = cursors
        """L{mop_twisted.interfaces.ICursor}s, without repetition."""
        self.key = 0
        """The log's own name for this set; 0 until it has given one."""


class Origin:
    """What makes a publication recognisable: publishing an origin twice stores it once.

    C{session} is a session's name (its client identifier), C{epoch} counts its incarnations
    (a clean start begins a new one), C{packet_id} is the PUBLISH's; 0 is the will.
    """

    __slots__ = ("epoch", "packet_id", "session")

    def __init__(self, session: str, epoch: int, packet_id: int) -> None:
        self.session = session
        self.epoch = epoch
        self.packet_id = packet_id


class Entry:
    """One message in the log, and the opaque token by which a cursor acknowledges it.

    The publisher sets C{publish}, C{audience}, C{origin}, C{kept}, C{retained_copy}; the log
    sets the rest. C{publish} may be C{None} in an entry that only makes an C{origin} durable.
    """

    __slots__ = (
        "audience",
        "kept",
        "ordinal",
        "origin",
        "publish",
        "redelivered",
        "released",
        "retained_copy",
        "sequence",
        "size",
        "token",
    )

    def __init__(
        self,
        publish: Publish | None,
        audience: Audience | None = None,
        origin: Origin | None = None,
        kept: bool = False,
        retained_copy: bool = False,
    ) -> None:
        self.publish = publish
        self.audience = audience
        self.origin = origin
        self.kept = kept
        """History keeps it although no cursor may want it."""
        self.retained_copy = retained_copy
        """A retained message's copy for one new subscription: delivered with RETAIN set."""
        self.sequence = 0
        """Place in the log: rises without end, is never given twice; 0: not in the log."""
        self.ordinal = 0
        """A number that a restart gives this message again for this cursor: packet
        identifiers of persistent sessions are made from it."""
        self.size = 0
        """Bytes that it counts for in limits."""
        self.released = False
        """Fetched again: PUBREC was received, so PUBREL is what is owed, not PUBLISH."""
        self.redelivered = False
        """Fetched again: it may have been sent before, so DUP is set."""
        self.token: Any = None
        """The log's own."""


class Fetched:
    """A batch that a cursor fetched. With C{live} the session has caught up: what comes next
    comes through the feed, right behind the last of these."""

    __slots__ = ("entries", "live")

    def __init__(self, entries: list[Entry], live: bool) -> None:
        self.entries = entries
        self.live = live


class History:
    """A batch of kept messages; read on behind C{position}. With C{live} there is nothing
    older than what the feed brings next. C{assigned} is the last sequence that was given: what
    lies between was published, and is not committed yet."""

    __slots__ = ("assigned", "entries", "live", "position")

    def __init__(self, entries: list[Entry], position: Any, live: bool, assigned: int = 0) -> None:
        self.entries = entries
        self.position = position
        self.live = live
        self.assigned = assigned


class Change:
    """One record of the state store: C{value} C{None} deletes it."""

    __slots__ = ("key", "kind", "value")

    def __init__(self, kind: str, key: str, value: bytes | None) -> None:
        self.kind = kind
        self.key = key
        self.value = value
