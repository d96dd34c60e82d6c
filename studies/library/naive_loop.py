"""A naive ONNX Runtime loop: what a straightforward port of a sampling script does, kept as such a port would be.

Two sessions with ONNX Runtime's defaults beside the number of threads, one call at a time. For every slice and every
sample in turn the prior network runs again; every step draws float64 noise from numpy whether the sampler adds it or
not, updates x in float64, and hands a fresh float32 copy of everything to the denoiser; at the end the samples are
stacked and averaged. Nothing is shared between samples, nothing reused between steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from studies.library.runtime_slices import Answer, Maps
from verdiff.diffusion import SamplerTable
from verdiff.errors import BackendError
from verdiff.extras import install
from verdiff.runtime import silent

if TYPE_CHECKING:
    from verdiff.bundle import Bundle


def naive_answer(bundle: Bundle, table: SamplerTable, samples: int, *, threads: int) -> Answer:
    """The naive loop over the bundle's float32 graphs.

    Args:
        bundle: The model.
        table: The sampler.
        samples: Runs a slice.
        threads: Threads of a session.

    Raises:
        BackendError: ONNX Runtime is not installed.
    """
    try:
        onnxruntime: Any = silent.onnxruntime()
    except ImportError as error:
        raise BackendError("onnxruntime is not installed", "it, for this rival", install("cpu")) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    prior_session, denoiser_session = (
        onnxruntime.InferenceSession(bundle.graph(role, "fp32"), options, providers=["CPUExecutionProvider"])
        for role in ("prior", "denoiser")
    )
    names = [feature.name for feature in bundle.manifest.features]
    random = np.random.default_rng(bundle.manifest.defaults.seed)

    def sample(image: Maps) -> Any:
        f, *features = prior_session.run(["prior", *names], {"image": image})
        x = table.start[0] * f + table.start[1] * random.standard_normal(f.shape)
        previous = np.zeros_like(f)
        for timestep, (a, b, c, d, e) in zip(table.timesteps, table.coefficients, strict=True):
            inputs = {"x": x.astype(np.float32), "timestep": np.full(1, timestep, np.float32), "prior": f.copy()}
            inputs |= {name: feature.copy() for name, feature in zip(names, features, strict=True)}
            x0hat = denoiser_session.run(["x0hat"], inputs)[0]
            x = a * x + b * x0hat + c * f + d * random.standard_normal(f.shape) + e * previous
            previous = x0hat
        return x

    def answer(images: Maps, numbers: Sequence[int]) -> Maps:
        found = []
        for image in images:
            drawn = [sample(image[None]) for _ in range(samples)]
            found.append((np.stack(drawn).mean(axis=0) + 1) / 2)
        return np.concatenate(found).astype(np.float32)

    return answer
