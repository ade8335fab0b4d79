"""Every limit, with a default that is safe on a small machine.

Each is a configuration key of the same name (C{ops/config.py}, docs/reference/options.md).
Sizes are bytes, times are seconds; 0 means "no limit" only where the comment says so.
"""

from __future__ import annotations


class Limits:
    """What one client, one session and one node may use. One instance a node; a reload makes
    a new one and hands it out."""

    __slots__ = (
        "connect_timeout",
        "connecting_per_address",
        "connections",
        "connections_per_address",
        "history_batch",
        "keep_alive_maximum",
        "live_bytes",
        "live_messages",
        "log_bytes",
        "maximum_packet_size",
        "maximum_packet_size_before_connect",
        "node_bytes",
        "output_bytes",
        "receive_maximum",
        "retained_bytes",
        "retained_messages",
        "session_bytes",
        "session_expiry_maximum",
        "session_messages",
        "sessions",
        "subscriptions_per_session",
        "topic_alias_maximum",
        "topic_levels",
        "transient_bytes",
        "transient_messages",
        "user_properties",
        "window_3x",
    )

    def __init__(self) -> None:
        self.maximum_packet_size = 1024 * 1024
        """Largest packet a client may send; told in CONNACK."""
        self.maximum_packet_size_before_connect = 64 * 1024
        """The same until CONNECT is complete."""
        self.connect_timeout = 15.0
        """From the transport's beginning to a complete CONNECT, and to the end of an
        authentication exchange."""
        self.connections = 100_000
        """Clients connected at once, over all listeners."""
        self.connections_per_address = 50_000
        """The same of one IP address."""
        self.connecting_per_address = 10_000
        """Connections of one address that have not completed CONNECT."""
        self.receive_maximum = 16384
        """QoS 1 and 2 PUBLISHes that a client may have in flight to us; told in CONNACK."""
        self.window_3x = 512
        """QoS 1 and 2 PUBLISHes in flight to a 3.x client, which cannot say its own."""
        self.topic_alias_maximum = 64
        """Both ways: what we allow clients, and the most that we use of what they allow."""
        self.keep_alive_maximum = 0
        """0: as the client asks. Else the longest, told as Server Keep Alive; a 3.x client
        that asks for more is held to it all the same."""
        self.session_expiry_maximum = 0xFFFFFFFF
        """The longest that a session is kept; what a client asks beyond is cut to it."""
        self.sessions = 1_000_000
        """Sessions, connected or not."""
        self.subscriptions_per_session = 10_000
        """Filters that one session may subscribe to."""
        self.topic_levels = 128
        """Levels of a topic name or filter."""
        self.user_properties = 4096
        """User properties in one packet."""
        self.session_messages = 2_000_000
        """Messages queued for one persistent session; above, it discards for itself alone."""
        self.session_bytes = 1024 * 1024 * 1024
        """The same in bytes of their payloads and topics."""
        self.transient_messages = 100_000
        """The same for a session that ends with its connection, which lies in memory."""
        self.transient_bytes = 64 * 1024 * 1024
        """The same in bytes of payloads."""
        self.live_messages = 1024
        """Messages that a connected persistent session holds in memory; above, it reads them
        from the log when it gets there."""
        self.live_bytes = 1024 * 1024
        """The same in bytes of payloads."""
        self.output_bytes = 16 * 1024 * 1024
        """Bytes that wait for one client's transport; above, QoS 0 is dropped and counted."""
        self.node_bytes = 1024 * 1024 * 1024
        """Bytes that wait for all transports and in all memory queues together."""
        self.log_bytes = 64 * 1024 * 1024
        """Bytes that wait to be appended; above, publishers are not read."""
        self.retained_messages = 2_000_000
        """Retained messages of the node; above, a new topic is refused with 0x97."""
        self.retained_bytes = 1024 * 1024 * 1024
        """The same in bytes of payloads."""
        self.history_batch = 1000
        """Messages that one read of the history brings at most."""
