"""Small valid manifests and bundles for any test that needs one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from verdiff.bundle import GOLDEN, Bundle, Defaults, Feature, Label, Manifest, graph_name, open_bundle, write_bundle
from verdiff.bundle.golden import pack_golden

_MAPS = np.zeros((1, 3, 16, 16), np.float32)
GOLDEN_ARRAYS: dict[str, np.ndarray] = {
    "image": np.linspace(-1, 1, 256, dtype=np.float32).reshape(1, 1, 16, 16),
    "labels": np.zeros((1, 16, 16), np.uint8),
    "noise": _MAPS[None],
    **dict.fromkeys(("prior", "x_start", "x0hat_0"), _MAPS),
}
FILES = {
    graph_name("prior"): b"prior graph" * 20,
    graph_name("denoiser"): b"denoiser graph" * 20,
    graph_name("denoiser", "fp16"): b"half",
    "NOTICE": b"",
    GOLDEN: pack_golden(GOLDEN_ARRAYS),
}


def make_defaults(steps: int, samples: int) -> Defaults:
    """The defaults of a model: 0 steps and 0 samples are those of one that answers in one pass."""
    return Defaults(
        steps=steps,
        samples=samples,
        seed=35,
        sampler="ddim",
        eta=0.0,
        start="noise",
        start_step=None,
        fusion="mean",
    )


def make_manifest(**overrides: Any) -> Manifest:
    """A valid manifest of a two-step model with three structures; keyword arguments replace its fields."""
    values: dict[str, Any] = {
        "model_id": "tiny-mr",
        "version": "1.2.3",
        "labels": (Label(1, "vertebra", "51282000"), Label(2, "disc"), Label(3, "canal")),
        "modality": "MR",
        "view": "sagittal",
        "spacing_mm": 0.9375,
        "intensity": {"kind": "percentile", "low": 0.5, "high": 99.5},
        "multiple": 16,
        "max_pixels": 1 << 20,
        "process": {"name": "verdiff", "schedule": {"kind": "linear", "timesteps": 1000}, "signal_scale": 1.0},
        "table": {
            "timesteps": [1000, 500],
            "coefficients": [[0.3, 0.7, 0.1, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0, 0.0]],
            "start": [1.0, 1.0],
        },
        "defaults": make_defaults(2, 1),
        "features": (Feature("feature_0", 16, 1), Feature("feature_1", 32, 2)),
        "prediction": "x0",
        "weights_stored": "float32",
        "training": {"data": "made-up planes", "licence": "CC0-1.0", "fold": 0, "minutes": 1.5, "seed": 35},
        "metrics": {"dice": {"vertebra": 0.9, "disc": 0.8}},
        "intended_use": "tests",
        "limits": ("not for patients",),
        "files": {},
        "suitability": {"pixel_spacing_mm": [0.5, 1.5]},
    }
    return Manifest(**{**values, **overrides})


def make_bundle(path: Path, files: dict[str, bytes] | None = None, **overrides: Any) -> Bundle:
    """Write the small bundle to `path` (a zip if it ends with .verdiff, else a folder) and open it."""
    write_bundle(path, make_manifest(**overrides), FILES if files is None else files)
    return open_bundle(path)
