"""Does this machine compute what the machine that exported the model did? Asked at load, answered by the goldens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from verdiff.diffusion import SamplerTable, StepState, background_and_labels, fuse_mean, run_loop
from verdiff.errors import BackendError

if TYPE_CHECKING:
    from verdiff.bundle import Bundle
    from verdiff.runtime.batching import Batcher

Maps = NDArray[np.float32]

# Largest difference that rounding explains: the mean of |difference| on [-1, 1] for a network's output, the share of
# pixels for the labels at the end of the loop. A wrong graph or kernel is off by far more.
TOLERANCE = {"fp32": 1e-3, "fp16": 1e-2, "bf16": 3e-2}


def self_test(batcher: Batcher, bundle: Bundle) -> dict[str, float]:
    """Run the golden image through the networks and the loop; doubles as the warm-up.

    Returns:
        Difference from the golden output of each stage: ``prior`` and ``denoiser`` as the mean on [-1, 1],
        ``labels`` as a share of the pixels.

    Raises:
        BackendError: A stage is further off than the precision explains.
    """
    golden = bundle.golden()
    backend = batcher.backend
    prior, features = batcher.prior(golden["image"])
    differences = {"prior": _difference(prior, golden["prior"])}
    table = SamplerTable.from_dict(bundle.manifest.table)
    owner = np.arange(len(prior))

    def denoise(x: Maps, timestep: int) -> Maps:
        return batcher.denoise(x, timestep, prior, features, owner)

    def first(state: StepState) -> None:
        if state.row == 0:
            differences["denoiser"] = _difference(state.x0hat, golden["x0hat_0"])

    # A table that adds noise at every step would need more noise than the goldens keep.
    if bundle.has("denoiser") and table.deterministic:
        x0hat = run_loop(denoise, table, prior, lambda _: golden["noise"][0], on_step=first)
        ids = np.array([0, *bundle.manifest.label_ids.values()], np.uint8)
        labels = ids[background_and_labels(fuse_mean(x0hat[None]).probabilities)]
        differences["labels"] = float(np.mean(labels != golden["labels"]))
    elif bundle.has("denoiser"):
        x_start = np.ascontiguousarray(golden["x_start"], np.float32)
        differences["denoiser"] = _difference(denoise(x_start, int(table.timesteps[0])), golden["x0hat_0"])
    for stage, difference in differences.items():
        if not difference <= TOLERANCE[backend.precision]:
            raise BackendError(
                f"the self-test of {bundle.manifest.model_id} {bundle.manifest.version} on {backend.name} "
                f"{backend.version} ({backend.device}, {backend.precision}): the {stage} differs by {difference:.2g}",
                f"at most {TOLERANCE[backend.precision]:g} from the bundle's golden output",
                "use another backend or precision, or update the library; this machine would give another mask",
            )
    return differences


def _difference(found: Maps, golden: Maps) -> float:
    if found.shape != golden.shape:
        return float("inf")
    return float(np.abs(found - golden).mean())
