"""Everything that can go wrong, as one tree::

    MopError
    ├─ PeerError            the client broke the protocol: its connection ends
    │  ├─ MalformedPacket 0x81 · ProtocolBreach 0x82 · UnsupportedVersion 0x84
    │  ├─ ReceiveMaximumExceeded 0x93 · TopicAliasInvalid 0x94 · PacketTooLarge 0x95
    │  ├─ ClientIdentifierNotValid 0x85 · KeepAliveExceeded 0x8D
    │  └─ TopicNameInvalid 0x90 · TopicFilterInvalid 0x8F · AnswersNotRead 0x97
    ├─ Refused              policy says no: a reason code, the connection may live
    ├─ BackendError         the log or the store could not do it
    │  └─ StoreUnavailable · StoreFull · StoreCorrupt · SchemaTooNew
    ├─ ConfigError          raised before anything listens; names file, key and reason
    └─ MisuseError          our own code asked for the impossible: a bug

A class knows its reason code; nobody passes bytes around.
"""

from __future__ import annotations

from .reasons import ReasonCode


class MopError(Exception):
    """Whatever this package raises on purpose."""


class PeerError(MopError):
    """The client broke the protocol; the connection ends with C{reason}."""

    reason: ReasonCode = ReasonCode.PROTOCOL_ERROR

    def __init__(self, message: str, clause: str = "") -> None:
        super().__init__(message)
        self.clause = clause


class MalformedPacket(PeerError):
    """Bytes that are no MQTT packet [MQTT 5.0, 4.13.1]."""

    reason = ReasonCode.MALFORMED_PACKET


class ProtocolBreach(PeerError):
    """A well-formed packet at the wrong time or with a forbidden value."""

    reason = ReasonCode.PROTOCOL_ERROR


class UnsupportedVersion(PeerError):
    """A CONNECT of a protocol name or level that we do not speak."""

    reason = ReasonCode.UNSUPPORTED_PROTOCOL_VERSION


class ClientIdentifierNotValid(PeerError):
    """A client identifier that the version or our limits forbid."""

    reason = ReasonCode.CLIENT_IDENTIFIER_NOT_VALID


class ReceiveMaximumExceeded(PeerError):
    """More QoS 1 and 2 PUBLISHes at once than we allowed."""

    reason = ReasonCode.RECEIVE_MAXIMUM_EXCEEDED


class TopicAliasInvalid(PeerError):
    """A topic alias of 0, over the maximum, or unknown."""

    reason = ReasonCode.TOPIC_ALIAS_INVALID


class TopicNameInvalid(PeerError):
    """A topic name with a wildcard, or otherwise not publishable."""

    reason = ReasonCode.TOPIC_NAME_INVALID


class TopicFilterInvalid(PeerError):
    """A topic filter that breaks the rules of MQTT 5.0 section 4.7."""

    reason = ReasonCode.TOPIC_FILTER_INVALID


class PacketTooLarge(PeerError):
    """A packet over our maximum packet size."""

    reason = ReasonCode.PACKET_TOO_LARGE


class AnswersNotRead(PeerError):
    """A client that goes on asking and does not read what it is answered."""

    reason = ReasonCode.QUOTA_EXCEEDED


class KeepAliveExceeded(PeerError):
    """No complete packet within one and a half times the keep alive."""

    reason = ReasonCode.KEEP_ALIVE_TIMEOUT


class Refused(MopError):
    """Policy says no, with C{reason}; whether the connection lives, the caller knows."""

    def __init__(self, reason: ReasonCode, message: str = "") -> None:
        super().__init__(message or reason.name)
        self.reason = reason


class BackendError(MopError):
    """The log or the state store could not do what it was asked."""

    reason: ReasonCode = ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR


class StoreUnavailable(BackendError):
    """It does not answer, or a write failed in a way that leaves its fate unknown."""


class StoreFull(BackendError):
    """Disk or quota is used up; deleting still works."""

    reason = ReasonCode.QUOTA_EXCEEDED


class StoreCorrupt(BackendError):
    """What was read is not what was written."""


class SchemaTooNew(BackendError):
    """The data was written by a newer release; this one does not touch it."""


class ConfigError(MopError):
    """C{where} (file, key or option) is wrong, and C{why}."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{where}: {why}")
        self.where = where
        self.why = why


class MisuseError(MopError):
    """Our own code asked a machine for what it cannot do."""
