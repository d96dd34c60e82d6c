"""A job, and the replies that it gets: the prior's mask first, then better ones."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from threading import Condition
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from verdiff.errors import ServiceError, VerdiffError
from verdiff.imaging import Geometry

if TYPE_CHECKING:
    from verdiff.anatomy import Surface
    from verdiff.imaging.identity import Identity

_LOG = logging.getLogger("verdiff.serve")
WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"


@dataclass(frozen=True, eq=False)
class Reply:
    """A mask of a job, in the scan's own grid.

    Attributes:
        job: Id of the job.
        labels: Label ids, 0 is background: uint8 [z, y, x].
        uncertainty: 0 sure to 255: uint8 [z, y, x]; None where the job did not ask for it.
        label_ids: Id of each structure by its name.
        geometry: The scan's grid, which is the mask's.
        outcome: Outcome of the :class:`verdiff.runtime.Segmentation`.
        volumes_ml: Millilitres by structure; empty for films.
        timings: Seconds a stage.
        provenance: What made this mask, as plain JSON values.
        identity: Whose spine it is: the UIDs of a scan that was read from DICOM, None for any other. They never go to
            the worker.
    """

    job: str
    labels: NDArray[np.uint8]
    uncertainty: NDArray[np.uint8] | None
    label_ids: Mapping[str, int]
    geometry: Geometry
    outcome: str
    volumes_ml: Mapping[str, float]
    timings: Mapping[str, float]
    provenance: Mapping[str, Any] = field(repr=False)
    identity: Identity | None = field(default=None, repr=False)

    @property
    def empty(self) -> bool:
        """Whether no structure was found anywhere: a named outcome, not an error."""
        return not self.labels.any()

    @property
    def implausible(self) -> tuple[str, ...]:
        """What of the mask is unlike the masks the model was trained on, in words."""
        return tuple(each["text"] for each in self.provenance.get("warnings", ()) if each["of_mask"])


class Job:
    """One scan on its way. Any thread may wait for it, iterate over its replies, or cancel it.

    Attributes:
        id: Number of this job, unique in its process.
        geometry: The scan's grid.
        identity: Whose scan it is, where it was read from DICOM.
        deadline: Reading of :func:`time.monotonic`, or None.
    """

    def __init__(
        self,
        id: str,
        geometry: Geometry,
        deadline: float | None,
        cancel: Callable[[Job], None],
        *,
        on_reply: Callable[[Reply], None] | None = None,
        on_end: Callable[[Job], None] | None = None,
        identity: Identity | None = None,
    ) -> None:
        self.id, self.geometry, self.deadline, self.identity = id, geometry, deadline, identity
        self._cancel, self._on_reply, self._on_end = cancel, on_reply, on_end
        self._changed = Condition()
        self._fresh: deque[Reply] = deque()
        self._last: Reply | None = None
        self._state, self._error = WAITING, None  # type: tuple[str, VerdiffError | None]
        self._surfaces: dict[str, Surface] = {}

    @property
    def state(self) -> str:
        """``"waiting"``, ``"running"``, ``"done"`` or ``"failed"``."""
        return self._state

    @property
    def error(self) -> VerdiffError | None:
        """Why it failed."""
        return self._error

    @property
    def surfaces(self) -> Mapping[str, Surface]:
        """Closed surface of each structure in the last mask, once done, where the job asked for them."""
        return self._surfaces

    @property
    def over(self) -> bool:
        """Whether it is done or failed."""
        return self._state in (DONE, FAILED)

    def cancel(self) -> None:
        """End it with the mask there is, or with :class:`verdiff.runtime.Cancelled`. Returns at once."""
        self._cancel(self)

    def result(self, timeout_s: float | None = None) -> Reply:
        """Wait for its end; the last and best reply.

        Args:
            timeout_s: The longest wait; None waits for the end, which the supervisor sees to.

        Raises:
            VerdiffError: What the job failed with.
            TimeoutError: It is not over; it goes on.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self.over, timeout_s):
                raise TimeoutError(f"job {self.id} is not over after {timeout_s:g} s")
        if self._error is not None:
            raise self._error
        if self._last is None:
            raise ServiceError(f"job {self.id} ended without a mask", "a mask or an error", "report this")
        return self._last

    def __iter__(self) -> Iterator[Reply]:
        """Each reply as it comes, once; raises as :meth:`result` does when the job fails."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._fresh or self.over)
                if not self._fresh:
                    break
                reply = self._fresh.popleft()
            yield reply
        if self._error is not None:
            raise self._error

    @property
    def past_deadline(self) -> bool:
        """Whether the deadline is over."""
        return self.deadline is not None and monotonic() > self.deadline

    # What follows is the supervisor's.

    def begin(self) -> None:
        """Mark the job as taken by the worker."""
        self._state = RUNNING

    def reply(self, reply: Reply) -> None:
        """Take a mask that came."""
        with self._changed:
            self._fresh.append(reply)
            self._last = reply
            self._changed.notify_all()
        if self._on_reply is not None:
            self._tell(self._on_reply, reply)

    def end(self, error: VerdiffError | None = None, surfaces: Mapping[str, Surface] | None = None) -> None:
        """Mark the job as over."""
        with self._changed:
            if self.over:
                return
            self._surfaces = dict(surfaces or {})
            self._error, self._state = error, DONE if error is None else FAILED
            self._changed.notify_all()
        if self._on_end is not None:
            self._tell(self._on_end, self)

    def _tell(self, callback: Callable[[Any], None], what: Any) -> None:
        try:
            callback(what)
        except Exception:
            # The supervisor's thread is every job's: one caller's mistake must not end it.
            _LOG.exception("a callback of job %s failed", self.id)
