"""What a call gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from verdiff.errors import InputError
from verdiff.imaging import sides_cut
from verdiff.runtime.answer import Answer, in_scan, restore_uncertainty

if TYPE_CHECKING:
    from verdiff.bundle import Label
    from verdiff.imaging import Geometry, SlicePlan
    from verdiff.imaging.identity import Identity


@dataclass
class Segmentation:
    """The mask of one scan, in the scan's own grid.

    Attributes:
        labels: Label ids of the model's table, 0 is background: uint8 [z, y, x].
        label_table: The foreground structures, in the order of the model's channels.
        geometry: The scan's grid, which is the mask's.
        outcome: ``"complete"`` has all that was asked for. ``"prior"`` and ``"sampling"`` are answers of a stream
            that has more to come; ``"prior"`` is also what ``prior_only`` asks for, the best setting on the model's
            record, or all that a budget was enough for. ``"budget"`` and ``"cancelled"`` ended early with an answer
            for every slice.
        timings: Seconds a stage, see :class:`verdiff.runtime.clock.Clock`; ``total`` is the whole call.
        provenance: What made this mask, as plain JSON values; nothing in it identifies a patient or a study.
        identity: Whose spine it is: the UIDs of a scan that was read from DICOM, None for any other.
    """

    labels: NDArray[np.uint8]
    label_table: tuple[Label, ...]
    geometry: Geometry
    outcome: str
    timings: dict[str, float]
    provenance: dict[str, Any]
    _answer: Answer = field(repr=False)
    _plan: SlicePlan = field(repr=False)
    identity: Identity | None = field(default=None, repr=False)

    @cached_property
    def uncertainty(self) -> NDArray[np.uint8]:
        """Entropy of the classes, 0 (sure) to 255 (all alike): uint8 [z, y, x]; made when it is first asked for."""
        return restore_uncertainty(self._answer, self._plan)

    @cached_property
    def empty(self) -> bool:
        """Whether no structure was found anywhere: a named outcome, not an error."""
        return not self.labels.any()

    @property
    def implausible(self) -> tuple[str, ...]:
        """What of the mask is unlike the masks the model was trained on, in words; empty where nothing is."""
        return tuple(each["text"] for each in self.provenance.get("warnings", ()) if each["of_mask"])

    def probabilities(self, name: str) -> NDArray[np.float32]:
        """Probability of one structure, float32 [z, y, x] in [0, 1], resampled now from the model's grid.

        The structures are separate channels, so the probabilities of two that overlap may add up to more than 1.

        Raises:
            InputError: The model has no structure of that name.
        """
        channel, kept = self._channel(name), self._answer.probabilities
        return self._resampled(lambda index: kept.get(index)[channel])

    def spread(self) -> NDArray[np.float32]:
        """Standard deviation between the samples, float32 [z, y, x]; zero with fewer than two samples."""
        if self._answer.spread is None:
            return np.zeros(self.labels.shape, np.float32)
        return self._resampled(self._answer.spread.get)

    def volumes_ml(self) -> dict[str, float]:
        """Volume of each structure in millilitres; empty for a film, which has no depth."""
        if self._plan.view == "film":
            return {}
        voxel_ml = self.geometry.voxel_ml
        return {label.name: float(np.count_nonzero(self.labels == label.id) * voxel_ml) for label in self.label_table}

    @cached_property
    def cut_sides(self) -> dict[str, tuple[str, ...]]:
        """The structures that reach the end of the field of view, and where: their volumes are of a part of them."""
        found = {label.name: sides_cut(self.labels == label.id, self.geometry) for label in self.label_table}
        return {name: sides for name, sides in found.items() if sides}

    def _channel(self, name: str) -> int:
        names = [label.name for label in self.label_table]
        if name not in names:
            raise InputError(f"structure {name!r}", f"one of {', '.join(names)}", "use a name of the model's table")
        return names.index(name)

    def _resampled(self, of: Callable[[int], NDArray[np.float32]]) -> NDArray[np.float32]:
        def one(index: int) -> NDArray[np.float32]:
            plane: NDArray[np.float32] = self._plan.from_model(of(index)[None, None])[0, 0]
            return plane

        return in_scan(self._plan, np.dtype(np.float32), one)
