"""C{python -m mop_twisted.ops.bench}: the same as C{mop bench}."""

from __future__ import annotations

import sys

from . import run

sys.exit(run(sys.argv[1:]))
