"""The work every rival of the case ``gpu`` is given: a generated scan, its slices as arrays, one table, one noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from verdiff.bundle import Bundle
from verdiff.diffusion import SamplerTable, noise_source
from verdiff.errors import DataError
from verdiff.evaluate.overlap import dice_of_labels
from verdiff.imaging import Geometry, SlicePlan, Volume, intensity_bounds, normalise
from verdiff.imaging.picture import Box, picture_of
from verdiff.options import SampleOptions
from verdiff.runtime.sampling import resolve_sampling
from verdiff.runtime.scan import slices_of

Maps = NDArray[np.float32]

# Voxel axes of a stack whose slices lie as the model wants them: the columns are x, y and z in patient space.
DIRECTIONS = {
    "sagittal": (0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
    "coronal": (1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, -1.0, 0.0),
    "axial": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
}
SLICE_SPACING_MM = 4.0
# The golden image lies in [-1, 1]; a scan has whole numbers.
LEVELS = 1000


@dataclass(frozen=True)
class Workload:
    """One scan to segment.

    Attributes:
        bundle: The model.
        slices: Slices of the scan.
        size: Rows and columns of a slice, multiples of the model's multiple.
        samples: Ensemble members.
        steps: Denoiser passes a sample.
        seed: Key of the noise.
    """

    bundle: Bundle
    slices: int = 20
    size: tuple[int, int] = (320, 256)
    samples: int = 5
    steps: int = 5
    seed: int = 35

    def __post_init__(self) -> None:
        manifest = self.bundle.manifest
        if not self.bundle.has("denoiser"):
            raise DataError(f"{manifest.model_id} has no denoiser", "a diffusion model", "name a diffusion model")
        if any(length % manifest.multiple for length in self.size):
            raise DataError(
                f"slices of {self.size[0]} x {self.size[1]} pixels",
                f"multiples of {manifest.multiple}, as {manifest.model_id} takes them",
                "choose another size",
            )

    @cached_property
    def scan(self) -> Volume:
        """The bundle's own test image, repeated to the size, in the model's pixels: nothing is resampled."""
        manifest = self.bundle.manifest
        image = self.bundle.golden()["image"][:, 0]
        repeats = [-(-wanted // had) for wanted, had in zip(self.size, image.shape[1:], strict=True)]
        planes = [
            np.roll(np.tile(image[i % len(image)], repeats), 7 * i, (0, 1))[: self.size[0], : self.size[1]]
            for i in range(self.slices)
        ]
        array = np.rint((np.stack(planes) + 1) * LEVELS).astype(np.int16)
        spacing = (manifest.spacing_mm, manifest.spacing_mm, SLICE_SPACING_MM)
        direction = DIRECTIONS.get(manifest.view, DIRECTIONS["axial"])
        return Volume(array, Geometry((self.size[1], self.size[0], self.slices), spacing, (0.0, 0.0, 0.0), direction))

    @cached_property
    def plan(self) -> SlicePlan:
        """How the scan becomes slices."""
        return slices_of(self.bundle.manifest, self.scan.geometry, self.picture)

    @cached_property
    def picture(self) -> Box:
        """The part of the scan that shows anything, which is all that the networks are given."""
        return picture_of(self.scan.array)

    @cached_property
    def images(self) -> Maps:
        """The slices as the prior is given them, [slices, 1, H, W], in the runtime's own arithmetic."""
        rule = self.bundle.manifest.intensity
        planes = normalise(self.plan.extract(self.scan.array), *intensity_bounds(self.scan.array[self.picture], rule))
        return self.plan.to_model(planes)

    @cached_property
    def table(self) -> SamplerTable:
        """The model's sampler in ``steps`` steps."""
        choices = SampleOptions(steps=self.steps, samples=self.samples, seed=self.seed)
        table = resolve_sampling(self.bundle.manifest, choices, denoiser=True).table
        assert table is not None
        return table

    def noise(self, sample: int, step: int) -> Maps:
        """What the runtime draws for a member of every slice: [slices, K, H, W]."""
        shape = (len(self.bundle.manifest.labels), *self.size)
        source = noise_source(self.seed, slices=range(self.slices), samples=[sample] * self.slices, shape=shape)
        return source(step)

    def planes_of(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A mask in the scan's axes as [slices, rows, columns]."""
        return np.ascontiguousarray(self.plan.extract(labels))


def mean_dice(labels: NDArray[np.uint8], reference: NDArray[np.uint8], ids: list[int]) -> float:
    """Mean over the structures of the Dice of two masks; 1 for a structure that neither has."""
    return float(np.mean(dice_of_labels(labels, reference, ids)))
