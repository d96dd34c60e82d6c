"""Which graph of a bundle an engine of a role is made of, and which engines the runtime drives."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from verdiff.bundle.layout import graph_name
from verdiff.bundle.names import model_argument
from verdiff.errors import BackendError
from verdiff.precisions import REFERENCE, precision_of

if TYPE_CHECKING:
    from verdiff.bundle.reading import Bundle

# The step is the denoiser with the sampler's update in it; the pipeline is the one without a Loop.
STORED = {"prior": "prior", "step": "denoiser", "pipeline": "pipeline-unrolled"}


def engine_roles(bundle: Bundle) -> tuple[str, ...]:
    """The engines that the runtime drives: prior and step, or the prior alone for a single-pass model."""
    return ("prior", "step") if bundle.has("denoiser") else ("prior",)


def stored_hash(bundle: Bundle, role: str, precision: str) -> str | None:
    """SHA-256 of the graph that an engine of this role and precision is made of; None where the bundle has none."""
    return bundle.manifest.files.get(graph_name(STORED[role], precision))


def missing_graph(bundle: Bundle, graph: str, precision: str) -> BackendError:
    """The error for a ``"prior"`` or ``"denoiser"`` that the bundle does not carry, with the command that adds it."""
    carried = bundle.precisions(graph)
    name = f"{bundle.manifest.model_id} {bundle.manifest.version}"
    if not carried:
        return BackendError(f"{name} has no {graph} graph", "a model with this graph", "build its other roles")
    remedy = "choose another --precision"
    if precision != REFERENCE:
        option = f"--{precision_of(precision).name}"
        remedy = shlex.join(["verdiff", "export", model_argument(bundle.path), option])
    return BackendError(f"{name} has no {graph} graph in {precision}", f"one of {', '.join(carried)}", remedy)
