"""The checks between an export and its bundle: what is written gives what PyTorch gave, stage by stage.

They run on the bundle as a user would open it, in a temporary folder, so that storage, hashes, loading and the
backends are part of what is checked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from verdiff.bundle import Bundle
from verdiff.diffusion.tables import SamplerTable
from verdiff.export.checks import (
    AgreementCheck,
    backends_of,
    check_pipelines,
    require_passed,
    run_networks,
    within_rounding,
)
from verdiff.export.golden import features_of, torch_reference
from verdiff.export.rounding import rounding
from verdiff.export.spread import TOLERANCE, Spread
from verdiff.runtime.backends import Backend
from verdiff.train.config import RunConfig
from verdiff.train.networks import SegmentationModel

Array = NDArray[np.float32]


def verify_bundle(
    bundle: Bundle,
    net: SegmentationModel,
    config: RunConfig,
    table: SamplerTable | None,
    image: Array,
    say: Callable[[str], None],
) -> tuple[AgreementCheck, ...]:
    """Compare ``bundle`` with ``net`` on real slices ``image`` [N, 1, H, W] with every backend installed.

    Raises:
        VerificationError: Naming each comparison that is out of its limit.
        BackendError: ONNX Runtime is not installed.
    """
    backends = backends_of(bundle)
    kept = {name: array.astype(np.float32) for name, array in bundle.golden().items()}
    slices = Stages.of(net, config, table, image, torch_reference(net, config, table, image))
    golden = Stages.of(net, config, table, kept["image"], kept)
    checks: list[AgreementCheck] = []
    for name, backend in backends.items():
        checks += _check_prior(name, backend, slices, golden)
        if table is not None:
            checks += _check_loop(name, backend, table, slices, golden)
    last = slices.spread["prior" if table is None else "loop"]
    checks += check_pipelines(bundle, image[:2, 0], spread=last)
    require_passed(checks, say)
    return tuple(checks)


@dataclass(frozen=True)
class Stages:
    """What PyTorch makes of some slices, and what rounding alone does to it."""

    image: Array
    expected: dict[str, Array]
    spread: dict[str, Spread]

    @classmethod
    def of(
        cls,
        net: SegmentationModel,
        config: RunConfig,
        table: SamplerTable | None,
        image: Array,
        expected: dict[str, Array],
    ) -> Stages:
        """The stages of slices [N, 1, H, W], of which PyTorch made ``expected``."""
        return cls(image, expected, rounding(net, config, table, image, expected))

    def noise(self, step: int) -> Array:
        """The start's noise, whatever the step: deterministic samplers take none after it."""
        return self.expected["noise"][0]


def _check_prior(name: str, backend: Backend, slices: Stages, golden: Stages) -> list[AgreementCheck]:
    """The prior and its features on real slices, and the golden prior from the graphs in the bundle."""
    f, features = backend.prior(slices.image)
    checks = within_rounding(name, "prior", f, slices.expected["prior"], slices.spread["prior"])
    off = [
        float(np.abs(found - expected).max() / (1 + np.abs(expected).max()))
        for found, expected in zip(features, features_of(slices.expected), strict=True)
    ]
    if off:
        checks.append(AgreementCheck(f"{name} features (relative)", max(off), TOLERANCE))
    f, _ = backend.prior(golden.image)
    return [*checks, *within_rounding(name, "golden prior", f, golden.expected["prior"], golden.spread["prior"])]


def _check_loop(
    name: str, backend: Backend, table: SamplerTable, slices: Stages, golden: Stages
) -> list[AgreementCheck]:
    """The first denoiser pass and the whole loop on real slices, and the golden loop."""
    expected, last = slices.expected, f"x0hat_{len(table) - 1}"
    step = backend.denoise(expected["x_start"], int(table.timesteps[0]), expected["prior"], features_of(expected))
    checks = within_rounding(name, "denoiser", step, expected["x0hat_0"], slices.spread["denoiser"])
    for what, stages in ((f"loop of {len(table)} steps", slices), ("golden loop", golden)):
        _, x0hat = run_networks(backend, table, stages.image, stages.noise)
        checks += within_rounding(name, what, x0hat, stages.expected[last], stages.spread["loop"])
    return checks
