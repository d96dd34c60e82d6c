"""Islands a model needs beyond the required ones: by the range of its activations, then by bisection on the mask."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import onnx

from verdiff.errors import VerificationError
from verdiff.export.precision.diagnosis import Ranges
from verdiff.export.precision.execution import as_executed
from verdiff.export.precision.gate import Gate, GateReport, Limits
from verdiff.export.precision.half import HALF_MAX, HalfNetwork
from verdiff.export.precision.networks import Networks
from verdiff.export.precision.quantise import QuantisedNetwork

# Another patient may drive an activation further than the ones at hand.
HEADROOM = 4.0
MOST_ISLANDS = 8

Extra = dict[str, dict[str, str]]
Convert = Callable[[str, onnx.ModelProto, Mapping[str, str]], HalfNetwork | QuantisedNetwork]
"""(role, FP32 graph, node -> reason of what stays in FP32) -> the network in reduced precision."""


@dataclass(frozen=True)
class Candidate:
    """A conversion by role, with the islands that were added to the required ones."""

    networks: dict[str, HalfNetwork | QuantisedNetwork]
    extra: Extra

    @classmethod
    def of(cls, source: Networks, convert: Convert, extra: Mapping[str, Mapping[str, str]] | None = None) -> Candidate:
        """Convert both networks of ``source``; ``extra`` is role -> node -> reason."""
        kept = {role: dict((extra or {}).get(role, {})) for role in source.roles()}
        return cls({role: convert(role, model, kept[role]) for role, model in source.roles().items()}, kept)

    def graphs(self) -> Networks:
        """The converted graphs."""
        denoiser = self.networks.get("denoiser")
        return Networks(self.networks["prior"].model, denoiser.model if denoiser is not None else None)

    def executed(self) -> Networks:
        """The graphs as hardware of their precision computes them."""
        return self.graphs().each(as_executed)


def islands_by_range(ranges: Mapping[str, Ranges]) -> Extra:
    """Nodes that meet an activation too near the end of FP16's range."""
    limit = HALF_MAX / HEADROOM
    return {
        role: {name: f"an activation of {value:.4g}" for name, value in seen.touching(limit).items()}
        for role, seen in ranges.items()
    }


def find_islands(
    source: Networks,
    convert: Convert,
    gate: Gate,
    limits: Limits,
    extra: Mapping[str, Mapping[str, str]],
    say: Callable[[str], None],
) -> tuple[Candidate, GateReport]:
    """The conversion with the fewest islands found that passes the gate.

    While it fails: the shortest run of nodes from the start of the networks that has to be FP32 for the mask to be
    right ends with a node that matters; it becomes an island and the search begins again.

    Raises:
        VerificationError: The mask is still wrong with ``MOST_ISLANDS`` islands.
    """
    candidate = Candidate.of(source, convert, extra)
    report, why = _judge(gate, candidate, limits)
    for _ in range(MOST_ISLANDS):
        if report is not None and not why:
            return candidate, report
        order = [(role, node) for role, network in candidate.networks.items() for node in network.half]
        say(f"the gate is not passed ({why}); looking for the node among {len(order)}")
        role, node = order[_first_that_passes(source, convert, gate, limits, candidate, order) - 1]
        kept = {r: dict(nodes) for r, nodes in candidate.extra.items()}
        kept[role][node] = f"without it: {why}"
        say(f"{role}: {node} stays in FP32")
        candidate = Candidate.of(source, convert, kept)
        report, why = _judge(gate, candidate, limits)
    if report is not None and not why:
        return candidate, report
    raise VerificationError(
        f"the mask still changes with {MOST_ISLANDS} nodes kept in FP32 "
        f"({', '.join(node for nodes in candidate.extra.values() for node in nodes)}): {why}",
        "masks as FP32 gives them, within the gate's limits",
        "nothing was written; use FP32, or another precision",
    )


def _judge(gate: Gate, candidate: Candidate, limits: Limits) -> tuple[GateReport | None, str]:
    try:
        report = gate.compare(candidate.executed())
    except VerificationError as error:
        return None, error.found
    return report, "; ".join(report.failures(limits))


def _first_that_passes(
    source: Networks,
    convert: Convert,
    gate: Gate,
    limits: Limits,
    candidate: Candidate,
    order: Sequence[tuple[str, str]],
) -> int:
    """Least n for which the gate is passed with the first n nodes of ``order`` in FP32; all of them must be enough."""
    low, high = 0, len(order)
    while high - low > 1:
        middle = (low + high) // 2
        trial = {role: dict(nodes) for role, nodes in candidate.extra.items()}
        for role, node in order[:middle]:
            trial[role][node] = "trial"
        report, why = _judge(gate, Candidate.of(source, convert, trial), limits)
        if report is not None and not why:
            high = middle
        else:
            low = middle
    return high
