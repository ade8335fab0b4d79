"""CPU time and memory of other processes, as /proc has it (Linux).

Descendants count: a server may work in children.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from msgspec import Struct


class Usage(Struct, frozen=True):
    """Of some processes together: seconds of CPU, bytes resident."""

    cpu: float = 0.0
    resident: int = 0


def _stat(process: int) -> list[str]:
    with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:
        # The name is in brackets and may hold anything, brackets too.
        return file.read().rpartition(")")[2].split()


def family(roots: Iterable[int]) -> set[int]:
    """These processes and all their descendants."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError, IndexError):
                parents[int(name)] = int(_stat(int(name))[1])
    found = set(roots)
    for process in parents:
        line = []
        at = process
        while at in parents and at not in found:
            line.append(at)
            at = parents[at]
        if at in found:
            found.update(line)
    return found & parents.keys()


def _cpu(process: int) -> float:
    """Seconds. The scheduler counts nanoseconds a thread; where it does not, clock ticks do."""
    total = 0
    with contextlib.suppress(OSError, ValueError, IndexError):
        for thread in os.listdir(f"/proc/{process}/task"):
            with (
                contextlib.suppress(FileNotFoundError),
                open(f"/proc/{process}/task/{thread}/schedstat", encoding="ascii") as file,
            ):
                total += int(file.read().split()[0])
    if total:
        return total / 1e9
    words = _stat(process)
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def usage(roots: Iterable[int]) -> Usage:
    """Of these processes and their descendants; those that are gone count nothing."""
    cpu = 0.0
    resident = 0
    page = os.sysconf("SC_PAGE_SIZE")
    for process in family(roots):
        with contextlib.suppress(OSError, IndexError):
            cpu += _cpu(process)
            resident += int(_stat(process)[21]) * page
    return Usage(cpu, resident)
