"""What the broker shows of itself: records made for operators, not for the way of messages.

The admin room asks for them page by page and turns them into JSON as they are, so that field
names are what users of C{/api/v1} see. No payload, password or token has a place in them.
"""

from __future__ import annotations

import msgspec


class ShownClient(msgspec.Struct, frozen=True):
    """A session and its connection, if it has one."""

    client_id: str
    connected: bool = False
    user_name: str | None = None
    peer: str = ""
    """Address of the client, "" while it is offline."""
    listener: str = ""
    version: int = 0
    """MQTT protocol level of the connection: 3, 4 or 5; 0 while it is offline."""
    keep_alive: int = 0
    session_expiry: int = 0
    """Seconds; 4294967295 never ends."""
    seconds: float = 0.0
    """How long it has been connected, or offline."""
    subscriptions: int = 0
    in_flight: int = 0
    """QoS 1 and 2 messages to it that are not acknowledged."""
    queued_messages: int = 0
    queued_bytes: int = 0
    """In memory or in the log, waiting for it."""
    discarded: int = 0
    """Messages that it lost because its session was over a limit."""
    paused: str = ""
    """Why nothing is being sent to it right now, as in C{mop_sessions_paused}."""


class ShownSubscription(msgspec.Struct, frozen=True):
    """A subscription; C{topic_filter} as the client wrote it, with C{$share/…/}."""

    client_id: str
    topic_filter: str
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0
    identifier: int = 0
    share_name: str = ""


class ShownRetained(msgspec.Struct, frozen=True):
    """A retained message without its payload."""

    topic: str
    qos: int = 0
    payload_bytes: int = 0
    expires_in: float | None = None
    """Seconds, or nothing when it does not expire."""


class ShownListener(msgspec.Struct, frozen=True):
    """Where clients may connect."""

    name: str
    transport: str
    """C{tcp}, C{tls}, C{ws}, C{wss} or C{unix}."""
    address: str
    connections: int = 0
    certificate_expires: float | None = None
    """Seconds since 1970."""
