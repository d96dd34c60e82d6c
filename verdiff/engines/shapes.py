"""Shape buckets: the few sizes that engines are tuned for, and the optimisation profiles made of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from verdiff.errors import BackendError

if TYPE_CHECKING:
    from verdiff.bundle.manifest import Manifest

# Rows x columns in millimetres: a few vertebrae; a lumbar or cervical stack; a tall one; most of a spine.
FIELDS_MM = ((180, 180), (300, 240), (400, 300), (480, 480))
# An engine reserves memory for its largest call: 2 Mi pixels are 25 slices of 320 x 256.
PIXELS_A_CALL = 2 << 20
MAX_BATCH = 64

Shape = tuple[int, ...]


@dataclass(frozen=True, order=True)
class Bucket:
    """A size of slices, in pixels, that kernels are tuned for, and the batches. Smaller slices go into it as they are.

    The batch counts slices in the prior, and slices times samples in the step.

    Raises:
        BackendError: A size below 1, or batches that do not rise.
    """

    rows: int
    cols: int
    batch_min: int
    batch_opt: int
    batch_max: int

    def __post_init__(self) -> None:
        if min(self.rows, self.cols) < 1 or not 1 <= self.batch_min <= self.batch_opt <= self.batch_max:
            raise BackendError(
                f"a bucket of {self.rows} x {self.cols} pixels in batches of {self.batch_min}, {self.batch_opt}, "
                f"{self.batch_max}",
                "at least 1 x 1 pixels and batches that rise from at least 1",
                "choose another --size or --batch",
            )

    @property
    def size(self) -> str:
        """Text that ``--size`` takes: ``"320x256"``."""
        return f"{self.rows}x{self.cols}"


@dataclass(frozen=True)
class TensorRange:
    """What one dynamic input of an engine may be: the least, the best and the largest shape.

    With ``values`` they are the numbers in it, of an input that decides shapes (the pipeline's ``size``).
    """

    name: str
    minimum: Shape
    optimum: Shape
    maximum: Shape
    values: bool = False

    def holds(self, shape: Shape) -> bool:
        """Whether a tensor of this shape may be given."""
        return len(shape) == len(self.minimum) and all(
            low <= length <= high for low, length, high in zip(self.minimum, shape, self.maximum, strict=True)
        )


@dataclass(frozen=True)
class ProfileShape:
    """One optimisation profile of an engine: the range of every dynamic input."""

    ranges: tuple[TensorRange, ...]

    def holds(self, shapes: Mapping[str, Shape]) -> bool:
        """Whether inputs of these shapes (numbers, where :attr:`TensorRange.values`) may be given together.

        Inputs of fixed shape may be left out.
        """
        return all(each.name in shapes and each.holds(shapes[each.name]) for each in self.ranges)

    @property
    def bucket(self) -> Bucket:
        """The bucket it was made of: the largest size and the batches of the input that has them."""
        found = next(each for each in self.ranges if each.name in SIZED_BY)
        rows, cols = found.maximum[-2:]
        batches = (shape[-4] for shape in (found.minimum, found.optimum, found.maximum))
        return Bucket(rows, cols, *batches)


# The input that tells a profile's bucket: of the prior, the step and the pipeline.
SIZED_BY = ("image", "x", "noise")


def buckets(
    manifest: Manifest, *, sizes: Iterable[tuple[int, int]] | None = None, batch: int | None = None
) -> tuple[Bucket, ...]:
    """The buckets of a model, smallest first.

    Args:
        manifest: Manifest of the model: its pixel spacing, its multiple and the most pixels it takes.
        sizes: (rows, columns) in pixels to use instead of the fields of view that are built by default.
        batch: The largest batch, instead of as many slices as :data:`PIXELS_A_CALL` allows.

    Raises:
        BackendError: A size that is no multiple, or has more pixels than the model takes; a model that takes volumes.
    """
    if manifest.volume:
        raise BackendError(
            f"engines for {manifest.model_id}, which takes volumes",
            "a model that takes slices: the loop on a GPU is made for those",
            "run it with --device cpu",
        )
    if sizes is None:
        typical = {_padded(field, manifest) for field in FIELDS_MM}
        chosen = {size for size in typical if math.prod(size) <= manifest.max_pixels} or {_largest_square(manifest)}
    else:
        chosen = set(sizes)
    for rows, cols in chosen:
        multiples = all(length > 0 and length % manifest.multiple == 0 for length in (rows, cols))
        if not multiples or rows * cols > manifest.max_pixels:
            raise BackendError(
                f"an engine size of {rows} x {cols} pixels",
                f"positive multiples of {manifest.multiple} and at most {manifest.max_pixels:,} pixels, as "
                f"{manifest.model_id} takes them",
                "choose another --size",
            )
    return tuple(_bucket(rows, cols, batch) for rows, cols in sorted(chosen, key=lambda s: (math.prod(s), s)))


def _padded(field_mm: tuple[int, int], manifest: Manifest) -> tuple[int, int]:
    step = manifest.multiple
    rows, cols = (step * math.ceil(length / manifest.spacing_mm / step) for length in field_mm)
    return rows, cols


def _bucket(rows: int, cols: int, batch: int | None) -> Bucket:
    most = min(MAX_BATCH, max(1, PIXELS_A_CALL // (rows * cols))) if batch is None else batch
    # Full calls are the rule: the runtime fills its batches up, so those are what the kernels are tuned for.
    return Bucket(rows, cols, 1, most, most)


def _largest_square(manifest: Manifest) -> tuple[int, int]:
    side = max(1, math.isqrt(manifest.max_pixels) // manifest.multiple) * manifest.multiple
    return side, side
