"""What one call is made of: what was asked for, the scan, and the work that answers it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from verdiff.options import CallOptions

if TYPE_CHECKING:
    from verdiff.bundle import Manifest
    from verdiff.imaging import Geometry, SlicePlan, Volume
    from verdiff.imaging.picture import Box
    from verdiff.runtime.answer import Answer
    from verdiff.runtime.clock import Clock
    from verdiff.runtime.lanes import Lanes
    from verdiff.runtime.loaded import LoadedModel
    from verdiff.runtime.sampling import Sampling


@dataclass(frozen=True)
class Request:
    """What a call to :meth:`verdiff.runtime.Segmenter.segment` or ``stream`` asks for.

    Attributes:
        scan: Scan of the call, unread.
        options: Options of the call, before the model's defaults.
        clock: Stage times, deadline, cancel.
        anytime: Whether the prior answers every slice before any is sampled.
        only_checked: Whether there will be no work, so that no network is to run.
    """

    scan: Any
    options: CallOptions
    clock: Clock
    anytime: bool
    only_checked: bool = False


@dataclass(frozen=True)
class CheckedScan:
    """A scan that may be segmented.

    Attributes:
        volume: The scan.
        picture: Box of its array without the uniform margins around it.
        bounds: Intensities that become -1 and 1.
        ids: Label id of each class index, uint8 [K + 1].
        forced: Reasons against it that ``force`` went past.
    """

    volume: Volume
    picture: Box
    bounds: tuple[float, float]
    ids: NDArray[np.uint8]
    forced: tuple[str, ...]


class Work(Protocol):
    """What answers a scan; it holds what it computes with until the call is over."""

    @property
    def plan(self) -> SlicePlan:
        """The slices of the answer and their way back to the scan's grid."""
        ...

    @property
    def whole(self) -> SlicePlan:
        """The slices as they are in the scan; :attr:`plan` may be a window of them."""
        ...

    @property
    def sampling(self) -> Sampling:
        """What the answer is drawn with."""
        ...

    @property
    def answer(self) -> Answer:
        """What is known so far."""
        ...

    @property
    def lanes(self) -> Lanes:
        """Workers for what the host does slice by slice."""
        ...

    def passes(self) -> Iterator[str]:
        """Do the work; yields ``"prior"`` or ``"sampling"`` after a pass with more to come, and at last the outcome."""
        ...

    def describe(self) -> dict[str, Any]:
        """What was computed and what was left out, for the provenance."""
        ...


@dataclass(frozen=True)
class Kind:
    """What is different between models that take slices and models that take volumes.

    Attributes:
        sampling: What a request draws masks with; refuses what the model cannot do.
        slices: The whole slices of a scan, and their grid in the model.
        work: Takes the memory and what computes, for one scan.
    """

    sampling: Callable[[LoadedModel, CallOptions], Sampling]
    slices: Callable[[Manifest, Geometry], SlicePlan]
    work: Callable[[LoadedModel, Request, Sampling, CheckedScan], AbstractContextManager[Work]]
