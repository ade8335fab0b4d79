"""The wheel, alone, is a working twistd mop; and which code the tests test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from twisted.trial.unittest import SynchronousTestCase

import mop_twisted

CHECKOUT = Path(__file__).resolve().parents[2]
BUILD_FILES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE")


def requirements(name: str, extras: frozenset[str], found: dict[str, Distribution]) -> None:
    """Add a distribution and all that it needs, as they are installed here."""
    key = name.lower().replace("_", "-")
    try:
        wanted = found.get(key) or distribution(name)
    except PackageNotFoundError:
        return
    if key in found and not extras:
        return
    found[key] = wanted
    for text in wanted.requires or ():
        requirement = Requirement(text)
        environments = [{"extra": extra} for extra in (*extras, "")]
        if requirement.marker is None or any(map(requirement.marker.evaluate, environments)):
            requirements(requirement.name, frozenset(requirement.extras), found)


class WheelTests(SynchronousTestCase):
    """What pip install gives a user."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)

    def run_in(self, folder: Path | str, *command: Path | str) -> str:
        """Standard output of a command that must succeed, run without our PYTHONPATH."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "MOP_"))}
        finished = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120
        )
        self.assertEqual(finished.returncode, 0, finished.stdout + finished.stderr)
        return finished.stdout

    def wheel(self) -> Path:
        """The wheel of this checkout."""
        copy = self.folder / "copy"
        copy.mkdir()
        for name in BUILD_FILES:
            if (CHECKOUT / name).exists():
                shutil.copyfile(CHECKOUT / name, copy / name)
        hidden = shutil.ignore_patterns("__pycache__", ".*", "dropin.cache")
        for name in ("mop_twisted", "twisted"):
            shutil.copytree(CHECKOUT / name, copy / name, ignore=hidden)
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
        self.run_in(
            self.folder, *pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", ".", copy
        )
        return next(self.folder.glob("*.whl"))

    def site_packages(self, wheel: Path) -> Path:
        """A folder as pip would make it in an empty environment: the wheel, and the files of the
        distributions that it needs. (Copied: a download would make the test slow and needy.)"""
        site = self.folder / "site-packages"
        site.mkdir()
        with zipfile.ZipFile(wheel) as opened:
            opened.extractall(site)
        metadata = next(site.glob("mop_twisted-*.dist-info"))
        found: dict[str, Distribution] = {}
        for text in Distribution.at(metadata).requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                requirements(requirement.name, frozenset(requirement.extras), found)
        for one in found.values():
            for file in one.files or ():
                if ".." in file.parts or "__pycache__" in file.parts:
                    continue
                target = site / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(file.locate()), target)
        return site

    def test_the_wheel_alone(self) -> None:
        """Installed into an empty environment, the wheel gives twistd a mop: from any folder,
        with Twisted's own plugins still there, and with site-packages that cannot be written."""
        wheel = self.wheel()
        names = zipfile.ZipFile(wheel).namelist()
        self.assertEqual(
            [name for name in names if name.startswith("twisted/")],
            ["twisted/plugins/mop_plugin.py"],
        )
        self.assertIn("mop_twisted/py.typed", names)
        self.assertFalse([n for n in names if n.startswith("tests")])
        site = self.site_packages(wheel)
        program = (
            "import sys; sys.path.insert(0, sys.argv.pop(1))\n"
            "sys.argv[0] = 'twistd'\n"
            "from twisted.scripts.twistd import run\n"
            "run()\n"
        )
        # -S: nothing of the environment that the tests run in.
        twistd = (sys.executable, "-S", "-E", "-c", program, site)
        # Where the plugin cache should be written there is something else: for root, too, to
        # whom a folder's mode means nothing.
        (site / "twisted" / "plugins" / "dropin.cache" / "in-the-way").mkdir(parents=True)
        self.assertIn("--allow-anonymous", self.run_in("/", *twistd, "mop", "--help"))
        every = self.run_in("/", *twistd, "--help")
        self.assertIn("\n    web ", every)
        self.assertIn("\n    mop ", every)
        self.assertIn("the configuration is right", self.run_in("/", *twistd, "mop", "--check"))
        where = (
            "import sys; sys.path.insert(0, sys.argv[1])\n"
            "import mop_twisted.ops.tap as t, twisted.plugins.mop_plugin as p\n"
            "print(t.__file__); print(p.__file__)"
        )
        for file in self.run_in("/", sys.executable, "-S", "-E", "-c", where, site).split():
            self.assertTrue(file.startswith(str(site)), file)


class CodeUnderTestTests(SynchronousTestCase):
    """Which code the tests speak of."""

    def test_it_is_the_checkouts(self) -> None:
        """Tests import the package of the checkout that they lie in, never a stale install."""
        self.assertEqual(Path(mop_twisted.__file__).resolve().parent, CHECKOUT / "mop_twisted")

    def test_in_processes_as_well(self) -> None:
        """A process that a test starts imports the same, from whatever folder."""
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
        finished = subprocess.run(
            [sys.executable, "-c", "import mop_twisted; print(mop_twisted.__file__)"],
            cwd="/",
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(Path(finished.stdout.strip()).resolve().parent, CHECKOUT / "mop_twisted")
