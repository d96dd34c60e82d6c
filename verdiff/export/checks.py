"""Checks of a bundle that need no torch: a comparison and its limit; the pipeline graphs against the host's path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verdiff.bundle import Bundle
from verdiff.bundle.objects import stated
from verdiff.diffusion import SamplerTable, background_and_labels, fuse_mean, noise_source, run_loop
from verdiff.errors import BackendError, VerificationError
from verdiff.export.spread import CALM, Spread, mean_difference, probability_difference
from verdiff.extras import install
from verdiff.imaging.resample import resize_planes
from verdiff.precisions import REFERENCE, precision_of
from verdiff.runtime import silent
from verdiff.runtime.backends import Backend, installed_backends, open_backend
from verdiff.runtime.backends.onnxruntime import CPU, ERRORS_ONLY

Array = NDArray[np.float32]
# The pipeline is tried on slices this much finer than the model's grid, so that both of its resamplings do work.
PIPELINE_ZOOM = 1.5
PIPELINES = ("pipeline", "pipeline-unrolled")


@dataclass(frozen=True)
class AgreementCheck:
    """One comparison: the largest difference found (in probability unless named otherwise) and the limit."""

    name: str
    value: float
    limit: float

    @property
    def passed(self) -> bool:
        """Whether the difference is within its limit; a NaN is not."""
        return bool(self.value <= self.limit)


def require_passed(checks: Sequence[AgreementCheck], say: Callable[[str], None]) -> None:
    """Report every check.

    Raises:
        VerificationError: Naming each comparison that is out of its limit.
    """
    for check in checks:
        say(f"{'passed' if check.passed else 'FAILED'}  {check.name}: {check.value:.2e} (limit {check.limit:.0e})")
    failed = [check for check in checks if not check.passed]
    if failed:
        raise VerificationError(
            "; ".join(f"{check.name} differs by {check.value:.3g}" for check in failed),
            f"at most {failed[0].limit:g}",
            "nothing was written; report the versions that 'verdiff doctor' shows",
        )


def backends_of(bundle: Bundle) -> dict[str, Backend]:
    """``bundle`` in FP32 on every backend installed, by name.

    Raises:
        BackendError: ONNX Runtime is not installed.
    """
    installed = installed_backends()
    if "onnxruntime" not in installed:
        raise BackendError("onnxruntime is not installed", "ONNX Runtime, to verify the export", install("cpu"))
    return {name: open_backend(bundle, backend=name, precision=REFERENCE, threads=None) for name in installed}


def within_rounding(
    backend: str, stage: str, ours: Array, theirs: Array, spread: Spread = CALM
) -> list[AgreementCheck]:
    """The checks of one stage, on [-1, 1], against what rounding explains: its worst pixel, and the mean over all."""
    return [
        AgreementCheck(f"{backend} {stage}", probability_difference(ours, theirs), spread.allows(backend)),
        AgreementCheck(f"{backend} {stage}, mean", mean_difference(ours, theirs), spread.allows_mean),
    ]


def run_networks(
    backend: Backend, table: SamplerTable, image: Array, noise: Callable[[int], Array]
) -> tuple[Array, Array]:
    """Prior and final x0hat of all slices, one batch."""
    f, features = backend.prior(image)
    return f, run_loop(lambda x, t: backend.denoise(x, t, f, features), table, f, noise)


def check_pipelines(
    bundle: Bundle, planes: Array, precision: str = REFERENCE, spread: Spread = CALM
) -> list[AgreementCheck]:
    """Each pipeline graph of ``precision`` against the host's own path, from raw slices finer than the model's grid.

    Args:
        bundle: The bundle.
        planes: Slices [n, rows, cols] in [-1, 1] on the model's grid, to make raw ones from.
        precision: Precision of the graphs.
        spread: What rounding alone does to the model's last stage in that precision.
    """
    roles = [role for role in PIPELINES if bundle.has(role, precision)]
    allowed = precision_of(precision).pipeline
    if not roles or allowed is None:
        return []
    feed, image = _raw_slices(planes, bundle.manifest.multiple)
    rows, cols = (int(length) for length in feed["size"])
    backend = open_backend(bundle, backend="onnxruntime", precision=precision, threads=None)
    if bundle.has("denoiser"):
        noise = noise_source(
            bundle.manifest.defaults.seed,
            slices=range(len(image)),
            samples=[0] * len(image),
            shape=(len(bundle.manifest.labels), *image.shape[2:]),
        )
        feed["noise"] = noise(0)[None]
        _, mask = run_networks(backend, stated(bundle.manifest.table, "table"), image, noise)
    else:
        mask, _ = backend.prior(image)
    fused, raw_size = fuse_mean(mask[None]), feed["slices"].shape[1:]
    expected = np.clip(resize_planes(fused.probabilities[:, :, :rows, :cols], *raw_size), 0, 1)
    labels = bundle.manifest.mask_ids[background_and_labels(expected)]
    surprise = np.clip(resize_planes(fused.uncertainty[:, :rows, :cols], *raw_size), 0, 1)
    checks = []
    for role in roles:
        for name in installed_backends():
            found = _run_graph(name, bundle.graph(role, precision), feed)
            what = f"{name} {role}" + ("" if precision == REFERENCE else f" {precision}")
            off, surprise_off = np.abs(found["probabilities"] - expected), np.abs(found["uncertainty"] - surprise)
            limit = spread.allows(name)
            decided = _decided(expected, limit)
            checks += [
                AgreementCheck(f"{what} probabilities", float(off.max()), limit),
                AgreementCheck(f"{what} probabilities, mean", float(off.mean()), spread.allows_mean),
                AgreementCheck(f"{what} uncertainty", float(surprise_off.max()), max(limit, allowed.uncertainty)),
                AgreementCheck(
                    f"{what} labels (share of pixels)",
                    float(((found["labels"] != labels) & decided).mean()),
                    1 - allowed.labels,
                ),
            ]
    return checks


def _raw_slices(planes: Array, multiple: int) -> tuple[dict[str, NDArray[Any]], Array]:
    """What a pipeline graph is fed, and the same slices as a host makes them for the networks: [n, 1, H, W].

    Args:
        planes: Slices [n, rows, cols] in [-1, 1] on the model's grid.
        multiple: What height and width of the networks' input are multiples of.
    """
    # Sizes that are no multiple, so that the padding is exercised.
    rows, cols = planes.shape[1] - 5, planes.shape[2] - 3
    planes = planes[:, :rows, :cols]
    raw = 100 + 50 * resize_planes(planes, round(rows * PIPELINE_ZOOM), round(cols * PIPELINE_ZOOM))
    feed: dict[str, NDArray[Any]] = {
        "slices": raw.astype(np.float32),
        "bounds": np.array([50, 150], np.float32),
        "size": np.array([rows, cols], np.int64),
    }
    unit = np.clip((raw - 50) / 50 - 1, -1, 1).astype(np.float32)
    pads = ((0, 0), (0, -rows % multiple), (0, -cols % multiple))
    return feed, np.pad(resize_planes(unit, rows, cols), pads, constant_values=-1)[:, None]


def _decided(probabilities: NDArray[np.float32], limit: float) -> NDArray[np.bool_]:
    """Where a label does not hang on rounding: the two likeliest classes lie further apart than it moves each of them.

    Args:
        probabilities: [N, K, H, W] of the structures; the background has what the likeliest of them leaves.
        limit: How far rounding may move a probability.
    """
    likeliest = probabilities.max(axis=1, keepdims=True)
    classes = np.sort(np.concatenate([1 - likeliest, probabilities], axis=1), axis=1)
    decided: NDArray[np.bool_] = classes[:, -1] - classes[:, -2] > 2 * limit
    return decided


def _run_graph(backend: str, graph: bytes, feed: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """One run of a whole graph as a host without verdiff would do it: every output by name."""
    if backend == "openvino":
        core = silent.openvino().Core()
        compiled = core.compile_model(core.read_model(graph), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        results = compiled(feed)
        return {output.any_name: results[output] for output in compiled.outputs}
    onnxruntime = silent.onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    session = onnxruntime.InferenceSession(graph, options, providers=[CPU])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))
