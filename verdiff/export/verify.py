"""The checks between an export and its bundle: what is written gives what PyTorch gave, stage by stage.

They run on the bundle as a user would open it, in a temporary folder, so that storage, hashes, loading and the
backends are part of what is checked.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from verdiff.bundle import Bundle
from verdiff.diffusion.tables import SamplerTable
from verdiff.export.checks import (
    TOLERANCE,
    Check,
    backends_of,
    check_pipelines,
    probability_difference,
    require_passed,
    run_networks,
)
from verdiff.export.golden import torch_reference
from verdiff.runtime.backends import Backend
from verdiff.train.config import RunConfig
from verdiff.train.networks import SegmentationModel

Array = NDArray[np.float32]
Golden = dict[str, NDArray[np.generic]]


def verify_bundle(
    bundle: Bundle,
    net: SegmentationModel,
    config: RunConfig,
    table: SamplerTable | None,
    image: Array,
    say: Callable[[str], None],
) -> tuple[Check, ...]:
    """Compare ``bundle`` with ``net`` on real slices ``image`` [N, 1, H, W] with every backend installed.

    Raises:
        VerificationError: Naming each comparison that is out of its limit.
        BackendError: ONNX Runtime is not installed.
    """
    backends = backends_of(bundle)
    reference = torch_reference(net, config, table, image)
    checks: list[Check] = []
    for name, backend in backends.items():
        checks += _check_prior(name, backend, image, reference, bundle.golden())
        if table is not None:
            checks += _check_loop(name, backend, table, image, reference, bundle.golden())
    checks += check_pipelines(bundle, image[:2, 0])
    require_passed(checks, say)
    return tuple(checks)


def _check_prior(name: str, backend: Backend, image: Array, reference: dict[str, Array], golden: Golden) -> list[Check]:
    """The prior and its features on real slices, and the golden prior from the graphs in the bundle."""
    f, features = backend.prior(image)
    checks = [Check(f"{name} prior", probability_difference(f, reference["prior"]), TOLERANCE)]
    off = [
        float(np.abs(feature - reference[f"feature_{index}"]).max() / (1 + np.abs(reference[f"feature_{index}"]).max()))
        for index, feature in enumerate(features)
    ]
    if off:
        checks.append(Check(f"{name} features (relative)", max(off), TOLERANCE))
    f, _ = backend.prior(golden["image"].astype(np.float32))
    checks.append(Check(f"{name} golden prior", probability_difference(f, golden["prior"]), TOLERANCE))
    return checks


def _check_loop(
    name: str, backend: Backend, table: SamplerTable, image: Array, reference: dict[str, Array], golden: Golden
) -> list[Check]:
    """The first denoiser pass and the whole loop on real slices, and the golden loop."""
    count = sum(key.startswith("feature_") for key in reference)
    features = tuple(reference[f"feature_{index}"] for index in range(count))
    step = backend.denoise(reference["x_start"], int(table.timesteps[0]), reference["prior"], features)
    checks = [Check(f"{name} denoiser", probability_difference(step, reference["x0hat_0"]), TOLERANCE)]
    last = f"x0hat_{len(table) - 1}"
    _, x0hat = run_networks(backend, table, image, lambda step: reference["noise"][0])
    checks.append(
        Check(f"{name} loop of {len(table)} steps", probability_difference(x0hat, reference[last]), TOLERANCE)
    )
    _, x0hat = run_networks(
        backend, table, golden["image"].astype(np.float32), lambda step: golden["noise"][0].astype(np.float32)
    )
    checks.append(Check(f"{name} golden loop", probability_difference(x0hat, golden[last]), TOLERANCE))
    return checks
