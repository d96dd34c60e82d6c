"""Workers that keep a diary and do what the name of a scan asks for: wait, die, fail."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path

from verdiff.batch.planning import BatchTask
from verdiff.batch.worker import Outcome, Worker
from verdiff.errors import OutputError

DIARY, GO_ON = "diary", "go-on"


def folder_of(task: BatchTask) -> Path:
    return task.case.scan.parent.parent


class Diarist(Worker):
    """Writes down which process begins which scan, and whether it lived to the end of it."""

    def do(self, task: BatchTask, again: bool) -> Outcome:
        self._note(task, "begins")
        self._obey(task.name, folder_of(task), again)
        outcome = super().do(task, again)
        if "dies-after" in task.name and not again:
            os.kill(os.getpid(), signal.SIGKILL)
        self._note(task, "ends")
        return outcome

    def _obey(self, name: str, folder: Path, again: bool) -> None:
        if "waits" in name and not (folder / GO_ON).exists():
            until = time.monotonic() + 60
            while not (folder / GO_ON).exists() and not self._stopped.is_set() and time.monotonic() < until:
                time.sleep(0.02)
        if "kills" in name:
            os.kill(os.getpid(), signal.SIGKILL)
        if "hangs" in name and not again:
            time.sleep(600)

    def _report(self, task: BatchTask) -> dict[str, object] | None:
        if "large" in task.name:
            raise MemoryError
        if "full" in task.name:
            full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            raise OutputError("the disk is full", "room", "make some") from full
        return super()._report(task)

    def _note(self, task: BatchTask, what: str) -> None:
        with (folder_of(task) / DIARY).open("a") as diary:
            diary.write(f"{task.name} {what} {os.getpid()}\n")
