"""Islands a model needs beyond the required ones: by the range of its activations, then by bisection on the mask."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import onnx

from verdiff.errors import VerificationError
from verdiff.export.precision.diagnosis import Ranges
from verdiff.export.precision.execution import as_executed
from verdiff.export.precision.gate import Gate, GateReport
from verdiff.export.precision.half import HALF_MAX, HalfNetwork
from verdiff.export.precision.networks import NetworkPair
from verdiff.export.precision.quantise import QuantisedNetwork
from verdiff.precisions import MaskLimits

# Another patient may drive an activation further than the ones at hand.
HEADROOM = 4.0
MOST_ISLANDS = 8

Place = tuple[str, str]
"""Role and node."""
Extra = dict[str, dict[str, str]]
"""Role -> node -> reason of what stays in FP32."""
Convert = Callable[[str, onnx.ModelProto, Mapping[str, str]], HalfNetwork | QuantisedNetwork]
"""(role, FP32 graph, node -> reason of what stays in FP32) -> the network in reduced precision."""


@dataclass(frozen=True)
class Candidate:
    """A conversion by role, with the islands that were added to the required ones."""

    networks: dict[str, HalfNetwork | QuantisedNetwork]
    extra: Extra

    @classmethod
    def of(
        cls, source: NetworkPair, convert: Convert, extra: Mapping[str, Mapping[str, str]] | None = None
    ) -> Candidate:
        """Convert both networks of ``source``; ``extra`` is role -> node -> reason."""
        kept = {role: dict((extra or {}).get(role, {})) for role in source.roles()}
        return cls({role: convert(role, model, kept[role]) for role, model in source.roles().items()}, kept)

    def graphs(self) -> NetworkPair:
        """The converted graphs."""
        denoiser = self.networks.get("denoiser")
        return NetworkPair(self.networks["prior"].model, denoiser.model if denoiser is not None else None)

    def executed(self) -> NetworkPair:
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
    source: NetworkPair,
    convert: Convert,
    gate: Gate,
    limits: MaskLimits,
    extra: Mapping[str, Mapping[str, str]],
    say: Callable[[str], None],
) -> tuple[Candidate, GateReport]:
    """A conversion that passes the gate, in which each island found is one that it fails without.

    While it fails: the shortest run of nodes from the start of the networks that has to be FP32 for the mask to be
    right ends with a node that matters; it becomes an island and the search begins again. The islands found are then
    left out in turn, and those that the gate can do without are dropped.

    Args:
        source: The FP32 networks.
        convert: Makes a candidate of them.
        gate: FP32's answers.
        limits: What the mask may differ by.
        extra: Islands that stay whatever the gate says: role -> node -> reason.
        say: Told of every trial.

    Raises:
        VerificationError: The mask is wrong with every node in FP32, or still wrong with ``MOST_ISLANDS`` islands.
    """
    candidate = Candidate.of(source, convert, extra)
    first = _judge(gate, candidate, limits)
    if isinstance(first, GateReport):
        return candidate, first
    order = [(role, node) for role, network in candidate.networks.items() for node in network.half]
    trials = _Trials(source, convert, gate, limits, candidate.extra, say, {frozenset(): first})
    say(f"the gate is not passed: {first}")
    hopeless = trials.outcome(order, f"all {len(order)} nodes in FP32")
    if isinstance(hopeless, str):
        raise _refusal(f"the mask changes even with all {len(order)} nodes kept in FP32: {hopeless}")
    islands: list[Place] = []
    outcome: GateReport | str = first
    while isinstance(outcome, str):
        if len(islands) == MOST_ISLANDS:
            raise _refusal(
                f"the mask still changes with {MOST_ISLANDS} nodes kept in FP32 ({_listed(islands)}): {outcome}"
            )
        rest = [place for place in order if place not in islands]
        say(f"looking for the node among {len(rest)}")
        islands.append(rest[_first_that_passes(trials, islands, rest) - 1])
        outcome = trials.outcome(islands, f"{_listed(islands)} in FP32")
    reasons, report = _needed(trials, islands, outcome)
    return Candidate.of(source, convert, trials.with_islands(reasons)), report


def _judge(gate: Gate, candidate: Candidate, limits: MaskLimits) -> GateReport | str:
    """What the gate measured, or what is outside the limits."""
    try:
        report = gate.compare(candidate.executed())
    except VerificationError as error:
        return error.found
    return "; ".join(report.failures(limits)) or report


@dataclass(frozen=True)
class _Trials:
    """Conversions with more or fewer islands before the gate; none is judged twice."""

    source: NetworkPair
    convert: Convert
    gate: Gate
    limits: MaskLimits
    extra: Extra
    say: Callable[[str], None]
    judged: dict[frozenset[Place], GateReport | str]

    def with_islands(self, reasons: Mapping[Place, str]) -> Extra:
        """The islands that always stay and these."""
        kept = {role: dict(nodes) for role, nodes in self.extra.items()}
        for (role, node), reason in reasons.items():
            kept[role][node] = reason
        return kept

    def outcome(self, islands: Sequence[Place], what: str) -> GateReport | str:
        """What the gate makes of the conversion with ``islands``, which ``what`` describes."""
        key = frozenset(islands)
        if key not in self.judged:
            extra = self.with_islands(dict.fromkeys(islands, "trial"))
            found = _judge(self.gate, Candidate.of(self.source, self.convert, extra), self.limits)
            self.judged[key] = found
            # One figure is enough for a line; all of them are in the island's reason.
            self.say(f"  {what}: {found.split('; ')[0] if isinstance(found, str) else 'passes'}")
        return self.judged[key]


def _first_that_passes(trials: _Trials, islands: Sequence[Place], rest: Sequence[Place]) -> int:
    """Least n for which the gate is passed with ``islands`` and the first n of ``rest``; all of them have to pass."""
    low, high = 0, len(rest)
    while high - low > 1:
        middle = (low + high) // 2
        passed = trials.outcome([*islands, *rest[:middle]], f"the first {middle} in FP32")
        low, high = (low, middle) if isinstance(passed, GateReport) else (middle, high)
    return high


def _needed(trials: _Trials, islands: Sequence[Place], report: GateReport) -> tuple[dict[Place, str], GateReport]:
    """The islands without which the gate is not passed, each with what its absence does, and what the gate measured.

    Args:
        trials: Where they are tried.
        islands: Islands with which the gate is passed.
        report: What it measured with all of them.
    """
    reasons: dict[Place, str] = {}
    kept, waiting = list(islands), list(islands)
    while waiting:
        place = waiting.pop(0)
        outcome = trials.outcome([other for other in kept if other != place], f"without {_listed([place])}")
        if isinstance(outcome, str):
            reasons[place] = f"without it, {outcome}"
            continue
        kept.remove(place)
        report = outcome
        # What the others' absence did was measured beside an island that is gone.
        reasons, waiting = {}, list(kept)
    return reasons, report


def _listed(places: Sequence[Place]) -> str:
    return ", ".join(f"{node} of the {role}" for role, node in places)


def _refusal(found: str) -> VerificationError:
    return VerificationError(
        found,
        "masks as FP32 gives them, within the gate's limits",
        "nothing was written; use FP32, or another precision",
    )
