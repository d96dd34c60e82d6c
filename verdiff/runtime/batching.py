"""Between the work of a call and a backend: any number of images, in calls of the backend's one batch size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from verdiff.errors import BackendError
from verdiff.runtime.lanes import Lanes

if TYPE_CHECKING:
    from verdiff.runtime.backends import Backend

Maps = NDArray[np.float32]


class Batcher:
    """Runs the networks of ``backend`` on any number of slices and samples, as many at once as there are lanes.

    Every call has the backend's batch size: the last one is filled up with its own last item. A kernel may be chosen
    by batch size and may round differently, so a mask's bits must not depend on how many slices were at hand.

    Args:
        backend: The networks, in the form that takes as many calls at once as ``lanes`` makes.
        lanes: Workers; by default one call at a time.
    """

    def __init__(self, backend: Backend, lanes: Lanes | None = None) -> None:
        self.backend = backend
        self._lanes = Lanes() if lanes is None else lanes

    def prior(self, images: Maps) -> tuple[Maps, tuple[Maps, ...]]:
        """``images`` [n, 1, H, W] -> prior [n, K, H, W] and features [n, C_i, H / stride_i, W / stride_i].

        Raises:
            BackendError: The network gave a number that is not finite.
        """
        parts = self._lanes.map(lambda chosen: self.backend.prior(images[chosen]), self._calls(len(images)))
        prior = _joined([part[0] for part in parts], len(images))
        features = tuple(_joined(list(maps), len(images)) for maps in zip(*(part[1] for part in parts), strict=True))
        self._check_finite(prior, "prior")
        return prior, features

    def denoise(self, x: Maps, timestep: int, prior: Maps, features: tuple[Maps, ...], owner: NDArray[np.intp]) -> Maps:
        """``x`` [p, K, H, W], one row a pair of slice and sample, -> x0hat [p, K, H, W].

        Args:
            x: The noisy masks.
            timestep: One timestep for all of them.
            prior: [n, K, H, W], one a slice.
            features: One a slice.
            owner: [p]: the slice each pair belongs to, so a slice's features serve all its samples.

        Raises:
            BackendError: The network gave a number that is not finite.
        """

        def one(chosen: slice | NDArray[np.intp]) -> Maps:
            of: slice | NDArray[np.intp] = owner[chosen]
            if isinstance(chosen, slice):
                of = slice(owner[chosen.start], owner[chosen.start] + 1)
            return self.backend.denoise(x[chosen], timestep, prior[of], tuple(f[of] for f in features))

        x0hat = _joined(self._lanes.map(one, self._calls(len(x))), len(x))
        self._check_finite(x0hat, f"denoiser at timestep {timestep}")
        return x0hat

    def _calls(self, count: int) -> list[slice | NDArray[np.intp]]:
        """What each call is given: views for a batch of one, else indices filled up to the batch size."""
        batch = self.backend.batch
        if batch == 1:
            return [slice(i, i + 1) for i in range(count)]
        return [np.minimum(np.arange(start, start + batch), count - 1) for start in range(0, count, batch)]

    def _check_finite(self, maps: Maps, what: str) -> None:
        # One pass and no temporary array: a sum is finite only if every term is (these maps lie in [-1, 1]).
        if not np.isfinite(maps.sum(dtype=np.float32)):
            raise BackendError(
                f"the {what} gave NaN or infinity in {self.backend.precision} on {self.backend.name}",
                "finite numbers",
                "use --precision fp32, or another backend, and report the model",
            )


def _joined(parts: list[Maps], count: int) -> Maps:
    return parts[0][:count] if len(parts) == 1 else np.concatenate(parts)[:count]
