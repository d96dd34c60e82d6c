"""The two networks of a bundle as graphs, and one run of them over a patient's slices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from verdiff.bundle import Bundle
from verdiff.diffusion import SamplerTable, StepState, fuse_mean, noise_source, run_loop
from verdiff.export.precision.execution import CpuGraph, Graph, GraphFactory

Maps = NDArray[np.float32]


@dataclass(frozen=True)
class NetworkPair:
    """``prior`` and ``denoiser`` of one precision; a single-pass model has no denoiser."""

    prior: onnx.ModelProto
    denoiser: onnx.ModelProto | None

    @classmethod
    def of(cls, bundle: Bundle, precision: str = "fp32") -> NetworkPair:
        """The graphs of ``bundle``, hashes verified."""
        denoiser = bundle.graph("denoiser", precision) if bundle.has("denoiser") else None
        return cls(
            onnx.load_from_string(bundle.graph("prior", precision)),
            onnx.load_from_string(denoiser) if denoiser is not None else None,
        )

    def roles(self) -> dict[str, onnx.ModelProto]:
        """The graphs by role."""
        return {"prior": self.prior} | ({"denoiser": self.denoiser} if self.denoiser is not None else {})

    def each(self, change: Callable[[onnx.ModelProto], onnx.ModelProto]) -> NetworkPair:
        """Both graphs changed in the same way."""
        return NetworkPair(change(self.prior), change(self.denoiser) if self.denoiser is not None else None)


@dataclass(frozen=True)
class PatientSlices:
    """Some real slices of one patient on the model's grid: float32 [S, 1, H, W] in [-1, 1]."""

    name: str
    image: Maps


@dataclass(frozen=True)
class LoopOutputs:
    """What a run over one patient's slices gave.

    Attributes:
        prior: [S, K, H, W].
        steps: x0hat after each step, [S, K, H, W] each; empty without a denoiser.
        probabilities: [S, K, H, W] in [0, 1].
        uncertainty: [S, H, W] in [0, 1].
    """

    prior: Maps
    steps: tuple[Maps, ...]
    probabilities: Maps
    uncertainty: Maps


class PatientRunner:
    """Runs networks slice by slice through the loop, as the runtime does; ``feeds`` shows each call's inputs.

    Args:
        networks: Graphs that ONNX Runtime's CPU provider computes faithfully
            (:func:`~verdiff.export.precision.execution.as_executed` for half precision).
        table: The sampler; None for networks without a denoiser.
        seed: Key of the noise, which is the same whatever the precision.
        open_graph: Opens a graph to run it.
    """

    def __init__(
        self, networks: NetworkPair, table: SamplerTable | None, seed: int, open_graph: GraphFactory = CpuGraph
    ) -> None:
        self.table, self.seed = table, seed
        self._prior = open_graph(networks.prior)
        self._denoiser = open_graph(networks.denoiser) if networks.denoiser is not None else None
        self._features = [value.name for value in networks.prior.graph.output[1:]]

    def run(
        self, patient: PatientSlices, feeds: Callable[[str, dict[str, NDArray]], None] | None = None
    ) -> LoopOutputs:
        """All slices of ``patient``; ``feeds(role, inputs)`` is called before every network call."""
        outputs = [self._slice(patient.image[i : i + 1], i, feeds) for i in range(len(patient.image))]
        steps = zip(*(each.steps for each in outputs), strict=True)
        return LoopOutputs(
            np.concatenate([each.prior for each in outputs]),
            tuple(np.concatenate(step) for step in steps),
            np.concatenate([each.probabilities for each in outputs]),
            np.concatenate([each.uncertainty for each in outputs]),
        )

    def _slice(self, image: Maps, index: int, feeds: Callable[[str, dict[str, NDArray]], None] | None) -> LoopOutputs:
        def call(role: str, graph: Graph, feed: dict[str, NDArray]) -> list[Maps]:
            if feeds is not None:
                feeds(role, feed)
            return graph.run(feed)

        prior, *features = call("prior", self._prior, {"image": image})
        steps: list[Maps] = []
        last = prior
        if self._denoiser is not None and self.table is not None:
            denoiser, condition = self._denoiser, dict(zip(self._features, features, strict=True))
            noise = noise_source(self.seed, slices=[index], samples=[0], shape=prior.shape[1:])

            def denoise(x: Maps, timestep: int) -> Maps:
                feed = {"x": x, "timestep": np.full(1, timestep, np.float32), "prior": prior, **condition}
                return call("denoiser", denoiser, feed)[0]

            def keep(state: StepState) -> None:
                steps.append(state.x0hat)

            last = run_loop(denoise, self.table, prior, noise, on_step=keep)
        fused = fuse_mean(last[None])
        return LoopOutputs(prior, tuple(steps), fused.probabilities, fused.uncertainty)
