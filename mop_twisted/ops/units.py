"""Sizes and times as people write them: C{1MiB}, C{15s}, C{7d}.

Pure. Sizes are bytes; with C{kB}, C{MB} … they are decimal, with C{KiB}, C{MiB} … binary, as
IEC 80000-13 has them. Times are seconds.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

_NUMBER: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", re.ASCII)

SIZES: Final = {
    "": 1,
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "tb": 1000**4,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
    "tib": 1024**4,
}

TIMES: Final = {
    "": 1.0,
    "ms": 0.001,
    "s": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "w": 7 * 86400.0,
}


class Size(int):
    """Bytes."""


class Duration(float):
    """Seconds."""


class Secret(str):
    """A word that neither a log nor a traceback may show. [H26]"""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'…'"


def size(value: object) -> Size:
    """Bytes, from an integer or text such as C{"64KiB"}.

    @raise ValueError: it is neither, or negative.
    """
    number, unit = _split(value, 'a size such as 65536, "64KiB" or "1GB"')
    factor = SIZES.get(unit.lower())
    if factor is None:
        raise ValueError(f"no unit of size: {unit!r} (B, kB, MB, GB, TB, KiB, MiB, GiB, TiB)")
    return Size(round(number * factor))


def duration(value: object) -> Duration:
    """Seconds, from a number or text such as C{"15s"} or C{"7d"}.

    @raise ValueError: it is neither, or negative.
    """
    number, unit = _split(value, 'a time such as 15, "15s", "10m", "1h" or "7d"')
    factor = TIMES.get(unit.lower())
    if factor is None:
        raise ValueError(f"no unit of time: {unit!r} (ms, s, m, h, d, w)")
    return Duration(float(number) * factor)


def _split(value: object, wanted: str) -> tuple[Fraction, str]:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"expected {wanted}, not {type(value).__name__}")
    if not isinstance(value, str):
        if not 0 <= value < 2**63:  # not a number is refused here, too
            raise ValueError(f"expected {wanted}, not {value}")
        return Fraction(value), ""
    match = _NUMBER.fullmatch(value)
    if match is None:
        raise ValueError(f"expected {wanted}, not {value!r}")
    number = Fraction(match[1])  # exact: a float has 53 bits, a size 63
    if number >= 2**63:
        raise ValueError(f"{value!r} is too much")
    return number, match[2]


def describe_size(number: int) -> str:
    """The shortest exact way to write so many bytes."""
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if number and number % factor == 0:
            return f"{number // factor}{unit}"
    return str(number)


def describe_duration(seconds: float) -> str:
    """The shortest exact way to write so many seconds."""
    for unit, factor in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds and seconds % factor == 0:
            return f"{int(seconds // factor)}{unit}"
    return f"{seconds:g}s"
