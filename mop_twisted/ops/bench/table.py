"""Figures beside a yardstick's: the table, for terminals and for the documentation."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, structs

from .measures import RATE, Figure, Measure
from .report import number


class Row(Struct, frozen=True):
    """One line: C{ok} is C{None} where there is no bar, or nothing to compare with."""

    name: str
    what: str
    unit: str
    ours: float | None
    theirs: float | None
    beside: str
    ratio: float | None
    bar: str
    ok: bool | None

    def as_json(self) -> dict[str, Any]:
        """It, for JSON."""
        return structs.asdict(self)


def look_up(result: dict[str, Any] | None, key: str) -> float | None:
    """The figure with that name, a dot leading into a part; C{None} where it is missing."""
    found: Any = result
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return float(found) if isinstance(found, int | float) else None


def row(
    measure: Measure,
    figure: Figure,
    ours: dict[str, Any],
    theirs: dict[str, Any] | None,
    beside: str,
) -> Row:
    """The line of one figure."""
    mine = look_up(ours, figure.key)
    other = look_up(theirs, figure.key)
    ratio = mine / other if mine is not None and other else None
    judged = ratio if figure.relative else mine
    bar = ""
    ok: bool | None = None
    sign = "×" if figure.relative else ""
    if figure.at_least is not None:
        bar = f"≥ {number(figure.at_least)}{sign}"
        ok = None if judged is None else judged >= figure.at_least
    elif figure.at_most is not None:
        bar = f"≤ {number(figure.at_most)}{sign}"
        ok = None if judged is None else judged <= figure.at_most
    lost = look_up(ours, "lost")
    if figure.key == RATE and lost:
        # A rate of what did not arrive is none.
        ok = False
        bar = f"{bar} ({number(lost)} lost)".lstrip()
    return Row(
        name=measure.name,
        what=measure.what,
        unit=figure.unit,
        ours=mine,
        theirs=other,
        beside=beside if other is not None else "",
        ratio=ratio,
        bar=bar,
        ok=ok,
    )


def _cells(made: Row) -> tuple[str, ...]:
    return (
        "" if made.ours is None else number(made.ours),
        "" if made.theirs is None else number(made.theirs),
        made.beside,
        "" if made.ratio is None else f"{made.ratio:.2f}×",
        made.bar,
        {True: "ok", False: "below", None: ""}[made.ok],
    )


_HEADS = ("this", "yardstick", "which", "ratio", "bar", "")


def plain(rows: list[Row], heading: bool = True) -> list[str]:
    """Lines for a terminal."""
    widths = (12, 12, 15, 8, 10, 6)
    lines = []

    def line(name: str, unit: str, cells: tuple[str, ...]) -> None:
        padded = (f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        lines.append(f"{name:<22}{unit:<20}{''.join(padded)}".rstrip())

    if heading:
        line("load", "", _HEADS)
    for made in rows:
        line(made.name, made.unit, _cells(made))
    return lines


def markdown(rows: list[Row], where: dict[str, Any]) -> str:
    """The table and what it depends on, for the documentation."""
    lines = [
        "| load | figure | this | yardstick | which | ratio | bar | |",
        "|---|---|---|---|---|---|---|---|",
        *(
            "| " + " | ".join((made.what, made.unit, *_cells(made))) + " |"
            for made in rows
        ),
        "",
        "Measured with "
        + f"{where['generator'].rpartition('/')[2]}, {where['gateway']}, {where['yardstick']}; "
        + f"{where['cores']} cores ({where['cpu']}), Linux {where['kernel']}, file system "
        + f"{where['file_system']}, SQLite {where['sqlite']} ({where['pragmas']}); "
        + f"median of {where['rounds']} rounds.",
    ]  # fmt: skip
    return "\n".join(lines)
