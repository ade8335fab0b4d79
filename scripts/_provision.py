"""Brings the virtual environment up to date with the checkout. Used by the scripts here.

    python _provision.py VENV [EXTRA]

Installs the project, not editable (setuptools' default editable mode hides the twistd
plugin), whenever the sources differ from what was installed last; with EXTRA, its packages
too. Says what it does on standard error; when nothing changed it says nothing and takes a
tenth of a second. Knows nothing but the standard library.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
BUILD_FILES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE")
SOURCE_FOLDERS = ("mop_twisted", "twisted")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def sources() -> list[Path]:
    """Whatever ends in the wheel or decides what does."""
    found = [CHECKOUT / name for name in BUILD_FILES if (CHECKOUT / name).exists()]
    for folder in SOURCE_FOLDERS:
        for parent, folders, names in os.walk(CHECKOUT / folder):
            folders[:] = [f for f in folders if f != "__pycache__" and not f.startswith(".")]
            found.extend(
                Path(parent, name)
                for name in names
                if not name.endswith(".pyc") and name != "dropin.cache"
            )
    return sorted(found)


def fingerprint(paths: list[Path]) -> str:
    """Changes when a file's name or content does: times lie after a checkout."""
    digest = hashlib.sha256()
    for path in paths:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(CHECKOUT)}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def run(command: list[str | Path]) -> None:
    # Our standard output is the command's that follows: nothing of pip's may get into it.
    finished = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    if finished.returncode:
        say(f"failed with status {finished.returncode}: {' '.join(map(str, command))}")
        raise SystemExit(finished.returncode)


def install(python: Path, extra: str, with_dependencies: bool) -> None:
    """Build from a copy: a build folder in the checkout would keep deleted modules alive."""
    pip: list[str | Path] = [python, "-m", "pip", "--disable-pip-version-check", "install"]
    with tempfile.TemporaryDirectory(prefix="mop-build-") as folder:
        copy = Path(folder, "mop_twisted")
        for source in sources():
            target = copy / source.relative_to(CHECKOUT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        if with_dependencies:
            # One setuptools in the environment builds every later change without a download.
            run([*pip, "--quiet", "setuptools >= 77"])
            run([*pip, "--quiet", f"{copy}[{extra}]" if extra else str(copy)])
        run([*pip, "--quiet", "--force-reinstall", "--no-deps", "--no-build-isolation", copy])


def main(arguments: list[str]) -> None:
    folder = Path(arguments[0]).absolute()
    extra = arguments[1] if len(arguments) > 1 else ""
    folder.mkdir(parents=True, exist_ok=True)
    stamp = folder / "mop-installed.json"
    python = folder / "bin" / "python"
    with open(folder / "mop-installed.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two scripts at once: the second waits
        try:
            installed = json.loads(stamp.read_text())
        except (OSError, ValueError):
            installed = {}
        # An environment of another Python, or one that was moved, does not work.
        made = [*sys.version_info[:2], str(folder)]
        if installed and installed.get("made") != made:
            installed = {}
        if not python.exists() or not installed:
            say(f"making a virtual environment in {folder} (Python {sys.version.split()[0]})")
            venv.create(folder, with_pip=True, clear=False)
        dependencies = fingerprint(
            [CHECKOUT / name for name in BUILD_FILES[:2] if (CHECKOUT / name).exists()]
        )
        wanted = {
            "sources": fingerprint(sources()),
            "dependencies": dependencies,
            "made": made,
        }
        extras = installed.get("extras", [])
        same_dependencies = installed.get("dependencies") == dependencies
        complete = same_dependencies and (not extra or extra in extras)
        if complete and installed.get("sources") == wanted["sources"]:
            return
        stamp.unlink(missing_ok=True)
        if complete:
            say("the sources changed: installing mop_twisted again")
        else:
            say("installing mop_twisted and what it needs" + (f" [{extra}]" if extra else ""))
        install(python, extra, not complete)
        kept = extras if same_dependencies else []
        wanted_extras = sorted({*kept, extra} - {""})
        stamp.write_text(json.dumps({**wanted, "extras": wanted_extras}))


if __name__ == "__main__":
    main(sys.argv[1:])
