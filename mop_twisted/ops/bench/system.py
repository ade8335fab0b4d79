"""What the operating system allows us, and what our children are told."""

from __future__ import annotations

import contextlib
import os
import resource
from pathlib import Path
from typing import Final

PACKAGE_PARENT: Final = str(Path(__file__).resolve().parents[3])


def child_environment() -> dict[str, str]:
    """Ours, so that children find the same package as we did, wherever they are started."""
    path = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": PACKAGE_PARENT + (os.pathsep + path if path else "")}


def raise_open_files() -> int:
    """Allow as many open files as may be; returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
