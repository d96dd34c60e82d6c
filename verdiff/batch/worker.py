"""A worker of a batch on several machines: a model on one device, and the three steps of a scan, each one at a time."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Lock

from verdiff import __version__
from verdiff.batch.dispatch import AHEAD
from verdiff.batch.planning import BatchTask, done_since
from verdiff.batch.rows import Row, row_of_error, row_of_report
from verdiff.batch.scan import read_scan, segment_scan
from verdiff.batch.written import write_scan
from verdiff.bundle.names import model_file
from verdiff.errors import BackendError, BundleError, OutputError, VerdiffError
from verdiff.files.places import absolute
from verdiff.options import InferOptions, LoadOptions
from verdiff.runtime import Cancelled, Segmenter
from verdiff.settings import part_of


@dataclass(frozen=True)
class WorkerPlan:
    """What a worker is to load, and what it must find.

    Attributes:
        options: Options of the model and the calls.
        model_sha256: The hash of the manifest that the batch was planned with.
        version: The verdiff that planned it.
        threads: CPU threads of its device; None leaves it to the options.
    """

    options: InferOptions
    model_sha256: str
    version: str = __version__
    threads: int | None = None


@dataclass(frozen=True)
class Ready:
    """A worker that has its model."""

    host: str
    pid: int


@dataclass(frozen=True)
class Outcome:
    """How a task ended.

    Attributes:
        row: What became of the scan; None where the worker was told to stop before it had a mask.
        ends: The disk takes no more: why the whole batch ends.
    """

    row: Row | None
    ends: OutputError | None = None


# What may call a worker at once: a thread a scan that it has, one that stops it, and one to spare.
CALLS = AHEAD + 2


class Worker:
    """Does tasks that several threads hand it: one is read while another is segmented and a third one written."""

    def __init__(self, plan: WorkerPlan) -> None:
        self._plan = plan
        self._segmenter: Segmenter | None = None
        self._stopped = Event()
        self._reading, self._running, self._writing = Lock(), Lock(), Lock()

    def load(self) -> Ready | VerdiffError:
        """Load the model; why it cannot be, as an answer."""
        plan = self._plan
        try:
            if plan.version != __version__:
                raise BackendError(
                    f"verdiff {__version__} on {socket.gethostname()}",
                    f"verdiff {plan.version}, as where the batch was started",
                    "install the same version on every machine",
                )
            options = replace(plan.options, threads=plan.threads or plan.options.threads)
            self._segmenter = segmenter = Segmenter.load(**part_of(options, LoadOptions))
            found = segmenter.model["manifest_sha256"]
            if found != plan.model_sha256:
                raise BundleError(
                    f"another model on {socket.gethostname()}: its manifest has the SHA-256 {found}",
                    f"{plan.model_sha256}, as where the batch was started",
                    "install the same bundle on every machine, or name one that all of them can read",
                )
        except VerdiffError as error:
            return error
        return Ready(socket.gethostname(), os.getpid())

    def do(self, task: BatchTask, again: bool) -> Outcome:
        """Segment one scan and write its files.

        Args:
            task: What :func:`elsewhere` made of one of the batch.
            again: A worker was lost with it, which may have written its files before.
        """
        scan = str(task.case.scan)
        try:
            if again and (found := done_since(task, self._plan.model_sha256)) is not None:
                return Outcome(row_of_report(task.name, scan, found))
            report = self._report(task)
        except OutputError as error:
            full = isinstance(error.__cause__, OSError)
            return Outcome(row_of_error(task.name, scan, error), error if full else None)
        except Exception as error:
            return Outcome(row_of_error(task.name, scan, error))
        return Outcome(None if report is None else row_of_report(task.name, scan, report))

    def stop(self) -> None:
        """Begin nothing more; what has a mask is still written."""
        self._stopped.set()

    def _report(self, task: BatchTask) -> dict[str, object] | None:
        """The report of a task that is written; None where it was stopped before."""
        assert self._segmenter is not None
        options = replace(task.asked.options, cancel=self._stopped.is_set)
        with self._reading:
            if self._stopped.is_set():
                return None
            read = read_scan(task.case.scan, task.output, replace(task.asked, options=options), name=task.case.name)
        with self._running:
            if self._stopped.is_set():
                return None
            try:
                segmented = segment_scan(self._segmenter, read)
            except Cancelled:
                return None
        if segmented.result.outcome == "cancelled":
            return None
        with self._writing:
            return write_scan(segmented).report()


def plan_elsewhere(plan: WorkerPlan) -> WorkerPlan:
    """A plan whose paths mean the same in every folder."""
    options = plan.options
    if (model := model_file(options.model)) is not None:
        options = replace(options, model=absolute(model))
    if options.trusted_key is not None:
        options = replace(options, trusted_key=absolute(Path(options.trusted_key)))
    return replace(plan, options=options)


def elsewhere(task: BatchTask) -> BatchTask:
    """A task whose paths mean the same in every folder and, where they are shared, on every machine."""
    files = task.files
    return replace(
        task,
        case=replace(task.case, scan=absolute(task.case.scan)),
        output=None if task.output is None else f"{absolute(Path(task.output))}{os.sep}",
        files=replace(
            files,
            mask=absolute(files.mask),
            report=absolute(files.report),
            uncertainty=None if files.uncertainty is None else absolute(files.uncertainty),
            preview=None if files.preview is None else absolute(files.preview),
        ),
    )
