"""A call of the ``verdiff`` program in a process of its own; nothing of Slicer or verdiff is imported here.

verdiff's packages (numpy, onnxruntime) never meet those of Slicer's Python: they stay in verdiff's own environment.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# What Slicer's launcher sets for its own Python and libraries, and what would break another's.
_SLICERS_OWN = (
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONNOUSERSITE",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "QT_PLUGIN_PATH",
)
# Exit codes with which a mask is there: done, nothing was found, and a mask unlike those of the training.
WITH_A_MASK = (0, 11, 14)
# A process that was asked to end is given this long.
_GRACE_SECONDS = 5.0


class CallError(Exception):
    """What the user is told: what was found, what is expected and what to do, a line each."""


@dataclass(frozen=True)
class Settings:
    """What the user chose.

    Attributes:
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        budget_ms: The milliseconds that the networks may take; None for all that they need.
        model: Name or path of a model; None is the default one.
        vertebrae: A segment for each vertebra and disc instead of one a structure.
        lowest: Level of the lowest vertebra in the scan; None leaves it to the picture.
        force: Go on with a scan that does not look like what the model was trained on.
    """

    device: str = "cpu"
    budget_ms: int | None = None
    model: str | None = None
    vertebrae: bool = True
    lowest: str | None = None
    force: bool = False


def find_program(stated: str = "", environment: Mapping[str, str] | None = None) -> str:
    """The program ``verdiff``: the one that was stated (it, or the folder of its environment), else that on the PATH.

    Raises:
        CallError: There is none.
    """
    path = (os.environ if environment is None else environment).get("PATH")
    names = ("verdiff", "verdiff.exe")
    if stated:
        # No shell reads the field, so that a ~ is still there.
        place = Path(os.path.expanduser(stated))
        tried = (
            [place / part / name for part in ("", "bin", "Scripts") for name in names] if place.is_dir() else [place]
        )
        found = next((str(each) for each in tried if each.is_file() and os.access(each, os.X_OK)), None)
    else:
        found = shutil.which("verdiff", path=path)
    if found is None:
        where = f"no program verdiff at {stated}" if stated else "no program verdiff on the PATH"
        raise CallError(
            f"{where}\nexpected: an installation of verdiff in an environment of its own, with the extras [cpu,anatomy]"
            "\nto do: install it as docs/slicer.md says, and name its program or its folder in the module's settings"
        )
    return found


def command(program: str, scan: Path, mask: Path, settings: Settings) -> list[str]:
    """The command line that segments ``scan`` into ``mask``, a ``.seg.nrrd``."""
    words = [program, "infer", str(scan), "-o", str(mask), "--json", "--progress", "--device", settings.device]
    if settings.budget_ms is not None:
        words += ["--budget-ms", str(settings.budget_ms)]
    if settings.model:
        words += ["--model", settings.model]
    if settings.vertebrae:
        words += ["--instances", "--stats"]
        if settings.lowest:
            words += ["--lowest", settings.lowest]
    return [*words, *(["--force"] if settings.force else [])]


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without what Slicer's launcher put into it."""
    return {name: value for name, value in environment.items() if name not in _SLICERS_OWN}


@dataclass
class Progress:
    """How far a call is.

    Attributes:
        doing: What it does, such as ``"segmenting"``.
        share: The part of that which is done, 0 to 1; None where nobody knows.
        said: What else it said, line by line.
    """

    doing: str = "starting"
    share: float | None = None
    said: list[str] = field(default_factory=list)


class Call:
    """A running process, whose output two threads read so that it never waits for a reader.

    Args:
        words: The command line.
        environment: Its environment; :func:`clean_environment` of Slicer's.

    Raises:
        CallError: It cannot be started.
    """

    def __init__(self, words: list[str], environment: Mapping[str, str]) -> None:
        # On Windows no console window appears.
        flags = getattr(subprocess, "CREATE_NO_WINDOW", 0)
        try:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(environment),
                creationflags=flags,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            raise CallError(
                f"{words[0]} cannot be started: {error.strerror}\nexpected: the program verdiff"
                "\nto do: name it in the module's settings"
            ) from error
        self.progress = Progress()
        self.cancelled = False
        self._out: list[str] = []
        self._readers = [
            threading.Thread(target=each, daemon=True) for each in (self._read_report, self._read_progress)
        ]
        for reader in self._readers:
            reader.start()

    @property
    def running(self) -> bool:
        """Whether it has not ended, or its last words are still being read."""
        return self._process.poll() is None or any(reader.is_alive() for reader in self._readers)

    def cancel(self) -> None:
        """End it; verdiff's files appear whole or not at all, so that nothing half-written stays."""
        if self._process.poll() is not None:
            return
        self.cancelled = True
        self._process.terminate()
        try:
            self._process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def report(self) -> dict[str, Any] | None:
        """The report of a call that has ended, or None if it was cancelled; waits for the end.

        Raises:
            CallError: It ended without a mask; with verdiff's own words.
        """
        code = self._process.wait()
        for reader in self._readers:
            reader.join()
        if self.cancelled:
            return None
        text = "".join(self._out)
        if code not in WITH_A_MASK or not text.strip():
            said = "\n".join(self.progress.said[-8:])
            raise CallError(said or f"verdiff ended with exit code {code} and said nothing")
        found: dict[str, Any] = json.loads(text)
        return found

    def _read_report(self) -> None:
        assert self._process.stdout is not None
        self._out.extend(self._process.stdout)

    def _read_progress(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            told = _object(line)
            if told is None:
                if line.strip():
                    self.progress.said.append(line.rstrip())
            else:
                self.progress.doing, self.progress.share = told["doing"], told["share"]


def _object(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        told = json.loads(line)
    except ValueError:
        return None
    return told if isinstance(told, dict) and {"doing", "share"} <= told.keys() else None
