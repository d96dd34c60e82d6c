"""Does this machine compute what the machine that exported the model did? Asked at load, answered by the goldens."""

from __future__ import annotations

import math
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from verdiff.diffusion import SamplerTable, StepState, background_and_labels, fuse_mean, run_loop
from verdiff.errors import BackendError
from verdiff.precisions import precision_of
from verdiff.runtime.backends import loops_on_device
from verdiff.runtime.batching import Batcher
from verdiff.runtime.frontier import Pace
from verdiff.runtime.lanes import Lanes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verdiff.bundle import Bundle
    from verdiff.runtime.backends import Backend
    from verdiff.runtime.device.backend import DeviceBackend

Maps = NDArray[np.float32]

# A model that magnifies rounding, as one that divides by a thousandth of a signal, is given twice what its gate
# measured.
ALLOWANCE, MOST = 2.0, 5e-2
# Of the networks' pace, and the seconds after which no further one begins.
TRIES, TRYING_S = 3, 0.15


def self_test(backend: Backend | DeviceBackend, bundle: Bundle) -> dict[str, float]:
    """Run the golden image through the networks and the loop; doubles as the warm-up.

    Returns:
        Difference from the golden output of each stage: ``prior`` and ``denoiser`` as the mean on [-1, 1],
        ``labels`` as a share of the pixels.

    Raises:
        BackendError: A stage is further off than the precision explains.
    """
    golden = bundle.golden()
    table = SamplerTable.from_dict(bundle.manifest.table) if bundle.has("denoiser") else None
    if loops_on_device(backend):
        from verdiff.runtime.device.golden import device_outputs

        found = device_outputs(backend, golden, table)
    else:
        found = _host_outputs(Batcher(backend.lane), golden, table)
    expected = {"prior": "prior", "denoiser": "x0hat_0"}
    differences = {stage: _difference(found[stage], golden[expected[stage]]) for stage in expected if stage in found}
    if "probabilities" in found:
        ids = np.array([0, *bundle.manifest.label_ids.values()], np.uint8)
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
    drift = bundle.manifest.gates.get(precision, {}).get("drift", [])
    place = {"prior": 0, "denoiser": 1}.get(stage)
    if place is None or place >= len(drift):
        return precision_of(precision).self_test
    # Drift is a probability's, and so half of a difference on [-1, 1].
    return max(precision_of(precision).self_test, min(MOST, ALLOWANCE * 2 * float(drift[place]["mean"])))


def time_networks(backend: Backend, bundle: Bundle) -> Pace:
    """What a pass takes here a pixel of a slice, or a voxel of a window, from the golden image, every lane at work.

    After the self-test, when all is warm; the quickest of a few tries, unless one alone takes long. The first try of
    every lane at once is half as slow again as the next, and a budget is judged by this.
    """
    golden = bundle.golden()
    with Lanes(backend.lanes) as lanes:
        batcher = Batcher(backend.lane, lanes)
        image = np.repeat(golden["image"][:1], backend.lanes * backend.batch, axis=0)
        tries: list[tuple[float, float]] = []
        while len(tries) < TRIES and sum(map(sum, tries)) < TRYING_S:
            begun = perf_counter()
            prior, features = batcher.prior(image)
            after = perf_counter()
            if bundle.has("denoiser"):
                batcher.denoise(prior, 1, prior, features, np.arange(len(prior)))
            tries.append((after - begun, perf_counter() - after))
    pixels = len(image) * math.prod(image.shape[2:])
    prior_s, denoiser_s = (min(seconds) for seconds in zip(*tries, strict=True))
    return Pace(prior_s / pixels, denoiser_s / pixels if bundle.has("denoiser") else 0.0)


def _host_outputs(batcher: Batcher, golden: Mapping[str, Maps], table: SamplerTable | None) -> dict[str, Maps]:
    """The golden image through ``batcher``: ``prior``, and with a table ``denoiser`` and ``probabilities``."""
    prior, features = batcher.prior(golden["image"])
    found = {"prior": prior}
    owner = np.arange(len(prior))

    def denoise(x: Maps, timestep: int) -> Maps:
        return batcher.denoise(x, timestep, prior, features, owner)

    def first(state: StepState) -> None:
        found.setdefault("denoiser", state.x0hat)

    # A table that adds noise at every step would need more noise than the goldens keep.
    if table is not None and table.deterministic:
        x0hat = run_loop(denoise, table, prior, lambda _: golden["noise"][0], on_step=first)
        found["probabilities"] = fuse_mean(x0hat[None]).probabilities
    elif table is not None:
        found["denoiser"] = denoise(np.ascontiguousarray(golden["x_start"], np.float32), int(table.timesteps[0]))
    return found


def _difference(found: Maps, golden: Maps) -> float:
    if found.shape != golden.shape:
        return float("inf")
    return float(np.abs(found - golden).mean())
