"""Named points at which a test can have the process die.

With C{MOP_FAILPOINT=name} or C{name:count} in the environment the process kills itself with
SIGKILL the first, or the count-th, time that it comes to that point: no handler runs, nothing is
flushed. Without it L{reach} does nothing. It is called once a group of messages, never once a
message.
"""

from __future__ import annotations

import os
import signal
from typing import Final

VARIABLE: Final = "MOP_FAILPOINT"

_name, _, _count = os.environ.get(VARIABLE, "").partition(":")
_left = int(_count) if _count.isdigit() else 1


def reach(name: str) -> None:
    """Die here, if a test said so."""
    global _left
    if name == _name:
        _left -= 1
        if _left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
