"""What MQTT 3.1, 3.1.1 and 5.0 mean differently, as questions with three sets of answers.

Code above the codec asks a dialect a question and never asks for the number. How the versions
differ in bytes is the codec's business, how in codes that of C{reasons.py}.
"""

from __future__ import annotations

from typing import Final, final

from ..codec.packets import Connect
from ..codec.properties import (
    MAXIMUM_PACKET_SIZE,
    RECEIVE_MAXIMUM,
    REQUEST_PROBLEM_INFORMATION,
    REQUEST_RESPONSE_INFORMATION,
    SESSION_EXPIRY_INTERVAL,
    TOPIC_ALIAS_MAXIMUM,
)
from ..limits import Limits
from ..model import SECONDS_FOR_EVER


@final
class Dialect:
    """One version's meaning. C{version} is for the codec alone."""

    __slots__ = ("has_properties", "name", "version")

    def __init__(self, version: int, name: str) -> None:
        self.version = version
        self.name = name
        self.has_properties = version == 5
        """Also: whether failures have reason codes of their own."""

    @property
    def may_send_disconnect(self) -> bool:
        """Whether a server may say DISCONNECT; else it closes."""
        return self.has_properties

    @property
    def may_refuse_publish(self) -> bool:
        """Whether an acknowledgement can say no; else the connection is closed, since a
        withheld acknowledgement is never asked for again."""
        return self.has_properties

    @property
    def knows_assigned_identifier(self) -> bool:
        """Whether CONNACK can tell a client the identifier it was given."""
        return self.has_properties

    def session_expiry(self, connect: Connect) -> int:
        """Seconds that the session outlives its connection.

        3.x: a clean session ends with its connection, any other never [MQTT 3.1.1, 3.1.2.4].
        """
        if self.has_properties:
            return int(connect.properties.get(SESSION_EXPIRY_INTERVAL, 0))
        # [MQTT311-3.1.2-5] [MQTT311-3.1.2-6]
        return 0 if connect.clean_start else SECONDS_FOR_EVER

    def receive_maximum(self, connect: Connect, limits: Limits) -> int:
        """QoS 1 and 2 PUBLISHes that may be in flight to the client at once."""
        if self.has_properties:
            # [MQTT5-4.9.0-1]
            return int(connect.properties.get(RECEIVE_MAXIMUM, 65535))
        return limits.window_3x

    def maximum_packet_size(self, connect: Connect) -> int:
        """The largest packet that the client takes; 0 is any."""
        return int(connect.properties.get(MAXIMUM_PACKET_SIZE, 0))

    def topic_alias_maximum(self, connect: Connect) -> int:
        """The highest topic alias that we may use towards the client; 0 is none."""
        return int(connect.properties.get(TOPIC_ALIAS_MAXIMUM, 0))

    def wants_problem_information(self, connect: Connect) -> bool:
        """Whether Reason String and User Properties are welcome on every packet."""
        return bool(connect.properties.get(REQUEST_PROBLEM_INFORMATION, 1))

    def wants_response_information(self, connect: Connect) -> bool:
        """Whether the client asks for Response Information in CONNACK."""
        return bool(connect.properties.get(REQUEST_RESPONSE_INFORMATION, 0))


MQTT_3_1: Final = Dialect(3, "MQTT 3.1")
MQTT_3_1_1: Final = Dialect(4, "MQTT 3.1.1")
MQTT_5: Final = Dialect(5, "MQTT 5.0")

_DIALECTS: Final = {3: MQTT_3_1, 4: MQTT_3_1_1, 5: MQTT_5}


def dialect_of(version: int) -> Dialect:
    """The dialect of a protocol level. A refusal of a level that we do not know is written in
    the nearest that we do."""
    return _DIALECTS.get(version) or (MQTT_5 if version > 5 else MQTT_3_1_1)
