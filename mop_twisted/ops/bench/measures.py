"""What C{scripts/bench} measures, and the bar of each figure."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct


class Figure(Struct, frozen=True):
    """One number of a result, and what it is held to.

    C{key} is its name in the result, a dot leading into a part; C{at_least} or C{at_most} bounds
    it, or with C{relative} its ratio to the yardstick's.
    """

    key: str
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    relative: bool = True


class Measure(Struct, frozen=True):
    """A load on servers (or something C{inside} one process), and the figures that come of it.

    C{beside} is another measure of this gateway, or "bare log", that it is compared with instead
    of another server; C{mqload} are the arguments by which mqload does the same.
    """

    name: str
    what: str
    scenario: str = ""
    figures: tuple[Figure, ...] = ()
    transport: str = "tcp"
    options: dict[str, Any] = {}
    mqload: tuple[str, ...] = ()
    beside: str = ""
    inside: str = ""
    alone: bool = False
    """Whether this gateway alone is measured: it takes long."""
    usual: bool = True
    """Whether it is measured when nothing is named."""


RATE: Final = "deliveries_per_s"
CPU: Final = "cpu_us_per_message"
P50: Final = "latency_ms.p50"
IDLE_BYTES: Final = 5 * 1024
IDLE_BYTES_TLS: Final = 28 * 1024

_MQLOAD: Final = {
    "qos0": "-qos 0 -pubs 4 -subs 1 -count 50000",
    "qos1": "-qos 1 -pubs 4 -subs 1 -count 25000 -window 100",
    "qos2": "-qos 2 -pubs 4 -subs 1 -count 5000 -window 50",
    "fan-out": "-qos 0 -pubs 1 -subs 100 -count 2000",
    "pairs": "-qos 1 -pubs 100 -subs 100 -topics 100 -filter one -rate 2000 -count 60",
    "idle": "-idle 5000 -count 10",
}
_SCENARIOS: Final = {
    "qos0": ("qos0-fan-in", "QoS 0, 4 to 1"),
    "qos1": ("qos1-fan-in", "QoS 1, 4 to 1"),
    "qos2": ("qos2-fan-in", "QoS 2, 4 to 1"),
    "fan-out": ("fan-out", "QoS 0, 1 to 100"),
    "pairs": ("pairs", "QoS 1, 100 pairs, 2,000/s"),
    "idle": ("idle", "5,000 idle connections"),
}


def _both(name: str, transport: str, figures: tuple[Figure, ...], usual: bool = True) -> Measure:
    scenario, what = _SCENARIOS[name]
    suffix = "" if transport == "tcp" else f"-{transport}"
    over = "" if transport == "tcp" else f" over {'TLS' if transport == 'tls' else 'WebSocket'}"
    return Measure(
        name=name + suffix,
        what=what + over,
        scenario=scenario,
        figures=figures,
        transport=transport,
        mqload=tuple(_MQLOAD[name].split()),
        usual=usual,
    )


def _flow(bar: float | None) -> tuple[Figure, ...]:
    return (Figure(RATE, "/s", at_least=bar), Figure(CPU, "µs CPU a message"))


def _paced(bar: float | None) -> tuple[Figure, ...]:
    return (
        Figure(P50, "ms p50", at_most=bar),
        Figure(CPU, "µs CPU a message", at_most=bar),
        Figure("latency_ms.p99", "ms p99"),
    )


def _weight(bar: int) -> tuple[Figure, ...]:
    return (
        Figure("bytes_per_connection", "bytes a connection", at_most=bar, relative=False),
        Figure("connects_per_s", "connects/s"),
    )


MEASURES: Final = (
    _both("qos0", "tcp", _flow(2.5)),
    _both("qos1", "tcp", _flow(2.5)),
    _both("qos2", "tcp", _flow(2.5)),
    _both("fan-out", "tcp", _flow(6.0)),
    _both("pairs", "tcp", _paced(2.5)),
    _both("idle", "tcp", _weight(IDLE_BYTES)),
    _both("qos0", "tls", _flow(2.5)),
    _both("qos1", "tls", _flow(2.5)),
    _both("qos2", "tls", _flow(2.5)),
    _both("fan-out", "tls", _flow(2.5)),
    _both("pairs", "tls", _paced(3.0)),
    _both("idle", "tls", _weight(IDLE_BYTES_TLS)),
    _both("qos0", "ws", _flow(None)),
    _both("qos1", "ws", _flow(None)),
    _both("qos2", "ws", _flow(None)),
    _both("fan-out", "ws", _flow(None)),
    _both("pairs", "ws", _paced(None)),
    Measure(
        name="persistent",
        what="QoS 1 to a persistent session, window 1000",
        scenario="persistent",
        figures=(
            Figure(RATE, "/s", at_least=0.4),
            Figure(RATE, "/s", at_least=40_000, relative=False),
        ),
        beside="bare log",
    ),
    Measure(
        name="persistent-qos2",
        what="QoS 2 between persistent sessions",
        scenario="persistent-qos2",
        figures=(Figure(RATE, "/s"), Figure(CPU, "µs CPU a message")),
    ),
    Measure(
        name="fan-out-clean",
        what="QoS 1, 1 to 1,000 clean sessions",
        scenario="fan-out-clean",
        figures=(Figure(RATE, "/s"),),
    ),
    Measure(
        name="fan-out-persistent",
        what="QoS 1, 1 to 1,000 persistent sessions",
        scenario="fan-out-persistent",
        figures=(Figure(RATE, "/s", at_least=0.3),),
        beside="fan-out-clean",
    ),
    Measure(
        name="million-subscriptions",
        what="100,000 sessions × 10 filters, in the router",
        inside="million-subscriptions",
        figures=(
            Figure("rss_mb", "MB", at_most=900, relative=False),
            Figure("match_us", "µs a cold match", at_most=30, relative=False),
            Figure("changes_per_s", "changes/s meanwhile", at_least=990, relative=False),
        ),
    ),
    Measure(
        name="sessions",
        what="100,000 persistent sessions × 10 filters, in the server",
        scenario="sessions",
        options={"keep": True},
        alone=True,
        figures=(
            Figure("rss_mb", "MB", at_most=900, relative=False),
            Figure("sessions_per_s", "sessions made/s"),
            Figure(CPU, "µs CPU a new topic"),
            Figure("changes_per_s", "SUBSCRIBEs/s meanwhile"),
            Figure("ack_ms.p99", "ms p99 PUBACK"),
        ),
        usual=False,
    ),
    Measure(
        name="retained-million",
        what="a million retained messages to #, beside PINGREQs",
        scenario="retained-million",
        figures=(
            Figure("ping_ms.max", "ms worst PINGRESP", at_most=50, relative=False),
            Figure(RATE, "/s"),
            Figure("publishes_per_s", "set/s"),
            Figure("bytes_per_message", "bytes a message"),
        ),
        usual=False,
    ),
)
