"""Whether the node can do its work, check by check.

Knows nothing of what is checked: the composition root adds checks by name (listeners, log,
state). Asked on every C{/readyz}, so a check looks at what is known already and never waits.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

Check = Callable[[], str | None]
"""C{None}: it is well. Else why not, in words that may be shown to whoever may read metrics."""


def is_true(question: Callable[[], bool], otherwise: str) -> Check:
    """The check that C{question} says yes; C{otherwise} is said when it does not."""
    return lambda: None if question() else otherwise


class Readiness:
    """Named checks, in the order in which they were added."""

    log = Logger()

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}

    def add(self, name: str, check: Check) -> None:
        """Add a check, or replace the one of that name."""
        self._checks[name] = check

    def remove(self, name: str) -> None:
        """Take a check away; an unknown name is no error."""
        self._checks.pop(name, None)

    def examine(self) -> dict[str, str | None]:
        """What every check says now. One that raises is not well, and logged: its error may
        hold what nobody should read over HTTP."""
        found: dict[str, str | None] = {}
        for name, check in self._checks.items():
            try:
                found[name] = check()
            except Exception:
                self.log.failure("readiness check {name} failed", name=name)
                found[name] = "the check itself failed"
        return found

    @property
    def ready(self) -> bool:
        """Whether all is well. Without any check it is not: nothing has been started."""
        found = self.examine()
        return bool(found) and all(why is None for why in found.values())
