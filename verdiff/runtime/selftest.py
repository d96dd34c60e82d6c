"""Does this machine compute what the machine that exported the model did? Asked at load, answered by the goldens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from verdiff.diffusion import background_and_labels
from verdiff.errors import BackendError
from verdiff.precisions import precision_of

if TYPE_CHECKING:
    from verdiff.bundle import Bundle
    from verdiff.runtime.loaded import Executor

Maps = NDArray[np.float32]

# A model that magnifies rounding, as one that divides by a thousandth of a signal, is given twice what its gate
# measured.
ALLOWANCE, MOST = 2.0, 5e-2


def self_test(executor: Executor, bundle: Bundle) -> dict[str, float]:
    """Run the golden image through the networks and the loop; doubles as the warm-up.

    Returns:
        Difference from the golden output of each stage: ``prior`` and ``denoiser`` as the mean on [-1, 1],
        ``labels`` as a share of the pixels.

    Raises:
        BackendError: A stage is further off than the precision explains.
    """
    golden, backend = bundle.golden(), executor.backend
    table = bundle.manifest.table if bundle.has("denoiser") else None
    found = executor.golden_outputs(golden, table)
    expected = {"prior": "prior", "denoiser": "x0hat_0"}
    differences = {stage: _difference(found[stage], golden[expected[stage]]) for stage in expected if stage in found}
    if "probabilities" in found:
        ids = bundle.manifest.mask_ids
        differences["labels"] = float(np.mean(ids[background_and_labels(found["probabilities"])] != golden["labels"]))
    for stage, difference in differences.items():
        tolerance = _tolerance(bundle, backend.precision, stage)
        if not difference <= tolerance:
            raise BackendError(
                f"the self-test of {bundle.manifest.model_id} {bundle.manifest.version} on {backend.name} "
                f"{backend.version} ({backend.device}, {backend.precision}): the {stage} differs by {difference:.2g}",
                f"at most {tolerance:.2g} from the bundle's golden output",
                "use another backend or precision, or update the library; this machine would give another mask",
            )
    return differences


def _tolerance(bundle: Bundle, precision: str, stage: str) -> float:
    """How far a stage may be from its golden: what rounding explains, in this very model if a gate is on record."""
    record = bundle.manifest.gates.get(precision)
    drift = () if record is None else record.drift
    place = {"prior": 0, "denoiser": 1}.get(stage)
    if place is None or place >= len(drift):
        return precision_of(precision).self_test
    # Drift is a probability's, and so half of a difference on [-1, 1].
    return max(precision_of(precision).self_test, min(MOST, ALLOWANCE * 2 * drift[place]))


def _difference(found: Maps, golden: Maps) -> float:
    if found.shape != golden.shape:
        return float("inf")
    return float(np.abs(found - golden).mean())
