"""What made a mask, as plain JSON values: enough to make it again and to see that it is the same."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

import numpy as np

from verdiff import __version__
from verdiff.runtime.backends.protocol import OnAdapter

if TYPE_CHECKING:
    from verdiff.bundle import Bundle
    from verdiff.imaging import Volume
    from verdiff.runtime.answer import Answer
    from verdiff.runtime.backends.protocol import Described
    from verdiff.runtime.plausibility import Warned
    from verdiff.runtime.sampling import Sampling


def describe_model(bundle: Bundle) -> dict[str, Any]:
    """Identity of the model: id, version, the hash of every file, its labels and their codes, its kind."""
    manifest = bundle.manifest
    return {
        "id": manifest.model_id,
        "version": manifest.version,
        "manifest_sha256": bundle.manifest_sha256,
        "files": dict(manifest.files),
        "labels": manifest.label_ids,
        "codes": {label.name: label.snomed for label in manifest.labels if label.snomed},
        "diffusion": bundle.has("denoiser"),
        **({"trusted": bundle.trusted} if bundle.trusted else {}),
        **({"untrained": manifest.training["untrained"]} if "untrained" in manifest.training else {}),
    }


def describe_backend(backend: Described) -> dict[str, Any]:
    """What computed the networks."""
    return {
        "name": backend.name,
        "version": backend.version,
        "device": backend.device,
        **({"adapter": backend.adapter} if isinstance(backend, OnAdapter) else {}),
        "precision": backend.precision,
        "threads": backend.threads,
        "batch": backend.batch,
    }


def describe_scan(volume: Volume) -> dict[str, Any]:
    """The scan by its name, without its folder, its grid, and what has to be said of how it was read.

    Of a scan read from DICOM also how the patient lay; no UID.
    """
    return {
        "name": None if volume.source is None else volume.source.name,
        "modality": volume.modality,
        **({} if volume.identity is None else {"dicom": volume.identity.described()}),
        "size_xyz": list(volume.geometry.size),
        "spacing_mm_xyz": list(volume.geometry.spacing_mm),
        "notes": list(volume.notes),
    }


def describe_run(
    model: dict[str, Any],
    backend: dict[str, Any],
    volume: Volume,
    sampling: Sampling,
    answer: Answer,
    *,
    outcome: str,
    forced: tuple[str, ...],
    warned: tuple[Warned, ...] = (),
) -> dict[str, Any]:
    """The provenance of one mask.

    Args:
        model: Model that :func:`describe_model` describes.
        backend: Backend that :func:`describe_backend` describes.
        volume: The scan.
        sampling: What was asked for.
        answer: What was reached.
        outcome: See :class:`verdiff.runtime.Segmentation`.
        forced: Reasons against the scan that ``force`` went past.
        warned: What of the scan or of its mask is unlike the training data.
    """
    return {
        "model": model,
        "scan": describe_scan(volume),
        "sampling": sampling.description,
        "reached": {
            "slices": len(answer.steps),
            "slices_refined": int(np.count_nonzero(answer.samples)),
            "samples": [int(answer.samples.min()), int(answer.samples.max())],
            "steps": [int(answer.steps.min()), int(answer.steps.max())],
        },
        "backend": backend,
        "outcome": outcome,
        "forced": list(forced),
        "warnings": [each.to_dict() for each in warned],
        "versions": {"verdiff": __version__, "python": platform.python_version(), "numpy": np.__version__},
    }
