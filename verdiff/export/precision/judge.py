"""The whole gate over one candidate: what can be named is looked at first, the mask decides last."""

from __future__ import annotations

from collections.abc import Mapping

from verdiff.errors import VerificationError
from verdiff.export.precision.diagnosis import (
    Fault,
    Ranges,
    check_islands,
    check_ranges,
    check_weights,
    half_nodes,
    steepest,
)
from verdiff.export.precision.execution import as_executed
from verdiff.export.precision.gate import Gate, GateReport
from verdiff.export.precision.networks import NetworkPair, PatientRunner
from verdiff.precisions import MaskLimits


def pass_gate(
    source: NetworkPair,
    graphs: NetworkPair,
    gate: Gate,
    ranges: Mapping[str, Ranges],
    limits: MaskLimits,
    precision: str,
    *,
    report: GateReport | None = None,
) -> GateReport:
    """Let FP16 ``graphs`` pass, or name what is wrong with them.

    Args:
        source: The FP32 networks.
        graphs: The candidate, as it would be written.
        gate: FP32's answers for the patients.
        ranges: Role -> magnitudes that FP32 reached on them.
        limits: What the mask may differ by.
        precision: Precision, for the message.
        report: What the gate has measured on these graphs already.

    Raises:
        VerificationError: A node in the wrong precision, a weight that is not the model's, an activation beyond FP16,
            a value that is not finite, or masks outside the limits; the node is named.
    """
    for role, model in source.roles().items():
        candidate = graphs.roles()[role]
        faults = check_islands(model, candidate) + check_weights(model, candidate)
        faults += check_ranges(ranges[role], half_nodes(candidate))
        if faults:
            raise VerificationError(
                f"{role}: {_listed(faults)}", faults[0].expected, "nothing was written; use FP32, or report the model"
            )
    measured = gate.compare(graphs.each(as_executed)) if report is None else report
    failures = measured.failures(limits)
    if failures:
        raise VerificationError(
            f"{precision} changes the mask: {'; '.join(failures)}. "
            f"The error grows most at {where(source, graphs, gate)}",
            "masks as FP32 gives them, within the gate's limits",
            "nothing was written; use FP32, or report the model",
        )
    return measured


def where(source: NetworkPair, graphs: NetworkPair, gate: Gate) -> str:
    """Role and node at which the candidate's relative error grows most, on the first patient's first slice."""
    found: dict[str, tuple[str, float]] = {}

    def look(role: str, feed: dict) -> None:
        if role not in found:
            found[role] = steepest(source.roles()[role], as_executed(graphs.roles()[role]), feed)

    first = gate.patients[0]
    PatientRunner(source, gate.table, gate.manifest.defaults.seed).run(type(first)(first.name, first.image[:1]), look)
    role, (node, growth) = max(found.items(), key=lambda item: item[1][1])
    return f"{node} of the {role} ({growth:.0f} times)"


def _listed(faults: list[Fault]) -> str:
    rest = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
    return "; ".join(fault.found for fault in faults[:3]) + rest
