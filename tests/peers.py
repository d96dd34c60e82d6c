"""Debian's programs that tests talk to: `make peers` installs them, and what is missing is skipped by name."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

REMEDY = "not installed: make peers"


def program(name: str) -> str | None:
    """The path of a program, never one of the virtual environment: pynetdicom's `storescu` is not DCMTK's."""
    own = Path(sys.executable).parent
    # A service's program lies where a user's PATH does not look.
    places = [*os.environ.get("PATH", os.defpath).split(os.pathsep), "/usr/local/sbin", "/usr/sbin"]
    return shutil.which(name, path=os.pathsep.join(place for place in places if Path(place) != own))


def missing(*names: str) -> list[str]:
    """Those of the programs, or files given by their whole path, that this machine lacks."""
    return [name for name in names if not (Path(name).exists() if os.path.isabs(name) else program(name))]


def needs(*names: str) -> pytest.MarkDecorator:
    """The mark that skips a test, or a module as its `pytestmark`, where one of the programs or files is missing."""
    lacking = missing(*names)
    return pytest.mark.skipif(bool(lacking), reason=f"{', '.join(lacking)} {REMEDY}")


def skipped_line(reasons: Iterable[str]) -> str | None:
    """One line that names the missing programs of all skipped tests, with their number; None if none was missing."""
    counts = Counter(reason.removeprefix("Skipped: ") for reason in reasons if reason.endswith(REMEDY))
    if not counts:
        return None
    names = sorted({name for reason in counts for name in reason.removesuffix(f" {REMEDY}").split(", ")})
    return f"{counts.total()} tests skipped for want of {', '.join(names)}: make peers installs them"
