"""The words and numbers that a person reads."""

from __future__ import annotations

from typing import Any, Final

_TIMES: Final = {
    "latency_ms": "latency", "late_ms": "late", "ping_ms": "ping", "ack_ms": "PUBACK",
}  # fmt: skip


def number(value: float) -> str:
    """A number as people write it: thousands apart, three figures of what is small."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if float(value).is_integer():
        return f"{value:.0f}"
    return f"{value:.3g}"


def text(result: dict[str, Any]) -> str:
    """What C{mop bench} prints of a result."""
    lines = []

    def line(name: str, words: str) -> None:
        lines.append(f"{name:<14}{words}")

    line(
        "load",
        f"MQTT {result['protocol']} over {result['transport']}, QoS {result['qos']}, "
        f"{result['publishers']} publishers, {result['subscribers']} subscribers, "
        f"{result['size']} bytes, {result['processes']} processes",
    )
    if "connects_per_s" in result:
        line("idle", f"{result['idle']} connections, {number(result['connects_per_s'])} a second")
        if "bytes_per_connection" in result:
            line("", f"{number(result['bytes_per_connection'])} bytes a connection")
    if "retained" in result:
        line("retained", f"{number(result['retained'])} messages")
        line("", f"set: {number(result['publishes_per_s'])} a second")
    if "sessions" in result:
        line(
            "sessions",
            f"{number(result['sessions'])} of ten subscriptions, "
            f"{number(result['sessions_per_s'])} made a second",
        )
        if "bytes_per_session" in result:
            line("", f"{number(result['bytes_per_session'])} bytes a session")
        line("churn", f"{number(result['changes_per_s'])} SUBSCRIBEs a second")
    if "sent" in result:
        line(
            "published",
            f"{number(result['sent'])}, {number(result['publishes_per_s'])} a second",
        )
    if "delivered" in result:
        line(
            "delivered",
            f"{number(result['delivered'])}, {number(result['deliveries_per_s'])} a second",
        )
        line(
            "faults",
            f"{number(result['lost'])} lost, {number(result['duplicates'])} twice, "
            f"{number(result['disorder'])} out of order",
        )
    for key, name in (
        ("latency_ms", "latency"),
        ("late_ms", "late"),
        ("ping_ms", "ping"),
        ("ack_ms", "PUBACK"),
    ):
        if key in result:
            times = ", ".join(f"{what} {number(value)}" for what, value in result[key].items())
            line(name, f"{times} ms")
    if "cpu_us_per_message" in result:
        line(
            "server",
            f"{number(result['cpu_us_per_message'])} µs of CPU a message, "
            f"{number(result['rss_mib'])} MiB resident",
        )
    return "\n".join(lines)
