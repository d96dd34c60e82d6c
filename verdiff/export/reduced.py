"""Adds a reduced precision to a bundle: converted, judged by the gate, then tried on every installed backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import onnx

from verdiff.bundle import graph_name
from verdiff.diffusion import SamplerTable
from verdiff.errors import VerificationError
from verdiff.export.checks import check_pipelines, require_passed
from verdiff.export.draft import Draft, sha256
from verdiff.export.pipeline import build_pipeline
from verdiff.export.precision.diagnosis import Ranges
from verdiff.export.precision.execution import ENGINES
from verdiff.export.precision.gate import LEAST_PATIENTS, Gate, limits_of
from verdiff.export.precision.judge import pass_gate
from verdiff.export.precision.networks import Networks, Patient
from verdiff.export.precision.search import Candidate, find_islands, islands_by_range
from verdiff.runtime.backends import installed_backends

Say = Callable[[str], None]


def add_fp16(draft: Draft, patients: Sequence[Patient], say: Say) -> Draft:
    """``draft`` with its graphs in FP16, strongly typed, and what the gate measured.

    Args:
        patients: Real slices of at least six patients; with none, the conversion has to be the one whose gate is on
            record in the manifest, bit for bit.

    Raises:
        VerificationError: The gate is not passed, or there are too few patients and no record that fits.
    """
    source = _networks(draft)
    if patients:
        candidate, record = _judged(draft, source, patients, say)
    else:
        candidate, record = _on_record(draft, source, say)
    graphs = {role: network.model for role, network in candidate.networks.items()}
    for role, network in candidate.networks.items():
        say(f"{role}: {len(network.half)} nodes in FP16, {len(network.islands)} in FP32 ({_reasons(network.islands)})")
    ids = tuple(label.id for label in draft.manifest.labels)
    table = SamplerTable.from_dict(draft.manifest.table)
    if "denoiser" in graphs and table.deterministic:
        pair = graphs["prior"], graphs["denoiser"]
        graphs["pipeline"] = build_pipeline(*pair, table, ids)
        graphs["pipeline-unrolled"] = build_pipeline(*pair, table, ids, unrolled=True)
    finished = draft.with_graphs("fp16", {role: _bytes(model) for role, model in graphs.items()}, record)
    with finished.opened() as bundle:
        planes = patients[0].image[:2, 0] if patients else bundle.golden()["image"][:, 0].astype(np.float32)
        require_passed(check_pipelines(bundle, planes, "fp16"), say)
    return finished


def fp16_record(draft: Draft, patients: Sequence[Patient], say: Say) -> Draft:
    """``draft`` with the record of a passed FP16 gate and no FP16 graph, so that they can be made again from it."""
    _, record = _judged(draft, _networks(draft), patients, say)
    return draft.with_gate("fp16", record)


def _judged(draft: Draft, source: Networks, patients: Sequence[Patient], say: Say) -> tuple[Candidate, dict[str, Any]]:
    """Convert, find the islands it takes, and pass the gate on real slices."""
    if len(patients) < LEAST_PATIENTS:
        raise VerificationError(
            f"slices of {len(patients)} patients",
            f"at least {LEAST_PATIENTS}: what holds for one patient says little about the next",
            "name a folder of scans with --scans",
        )
    limits = limits_of("fp16")
    ranges = {role: Ranges(model) for role, model in source.roles().items()}
    gate = Gate(source, draft.manifest, patients, feeds=lambda role, feed: ranges[role].look(feed))
    candidate, report = find_islands(source, gate, limits, islands_by_range(ranges), say)
    pass_gate(source, candidate.graphs(), gate, ranges, limits, "fp16", report=report)
    for line in report.lines():
        say(line)
    measured: dict[str, Any] = {}
    for name in installed_backends():
        # These compute FP16 graphs in FP32 on processors; the masks must hold there too.
        on_cpu = gate.compare(candidate.graphs(), engine=ENGINES[name])
        pass_gate(source, candidate.graphs(), gate, ranges, limits, f"fp16 on {name}", report=on_cpu)
        worst = min(min(of.values()) for of in on_cpu.dice.values())
        say(f"the same on {name}'s CPU backend: worst Dice {worst:.5f}")
        measured[name] = on_cpu.as_dict()
    record = {
        "graphs": {role: sha256(_bytes(network.model)) for role, network in candidate.networks.items()},
        "islands": candidate.extra,
        "limits": asdict(limits),
        "executed_as": "FP16 storage and rounding of every value, sums in FP32",
        **report.as_dict(),
        "backends": measured,
    }
    return candidate, record


def _on_record(draft: Draft, source: Networks, say: Say) -> tuple[Candidate, None]:
    """The conversion of the manifest's record, checked to be the same to the last bit."""
    manifest = draft.manifest
    record: Mapping[str, Any] | None = manifest.gates.get("fp16")
    give_scans = f"name a folder with scans of at least {LEAST_PATIENTS} patients with --scans"
    if record is None:
        raise VerificationError(
            f"no slices to judge FP16 on, and {manifest.model_id} {manifest.version} carries no record of its gate",
            f"real slices of at least {LEAST_PATIENTS} patients",
            give_scans,
        )
    candidate = Candidate.of(source, record["islands"])
    for role, network in candidate.networks.items():
        found, expected = sha256(_bytes(network.model)), record["graphs"].get(role)
        if found != expected:
            raise VerificationError(
                f"the {role} converts to a graph with SHA-256 {found[:16]}...",
                f"{str(expected)[:16]}..., the graph that passed the gate when the model was released",
                f"this version converts differently; to judge its conversion, {give_scans}",
            )
    dice = ", ".join(f"{name} {value:.5f}" for name, value in record["worst_dice"].items())
    say(
        f"FP16 gate on record for these very graphs (SHA-256 equal): {record['slices']} slices of "
        f"{record['patients']} patients, worst Dice against FP32: {dice}"
    )
    golden = draft_golden(draft)
    gate = Gate(source, manifest, [golden])
    report = gate.compare(candidate.executed())
    most = max(most for _, most in report.drift)
    say(f"on the generated test image, here: finite at every step, drift at most {most:.1e}")
    return candidate, None


def draft_golden(draft: Draft) -> Patient:
    """The generated image of the goldens, as slices to run."""
    with draft.opened() as bundle:
        return Patient("the generated test image", bundle.golden()["image"].astype(np.float32))


def _networks(draft: Draft) -> Networks:
    prior, denoiser = (draft.files.get(graph_name(role)) for role in ("prior", "denoiser"))
    if prior is None:
        raise VerificationError("a bundle without FP32 graphs", "graphs to convert", "start from the FP32 bundle")
    return Networks(onnx.load_from_string(prior), onnx.load_from_string(denoiser) if denoiser is not None else None)


def _bytes(model: onnx.ModelProto) -> bytes:
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _reasons(islands: Mapping[str, str]) -> str:
    counts: dict[str, int] = {}
    for reason in islands.values():
        counts[reason] = counts.get(reason, 0) + 1
    return "; ".join(f"{count} for {reason}" for reason, count in counts.items())
