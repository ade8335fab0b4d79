"""Log lines: text for people or JSON for machines, one an event, escaped and throttled.

Whatever logs through L{twisted.logger} ends here. An event's name is its C{event} field, and
stable; without one, it is the last part of the namespace. Fields that the format names, and
all others that are plain values, are written; objects are not, so that a packet or a secret
cannot slip through.

The hot path makes no log call at all: a dropped one still costs 5 to 11 microseconds.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import IO, Any, Final

import msgspec
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from zope.interface import implementer

LEVELS: Final = ("debug", "info", "warn", "error", "critical")

_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
"""Controls, line ends of every kind, what reorders or hides text, and half characters."""

LONGEST_FIELD: Final = 1024
LONGEST_MESSAGE: Final = 4096
LONGEST_TRACEBACK: Final = 16384

_LEGACY: Final = "log_legacy"
"""Namespace of events of C{twisted.python.log}."""

_OURS: Final = frozenset(
    {"event", "format", "message", "isError", "time", "system", "failure", "why"}
)
"""Keys of an event that are no fields: ours, and those of C{twisted.python.log}."""


def escape(text: str, longest: int = LONGEST_FIELD) -> str:
    """C{text} in a form that can neither begin a line of its own nor move a terminal's cursor;
    cut at C{longest} characters. [H13]"""
    if len(text) > longest:
        text = text[:longest] + "…"
    return _UNSAFE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


class Throttle:
    """At most C{rate} events of one name a second; the rest is counted."""

    __slots__ = ("_rate", "_windows")

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._windows: dict[str, list[float]] = {}

    def admit(self, name: str, now: float) -> int:
        """-1: not this one. Else how many of the name were left out since the last."""
        window = self._windows.get(name)
        if window is None:
            self._windows[name] = [now, 1, 0]
            return 0
        if not 0 <= now - window[0] < 1:  # a wall clock: it may go back
            suppressed = int(window[2])
            window[:] = [now, 1, 0]
            return suppressed
        if window[1] < self._rate:
            window[1] += 1
            return 0
        window[2] += 1
        return -1


@implementer(ILogObserver)
class LogWriter:
    """Writes events at or above C{level} to C{stream} as C{"text"} or C{"json"}.

    C{level} may be changed at any time. A stream that fails is given up silently for the
    event at hand: there is nowhere to say so.
    """

    def __init__(
        self, stream: IO[str], log_format: str = "text", level: str = "info", rate: int = 20
    ) -> None:
        self._stream = stream
        self._write: Callable[[dict[str, Any], str], str] = _json if log_format == "json" else _text
        self._throttle = Throttle(rate)
        self.level = level

    @property
    def level(self) -> str:
        """The least level that is written."""
        return LEVELS[self._least]

    @level.setter
    def level(self, name: str) -> None:
        self._least = LEVELS.index(name)

    def __call__(self, event: LogEvent) -> None:
        """Write one event, or not."""
        level: str = event.get("log_level", LogLevel.info).name
        if LEVELS.index(level) < self._least:
            return
        now: float = event.get("log_time", 0.0)
        name = _name(event)
        suppressed = self._throttle.admit(f"{level} {name}", now)
        if suppressed < 0:
            return
        line: dict[str, Any] = {
            "ts": _timestamp(now),
            "level": level,
            "event": name,
            "message": escape(_message(event), LONGEST_MESSAGE),
        }
        for key, value in event.items():
            if key.startswith("log_") or key in _OURS or key in line:
                continue
            if isinstance(value, str):
                # A subclass keeps its own form: a Secret shows itself as one.
                text = value if type(value) is str else repr(value)
                line[escape(key)] = escape(text)
            elif value is None or isinstance(value, (bool, int, float)):
                line[escape(key)] = value
        if suppressed:
            line["suppressed"] = suppressed
        try:
            self._stream.write(self._write(line, _traceback(event)))
            self._stream.flush()
        except (OSError, ValueError):
            return


def _name(event: LogEvent) -> str:
    name = event.get("event")
    if isinstance(name, str) and name:
        return escape(name, 64)
    namespace = str(event.get("log_namespace", "log"))
    if namespace == _LEGACY:
        return "twisted"
    return escape(namespace.rpartition(".")[2] or namespace, 64)


def _message(event: LogEvent) -> str:
    if event.get("log_failure") is not None:
        if event.get("log_namespace") == _LEGACY:
            # Its format has the traceback in it, which is shown by itself.
            return str(event.get("why") or "unexpected error")
        if event.get("log_format") is None:
            return "unexpected error"
    return formatEvent(event)


def _traceback(event: LogEvent) -> str:
    failure = event.get("log_failure")
    if failure is None:
        return ""
    try:
        text = str(failure.getTraceback())
    except Exception:
        return "(the traceback cannot be shown)"
    return text[-LONGEST_TRACEBACK:]


def _timestamp(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _text(line: dict[str, Any], traceback: str) -> str:
    message = line["message"]
    parts = [line["ts"], line["level"].upper(), line["event"] + ":", message]
    for key, value in line.items():
        if key in ("ts", "level", "event", "message"):
            continue
        shown = str(value)
        if isinstance(value, str) and shown in message:
            continue  # said already
        parts.append(f'{key}="{shown}"' if " " in shown or not shown else f"{key}={shown}")
    lines = [" ".join(parts)]
    lines.extend("    | " + escape(part) for part in traceback.splitlines())
    return "\n".join(lines) + "\n"


def _json(line: dict[str, Any], traceback: str) -> str:
    if traceback:
        line["traceback"] = [escape(part) for part in traceback.splitlines()]
    return msgspec.json.encode(line).decode() + "\n"


def destination(twistd: Any) -> IO[str] | None:
    """Where C{twistd}'s own options (C{--logfile}, C{--nodaemon}, C{--syslog}, C{--logger}) send
    the log: C{None} where twistd has to do it itself."""
    if twistd is None:
        return sys.stdout
    if twistd.get("syslog") or twistd.get("logger"):
        return None
    name = twistd.get("logfile") or ("-" if twistd.get("nodaemon") else "twistd.log")
    if name == "-":
        return sys.stdout if twistd.get("nodaemon") else None
    from .signals import rotate_on_signal

    return rotate_on_signal(name)
