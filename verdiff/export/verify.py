"""The checks between an export and its bundle: what is written gives what PyTorch gave, stage by stage.

They run on the bundle as a user would open it, in a temporary folder, so that storage, hashes, loading and the
backends are part of what is checked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verdiff.bundle import Bundle
from verdiff.diffusion.fusion import background_and_labels, fuse_mean
from verdiff.diffusion.loop import run_loop
from verdiff.diffusion.noise import noise_source
from verdiff.diffusion.tables import SamplerTable
from verdiff.errors import BackendError, VerificationError
from verdiff.export.golden import GOLDEN_SEED, torch_reference
from verdiff.imaging.resample import resize_planes
from verdiff.runtime.backends import Backend, installed_backends, open_backend
from verdiff.train.config import RunConfig
from verdiff.train.networks import VerdiffNet

Array = NDArray[np.float32]
TOLERANCE = 1e-4
LABEL_AGREEMENT = 0.9999
# The pipeline is tried on slices this much finer than the model's grid, so that both of its resamplings do work.
PIPELINE_ZOOM = 1.5


@dataclass(frozen=True)
class Check:
    """One comparison: the largest difference found (in probability unless named otherwise) and the limit."""

    name: str
    value: float
    limit: float

    @property
    def passed(self) -> bool:
        """Whether the difference is within its limit; a NaN is not."""
        return bool(self.value <= self.limit)


def verify_bundle(
    bundle: Bundle, net: VerdiffNet, config: RunConfig, table: SamplerTable, image: Array, say: Callable[[str], None]
) -> tuple[Check, ...]:
    """Compare ``bundle`` with ``net`` on real slices ``image`` [N, 1, H, W] with every backend installed.

    Raises:
        VerificationError: Naming each comparison that is out of its limit.
        BackendError: ONNX Runtime is not installed.
    """
    if "onnxruntime" not in installed_backends():
        raise BackendError(
            "onnxruntime is not installed", "ONNX Runtime, to verify the export", "pip install 'verdiff[cpu]'"
        )
    reference = torch_reference(net, config, table, image)
    checks: list[Check] = []
    for name in installed_backends():
        backend = open_backend(bundle, backend=name, device="cpu", precision="fp32", threads=None)
        checks += _check_stages(name, backend, table, image, reference)
        checks += _check_golden(name, backend, table, bundle.golden())
    if bundle.has("pipeline"):
        backend = open_backend(bundle, backend="onnxruntime", device="cpu", precision="fp32", threads=None)
        checks += _check_pipeline(bundle, backend, table, image[:2, 0])
    for check in checks:
        say(f"{'passed' if check.passed else 'FAILED'}  {check.name}: {check.value:.2e} (limit {check.limit:.0e})")
    failed = [check for check in checks if not check.passed]
    if failed:
        raise VerificationError(
            "; ".join(f"{check.name} differs by {check.value:.3g}" for check in failed),
            f"at most {failed[0].limit:g}",
            "nothing was written; report the versions that 'verdiff doctor' shows",
        )
    return tuple(checks)


def _probability_difference(ours: NDArray[np.generic], theirs: NDArray[np.generic]) -> float:
    """Largest difference of two arrays on [-1, 1], as probabilities."""
    return float(np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max()) / 2


def _run(backend: Backend, table: SamplerTable, image: Array, noise: Callable[[int], Array]) -> tuple[Array, Array]:
    """Prior and final x0hat of all slices, one batch."""
    f, features = backend.prior(image)
    return f, run_loop(lambda x, t: backend.denoise(x, t, f, features), table, f, noise)


def _check_stages(
    name: str, backend: Backend, table: SamplerTable, image: Array, reference: dict[str, Array]
) -> list[Check]:
    """Prior, one denoiser pass at each row, and the whole loop, on real slices."""
    f, features = backend.prior(image)
    checks = [Check(f"{name} prior", _probability_difference(f, reference["prior"]), TOLERANCE)]
    ours = tuple(reference[f"feature_{index}"] for index in range(len(features)))
    worst = max(float(np.abs(a - b).max() / (1 + np.abs(b).max())) for a, b in zip(features, ours, strict=True))
    checks.append(Check(f"{name} features (relative)", worst, TOLERANCE))
    step = backend.denoise(reference["x_start"], int(table.timesteps[0]), reference["prior"], ours)
    checks.append(Check(f"{name} denoiser", _probability_difference(step, reference["x0hat_0"]), TOLERANCE))
    _, x0hat = _run(backend, table, image, lambda step: reference["noise"][0])
    last = reference[f"x0hat_{len(table) - 1}"]
    checks.append(Check(f"{name} loop of {len(table)} steps", _probability_difference(x0hat, last), TOLERANCE))
    return checks


def _check_golden(
    name: str, backend: Backend, table: SamplerTable, golden: dict[str, NDArray[np.generic]]
) -> list[Check]:
    """The goldens in the bundle, reproduced from the graphs in the bundle."""
    image = golden["image"].astype(np.float32)
    f, x0hat = _run(backend, table, image, lambda step: golden["noise"][0].astype(np.float32))
    return [
        Check(f"{name} golden prior", _probability_difference(f, golden["prior"]), TOLERANCE),
        Check(f"{name} golden loop", _probability_difference(x0hat, golden[f"x0hat_{len(table) - 1}"]), TOLERANCE),
    ]


def _check_pipeline(bundle: Bundle, backend: Backend, table: SamplerTable, planes: Array) -> list[Check]:
    """The single graph against the host's own path, from raw slices finer than the model's grid to labels."""
    count, rows, cols = planes.shape
    multiple = bundle.manifest.multiple
    rows, cols = rows - 5, cols - 3  # sizes that are no multiple, so that the padding is exercised
    planes = planes[:, :rows, :cols]
    raw = 100 + 50 * resize_planes(planes, round(rows * PIPELINE_ZOOM), round(cols * PIPELINE_ZOOM))
    scan = raw.shape[1:]
    pads = ((0, 0), (0, -rows % multiple), (0, -cols % multiple))
    unit = np.clip((raw - 50) / 50 - 1, -1, 1).astype(np.float32)
    image = np.pad(resize_planes(unit, rows, cols), pads, constant_values=-1)[:, None]
    classes = len(bundle.manifest.labels)
    noise = noise_source(GOLDEN_SEED, slices=range(count), samples=[0] * count, shape=(classes, *image.shape[2:]))
    _, x0hat = _run(backend, table, image, noise)
    fused = fuse_mean(x0hat[None])
    expected = np.clip(resize_planes(fused.probabilities[:, :, :rows, :cols], *scan), 0, 1)
    feed: dict[str, NDArray[Any]] = {
        "slices": raw.astype(np.float32),
        "bounds": np.array([50, 150], np.float32),
        "size": np.array([rows, cols], np.int64),
        "noise": noise(0)[None],
    }
    ids = np.array([0, *(label.id for label in bundle.manifest.labels)], np.uint8)
    labels = ids[background_and_labels(expected)]
    surprise = np.clip(resize_planes(fused.uncertainty[:, :rows, :cols], *scan), 0, 1)
    checks = []
    for name in installed_backends():
        found = _run_graph(name, bundle.graph("pipeline"), feed)
        checks += [
            Check(f"{name} pipeline probabilities", float(np.abs(found["probabilities"] - expected).max()), TOLERANCE),
            Check(f"{name} pipeline uncertainty", float(np.abs(found["uncertainty"] - surprise).max()), 10 * TOLERANCE),
            Check(
                f"{name} pipeline labels (share of pixels)",
                float((found["labels"] != labels).mean()),
                1 - LABEL_AGREEMENT,
            ),
        ]
    return checks


def _run_graph(backend: str, graph: bytes, feed: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """One run of a whole graph as a host without verdiff would do it: every output by name."""
    if backend == "openvino":
        import openvino

        core = openvino.Core()
        compiled = core.compile_model(core.read_model(graph), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        results = compiled(feed)
        return {output.any_name: results[output] for output in compiled.outputs}
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))
