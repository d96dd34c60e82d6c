"""Adds a reduced precision to a bundle: converted, judged by the gate, then tried on every installed backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np
import onnx

from verdiff.bundle import GOLDEN, graph_name
from verdiff.bundle.golden import unpack_golden
from verdiff.errors import DataError, VerificationError
from verdiff.export.checks import check_pipelines, require_passed
from verdiff.export.draft import Draft, sha256
from verdiff.export.pipeline import build_pipeline
from verdiff.export.precision.diagnosis import Ranges
from verdiff.export.precision.execution import GRAPH_FACTORIES
from verdiff.export.precision.gate import LEAST_PATIENTS, Gate, check_record, limits_of
from verdiff.export.precision.half import to_half
from verdiff.export.precision.judge import pass_gate
from verdiff.export.precision.networks import NetworkPair, PatientSlices
from verdiff.export.precision.quantise import STYLES, quantise, saturation_free, share_in_reach
from verdiff.export.precision.search import Candidate, Convert, find_islands, islands_by_range
from verdiff.export.spread import Spread
from verdiff.precisions import REDUCED, REFERENCE, TABLE, precision_of
from verdiff.runtime.backends import installed_backends
from verdiff.runtime.backends.openvino_graphs import computes_bf16
from verdiff.runtime.processor import instruction_set

GIVE_SCANS = f"name a folder with scans of at least {LEAST_PATIENTS} patients with --scans"
Say = Callable[[str], None]
# Of a network's weights, for INT8 to be more than a name.
LEAST_REACHED = 0.5
# What the manifest and the graphs' names call them; INT8 comes in two forms, together or one alone.
GRAPHS = {name: tuple(TABLE[name].tried_on) for name in REDUCED} | {style: (style,) for style in STYLES}


class Reference:
    """FP32 on the gate's slices, computed once for all precisions.

    Args:
        draft: The bundle to add to.
        patients: Real slices of at least six patients.
        seen: How many of them the model may have been trained on, for the record.

    Raises:
        VerificationError: Fewer patients.
    """

    def __init__(self, draft: Draft, patients: Sequence[PatientSlices], seen: int = 0) -> None:
        if len(patients) < LEAST_PATIENTS:
            raise VerificationError(
                f"slices of {len(patients)} patients",
                f"at least {LEAST_PATIENTS}: what holds for one patient says little about the next",
                "name a folder of scans with --scans",
            )
        self.seen, self.source = seen, networks_of(draft)
        self.stored = {role: sha256(draft.files[graph_name(role)]) for role in self.source.roles()}
        self.ranges = {role: Ranges(model) for role, model in self.source.roles().items()}
        self.gate = Gate(self.source, draft.manifest, patients, feeds=lambda role, feed: self.ranges[role].look(feed))


def add_judged(
    draft: Draft,
    precision: str,
    reference: Reference,
    calibration: Sequence[PatientSlices],
    say: Say,
    *,
    store: bool = True,
) -> Draft:
    """``draft`` with the graphs of ``precision`` that passed the gate, and what it measured.

    Args:
        precision: A key of ``GRAPHS``.
        calibration: Slices of other patients, whose activations set the steps of INT8.
        store: Whether to store the graphs. Without it only the gate is recorded, from which FP16 and BF16 graphs can
            be made again bit for bit.

    Raises:
        VerificationError: The gate is not passed, FP32 finds nothing in a patient or a structure in none, or there is
            nothing to calibrate on.
    """
    reference.gate.require_foreground()
    for name in GRAPHS[precision]:
        convert = _converter(name, reference.source, draft, calibration)
        candidate, record = _judged(name, reference, convert, say)
        if store:
            spread, _ = _spread(draft, candidate)
            draft = _stored(draft, name, candidate, spread, say)
        draft = draft.with_gate(name, record)
    return draft


def add_on_record(draft: Draft, precision: str, say: Say) -> Draft:
    """``draft`` with the graphs of ``precision``, which have to be those whose gate is on record, bit for bit.

    Raises:
        DataError: It is INT8, and the bundle carries its graphs already.
        BundleError: The record is damaged.
        VerificationError: There is no record, it was not passed, it is of another conversion, or it is INT8, whose
            calibration is not kept.
    """
    require_record(draft, precision)
    manifest, source = draft.manifest, networks_of(draft)
    record = check_record(manifest.gates[precision], precision, source.roles(), manifest.label_ids)
    candidate = Candidate.of(source, _converter(precision, source, draft, ()), record.islands)
    for role, network in candidate.networks.items():
        found, expected = sha256(_bytes(network.model)), record.graphs.get(role)
        if found != expected:
            raise VerificationError(
                f"the {role} converts to a graph with SHA-256 {found[:16]}...",
                f"{str(expected)[:16]}..., the graph that passed the gate when the model was released",
                f"this version converts differently; to judge its conversion, {GIVE_SCANS}",
            )
    dice = ", ".join(f"{name} {value:.5f}" for name, value in record.worst_dice.items())
    say(
        f"{precision} gate on record for these very graphs (SHA-256 equal): {record.slices} slices of "
        f"{record.patients} patients, worst Dice against FP32: {dice}"
    )
    spread, most = _spread(draft, candidate)
    say(f"on the generated test image, here: finite at every step, drift at most {most:.1e}")
    return _stored(draft, precision, candidate, spread, say)


def require_record(draft: Draft, precision: str) -> None:
    """Refuse a precision that only ``--scans`` could give, before anything is computed.

    Raises:
        DataError: It is INT8, and the bundle carries its graphs already.
        VerificationError: There is no record, or it is INT8, whose calibration is not kept.
    """
    manifest, int8 = draft.manifest, precision_of(precision).calibrated
    model = f"{manifest.model_id} {manifest.version}"
    there = [name for name in GRAPHS[precision] if graph_name("prior", name) in draft.files]
    if int8 and len(there) == len(GRAPHS[precision]):
        raise DataError(
            f"{model}, which carries {' and '.join(there)} graphs already",
            "scans to calibrate on and to judge by, where they are to be made again",
            f"use the bundle as it is, with --precision int8; or {GIVE_SCANS}",
        )
    if int8 or precision not in manifest.gates:
        carried = f" (it carries {', '.join(there)})" if there else ""
        raise VerificationError(
            f"no slices to judge {precision} on, and {model} carries no record to make it from{carried}",
            f"real slices of at least {LEAST_PATIENTS} patients",
            GIVE_SCANS,
        )


def require_calibration(precisions: Sequence[str], calibration: Sequence[PatientSlices]) -> None:
    """Refuse INT8 without slices to calibrate on, before anything is computed.

    Raises:
        VerificationError: There are none.
    """
    if not calibration and any(precision_of(precision).calibrated for precision in precisions):
        raise VerificationError(
            "no scans to calibrate INT8 on",
            "scans of patients beside the gate's, whose activations set the steps",
            f"name a folder of more than {LEAST_PATIENTS} scans with --scans",
        )


def require_convolutions(draft: Draft, precisions: Sequence[str]) -> None:
    """Refuse INT8 for networks that it would leave in FP32 all but in name, before anything is judged.

    Raises:
        VerificationError: Naming the network.
    """
    if not any(precision_of(precision).calibrated for precision in precisions):
        return
    for role, model in networks_of(draft).roles().items():
        share = share_in_reach(model)
        if share < LEAST_REACHED:
            raise VerificationError(
                f"INT8 for {draft.manifest.model_id}, {share:.0%} of whose {role}'s weights are in convolutions",
                "a network of convolutions: they are what INT8 quantises, and matrix products stay in FP32",
                "convert it with --fp16",
            )


def _converter(name: str, source: NetworkPair, draft: Draft, calibration: Sequence[PatientSlices]) -> Convert:
    if name not in STYLES:
        return lambda role, model, extra: to_half(model, extra, name)
    require_calibration([name], calibration)
    ranges = {role: Ranges(model) for role, model in source.roles().items()}
    Gate(source, draft.manifest, calibration, feeds=lambda role, feed: ranges[role].look(feed))
    reach = {role: {name: (seen.low[name], seen.high[name]) for name in seen.low} for role, seen in ranges.items()}
    return lambda role, model, extra: quantise(model, reach[role], name, extra)


def _judged(name: str, reference: Reference, convert: Convert, say: Say) -> tuple[Candidate, dict[str, Any]]:
    """Convert, find the islands it takes, and pass the gate."""
    limits, gate, source = limits_of(name), reference.gate, reference.source
    extra = islands_by_range(reference.ranges) if name == "fp16" else {}
    candidate, report = find_islands(source, convert, gate, limits, extra, say)
    graphs = candidate.graphs()
    pass_gate(source, graphs, gate, reference.ranges, limits, name, report=report)
    say(f"{name}, {report.lines()[0]}")
    for line in report.lines()[1:]:
        say(line)
    record = {
        "graphs": graphs_of(graphs),
        "islands": candidate.extra,
        "limits": asdict(limits),
        "executed_as": precision_of(name).judged_as,
        **report.as_dict(),
        # A count: files are called after patients, and a bundle is given away.
        "patients_perhaps_trained_on": reference.seen,
        "saturation_free": name in STYLES and saturation_free(name),
        "backends": _on_processors(name, graphs, reference, say),
    }
    return candidate, record


def _on_processors(name: str, graphs: NetworkPair, reference: Reference, say: Say) -> dict[str, Any]:
    """What the backends' own kernels give on this processor: backend -> version, instructions and measurements.

    ``Segmenter.load(precision="auto")`` takes nothing that is not on this record.
    """
    found = {}
    limits, gate = limits_of(name), reference.gate
    # BF16 is what the processor makes of the FP32 graphs.
    as_stored = precision_of(name).on_processors == REFERENCE
    for backend in precision_of(name).tried_on[name]:
        if backend not in installed_backends() or (as_stored and not computes_bf16()):
            continue
        open_graph = GRAPH_FACTORIES[f"{backend}-{name}" if as_stored else backend]
        there = gate.compare(reference.source if as_stored else graphs, open_graph=open_graph)
        pass_gate(reference.source, graphs, gate, reference.ranges, limits, f"{name} on {backend}", report=there)
        worst, here = min(min(of.values()) for of in there.dice.values()), instruction_set()
        say(f"the graphs themselves on {backend}'s CPU backend ({here}): worst Dice {worst:.5f}")
        found[backend] = {
            "version": version(backend),
            "instructions": here,
            "graphs": reference.stored if as_stored else graphs_of(graphs),
            **there.as_dict(),
        }
    return found


def _spread(draft: Draft, candidate: Candidate) -> tuple[Spread, float]:
    """What rounding as the candidate does moves on the generated test image: its answer, and the most at any step."""
    drift = Gate(networks_of(draft), draft.manifest, [golden_slices(draft)]).drift(candidate.executed())
    mean, worst = drift[-1]
    return Spread(worst, mean, half=True), max(most for _, most in drift)


def _stored(draft: Draft, name: str, candidate: Candidate, spread: Spread, say: Say) -> Draft:
    """``draft`` with the candidate's graphs, and for FP16 the whole pipeline in its two forms, checked."""
    graphs = {role: network.model for role, network in candidate.networks.items()}
    for role, network in candidate.networks.items():
        found = candidate.extra.get(role, {})
        kept = {node: reason for node, reason in network.islands.items() if node not in found}
        more = f", and {len(found)} more:" if found else ""
        say(f"{role}: {len(network.half)} nodes in {name}, {len(kept)} kept in FP32 ({_reasons(kept)}){more}")
        for node, reason in found.items():
            say(f"  {node}: {reason}")
    table = draft.manifest.table if "denoiser" in graphs else None
    whole = precision_of(name).pipeline is not None and (table is None or table.deterministic)
    if whole:
        manifest = draft.manifest
        ids = tuple(label.id for label in manifest.labels)
        parts = graphs["prior"], graphs.get("denoiser"), table, ids
        graphs["pipeline"] = build_pipeline(*parts, model_id=manifest.model_id, multiple=manifest.multiple)
        if table is not None:
            graphs["pipeline-unrolled"] = build_pipeline(*parts, model_id=manifest.model_id, unrolled=True)
    finished = draft.with_graphs(name, {role: _bytes(model) for role, model in graphs.items()})
    if whole:
        with finished.opened() as bundle:
            require_passed(check_pipelines(bundle, golden_slices(draft).image[:, 0], name, spread), say)
    return finished


def golden_slices(draft: Draft) -> PatientSlices:
    """The generated image of the goldens, as slices to run."""
    golden = unpack_golden(draft.files[GOLDEN])
    return PatientSlices("the generated test image", golden["image"].astype(np.float32))


def networks_of(draft: Draft) -> NetworkPair:
    """The FP32 networks.

    Raises:
        VerificationError: The bundle has none.
    """
    prior, denoiser = (draft.files.get(graph_name(role)) for role in ("prior", "denoiser"))
    if prior is None:
        raise VerificationError("a bundle without FP32 graphs", "graphs to convert", "start from the FP32 bundle")
    return NetworkPair(onnx.load_from_string(prior), onnx.load_from_string(denoiser) if denoiser is not None else None)


def graphs_of(networks: NetworkPair) -> dict[str, str]:
    """SHA-256 of each graph as it is written."""
    return {role: sha256(_bytes(model)) for role, model in networks.roles().items()}


def _bytes(model: onnx.ModelProto) -> bytes:
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _reasons(islands: Mapping[str, str]) -> str:
    counts: dict[str, int] = {}
    for reason in islands.values():
        counts[reason] = counts.get(reason, 0) + 1
    return "; ".join(f"{count} for {reason}" for reason, count in counts.items())
