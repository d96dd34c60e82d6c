"""The door to a worker: submit scans, get masks; from any thread."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Any

from verdiff.bundle.names import model_file
from verdiff.errors import BackendError, InputError, ServiceError, VerdiffError
from verdiff.imaging import volume_from
from verdiff.limits import Limits
from verdiff.options import LoadOptions, ScanOptions
from verdiff.serve.blocks import share
from verdiff.serve.job import Job, Reply
from verdiff.serve.supervisor import Supervisor, Waiting
from verdiff.serve.wording import describe_volume
from verdiff.settings import check_options


class Client:
    """A model in a worker process of its own, supervised.

    The worker is a fresh process, never a fork, and voxels pass through shared memory. A job that does not end when it
    has to is cancelled, then killed with its worker; a new worker is loaded at once, and jobs that waited go on.

    >>> with Client("spine-mr", threads=2) as client:
    ...     job = client.submit(volume, deadline_ms=10_000)
    ...     for reply in job:  # the prior's mask first, then better ones
    ...         show(reply.labels)
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        limits: Limits | None = None,
        python: str | None = None,
        **load: Any,
    ) -> None:
        """Start the worker and wait until it has loaded the model.

        Args:
            model: A shipped model's name, a bundle's path, or None for the default model.
            limits: How long a job, a load and their ends may take.
            python: The interpreter that runs the worker, for hosts that embed Python; None is this one.
            load: Further fields of :class:`verdiff.options.LoadOptions` that are plain values.

        Raises:
            BackendError: An option is unknown, out of its limits, or nothing that another process can be told.
            VerdiffError: What the load failed with; ServiceError where the worker does not come up.
        """
        options = _told(LoadOptions, {"model": model, **load}, BackendError)
        # The worker's working folder may be another one day: what is named here is meant.
        for name, path in (("model", model_file(model)), ("trusted_key", options.get("trusted_key"))):
            if path is not None and os.path.exists(path):
                options[name] = str(Path(path).resolve())
        self._process = os.getpid()
        self._numbers, self._lock = 0, Lock()
        self._supervisor = Supervisor(options, limits or Limits(), python)
        self._supervisor.start()

    @property
    def state(self) -> str:
        """``"loading"``, ``"ready"``, ``"busy"``, ``"failed"`` (to load; it is tried again) or ``"closed"``."""
        return self._supervisor.state

    @property
    def model(self) -> Mapping[str, Any]:
        """The model's id, version, hashes, labels by name, and what computes it."""
        return self._supervisor.model

    @property
    def worker_pid(self) -> int | None:
        """The process id of the worker; None while there is none."""
        return self._supervisor.pid

    def submit(
        self,
        scan: Any,
        *,
        deadline_ms: float | None = None,
        uncertainty: bool = False,
        surfaces: bool = False,
        on_reply: Callable[[Reply], None] | None = None,
        on_end: Callable[[Job], None] | None = None,
        **options: Any,
    ) -> Job:
        """Queue a scan; returns at once.

        Args:
            scan: A scan that :meth:`verdiff.runtime.Segmenter.segment` takes.
            deadline_ms: Milliseconds from now, waiting included, after which the best answer so far is given.
            uncertainty: Have the uncertainty in each reply.
            surfaces: Make the structures' surfaces of the last mask (``job.surfaces``; the extra ``anatomy``).
            on_reply: Called with each reply, in the supervisor's thread: it must return soon.
            on_end: Called in the same way when the job is over.
            options: Fields of :class:`verdiff.options.ScanOptions`: steps, samples, seed, sampler, fusion, policy,
                force, prior_only, smooth_mm.

        Raises:
            InputError: The scan or an option cannot be used.
            BudgetError: No memory for the scan.
            ServiceError: Too many jobs wait, the worker does not come up, or the client is closed.
        """
        if os.getpid() != self._process:
            raise ServiceError(
                f"a Client that process {self._process} made, in process {os.getpid()}, which was forked from it",
                "the Client in the process that made it",
                "make one in each process",
            )
        told = _told(ScanOptions, options, InputError)
        deadline = None if deadline_ms is None else monotonic() + deadline_ms / 1000
        volume = volume_from(scan)
        with self._lock:
            self._numbers += 1
            number = self._numbers
        job = Job(
            f"{self._process}-{number}",
            volume.geometry,
            deadline,
            self._supervisor.cancel,
            on_reply=on_reply,
            on_end=on_end,
            identity=volume.identity,
        )
        message = {
            "job": job.id,
            "volume": describe_volume(volume),
            "deadline": deadline,
            "uncertainty": uncertainty,
            "surfaces": surfaces,
            "options": told,
        }
        block = share(volume.array)
        try:
            self._supervisor.submit(Waiting(job, message, block))
        except ServiceError:
            os.close(block)
            raise
        return job

    def close(self) -> None:
        """End the worker. Jobs that are not over fail with a ServiceError; closing twice does no harm."""
        self._supervisor.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _told(kind: type, options: Mapping[str, Any], error: type[VerdiffError]) -> dict[str, Any]:
    """Options of a record as values that another process can be told."""
    known = [each.name for each in fields(kind)]
    told = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
    for name, value in told.items():
        if name not in known:
            raise error(f"the option {name}", f"one of {', '.join(known)}", "correct its spelling, or leave it out")
        if not isinstance(value, bool | int | float | str | None):
            raise error(
                f"{name} is a {type(value).__name__}",
                "a number, a text, True, False or None, which another process can be told",
                "leave it out",
            )
    check_options(kind(**told), error)
    return told
