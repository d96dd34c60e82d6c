"""``verdiff serve`` as a process of its own, seen from outside: where it listens, what it and its worker hold."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from verdiff.errors import BackendError

PROC = Path("/proc")
_START_S, _END_S = 300, 60
_DICOM = re.compile(r": DICOM as \S+ on [^:]+:(\d+)$")
_WEB = re.compile(r"^DICOMweb at (\S+)$")


@dataclass(frozen=True)
class Held:
    """What a process holds (resident memory in bytes, open descriptors, threads), and the processor seconds it took."""

    memory: int
    descriptors: int
    threads: int
    seconds: float

    @classmethod
    def by(cls, process: int) -> Held:
        """What a process holds.

        Raises:
            BackendError: It is gone.
        """
        try:
            place = PROC / f"{process}"
            memory = int((place / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            # utime and stime of proc(5), the twelfth and thirteenth field after the name.
            ticks = sum(map(int, _fields(place)[11:13])) / os.sysconf("SC_CLK_TCK")
            return cls(memory, len(os.listdir(place / "fd")), len(os.listdir(place / "task")), ticks)
        except OSError as error:
            raise BackendError(f"process {process} is gone", "a server that lives", "read what it said last") from error


class Served:
    """A running server.

    Attributes:
        process: Process of its own.
        port: Where it takes C-STORE.
        url: Where it takes STOW-RS.
        worker: Process that computes.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._said: deque[str] = deque(maxlen=50)
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        Thread(target=self._read, daemon=True).start()
        self.port = int(self._wait_for(_DICOM))
        self.url = self._wait_for(_WEB)
        self.worker = max(_children(self.process.pid), key=lambda child: Held.by(child).memory)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._said.append(line.rstrip())
            self._lines.put(line.rstrip())
        self._lines.put(None)

    def _wait_for(self, pattern: re.Pattern[str]) -> str:
        for line in list(self._said):
            if found := pattern.search(line):
                return found[1]
        while True:
            try:
                told = self._lines.get(timeout=_START_S)
            except queue.Empty:
                told = None
            if told is None:
                raise self.failed("did not start")
            if found := pattern.search(told):
                return found[1]

    def failed(self, what: str) -> BackendError:
        """Make the error of a server that did not do its work, with its last words."""
        return BackendError(
            f"the server {what}: {' / '.join(list(self._said)[-3:]) or 'it said nothing'}",
            "a server that answers every request",
            "run 'verdiff serve' by itself to see the whole message",
        )

    def held(self) -> tuple[Held, Held]:
        """What the server and its worker hold, which must still be the first one.

        Raises:
            BackendError: One of them is gone.
        """
        return Held.by(self.process.pid), Held.by(self.worker)

    def end(self) -> int:
        """Ask it to end, and wait; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_END_S)


@contextmanager
def served(words: Sequence[str]) -> Iterator[Served]:
    """``verdiff serve`` with these words, which must make it take C-STORE and STOW-RS.

    Raises:
        BackendError: No ``/proc`` to look at, or it did not start.
    """
    if not PROC.is_dir():
        raise BackendError("a system without /proc", "Linux, which tells what a process holds", "run it there")
    command = [sys.executable, "-m", "verdiff", "serve", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield Served(process)
        finally:
            if process.poll() is None:
                process.kill()


def _children(parent: int) -> list[int]:
    found = []
    for entry in PROC.iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            child = int(_fields(entry)[1]) == parent
        except OSError:
            continue
        if child:
            found.append(int(entry.name))
    return found


def _fields(process: Path) -> list[str]:
    """What the kernel says of a process, after its name, which stands in brackets and may hold blanks."""
    return (process / "stat").read_text().rpartition(")")[2].split()
