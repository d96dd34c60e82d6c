"""A host backend in two forms: every thread for one call, or a share of them for each of several at once."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from verdiff.runtime.backends.protocol import Backend, Maps


class LanedBackend:
    """The networks of one bundle, as :attr:`lane` for a stack of slices and as themselves for a single one.

    Args:
        opened: Number of lanes -> the networks, with all threads divided among so many calls. The lanes are opened
            at once, since they also test and serve most scans; the other form when a single slice first comes.
        lanes: How many calls run at once, 2 or more.
    """

    def __init__(self, opened: Callable[[int], Backend], lanes: int) -> None:
        self._opened: Callable[[int], Backend] | None = opened
        self.lane = opened(lanes)
        self.name, self.version, self.device = self.lane.name, self.lane.version, self.lane.device
        self.precision, self.threads, self.batch = self.lane.precision, self.lane.threads, self.lane.batch
        self.lanes = lanes
        self._lock = Lock()
        self._single: Backend = self.lane

    @property
    def _alone(self) -> Backend:
        with self._lock:
            if self._opened is not None:
                self._single = self._opened(1)
                # What it is opened from is in memory, and of no use any more.
                self._opened = None
            return self._single

    def prior(self, image: Maps) -> tuple[Maps, tuple[Maps, ...]]:
        """See :meth:`verdiff.runtime.backends.Backend.prior`; every thread works on this call."""
        return self._alone.prior(image)

    def denoise(self, x: Maps, timestep: int, prior: Maps, features: tuple[Maps, ...]) -> Maps:
        """See :meth:`verdiff.runtime.backends.Backend.denoise`; every thread works on this call."""
        return self._alone.denoise(x, timestep, prior, features)

    def waits_s(self, rows: int, cols: int, *, denoiser: bool) -> float:
        """See :class:`verdiff.runtime.backends.CompilesSizes`; of the form for a single slice, opened or not yet."""
        waits = getattr(self.lane, "waits_s", None)
        if waits is None:
            return 0.0
        with self._lock:
            # No slice has this size: what is not there yet compiles anew.
            return float(
                waits(0, 0, denoiser=denoiser)
                if self._opened is not None
                else self._single.waits_s(rows, cols, denoiser=denoiser)  # type: ignore[attr-defined]
            )
