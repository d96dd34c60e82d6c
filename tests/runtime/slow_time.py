"""A clock that runs only when the networks do."""

from __future__ import annotations

from tests.runtime.tiny_bundle import Maps, NumpyBackend

# Exact in binary, so that sums of them can be compared.
PRIOR_MS, STEP_MS = 1000 / 128, 1000 / 64


class FakeTime:
    """Seconds that pass only inside the networks."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class SlowBackend(NumpyBackend):
    """A prior call takes ``PRIOR_MS`` and a denoiser call ``STEP_MS`` of the fake time."""

    def __init__(self, time: FakeTime) -> None:
        super().__init__()
        self.time = time

    def prior(self, image: Maps) -> tuple[Maps, tuple[Maps, ...]]:
        self.time.now += PRIOR_MS / 1000
        return super().prior(image)

    def denoise(self, x: Maps, timestep: int, prior: Maps, features: tuple[Maps, ...]) -> Maps:
        self.time.now += STEP_MS / 1000
        return super().denoise(x, timestep, prior, features)
