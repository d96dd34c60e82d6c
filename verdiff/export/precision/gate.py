"""The gate: the whole loop in reduced precision against FP32, on real slices of several patients, with the same noise.

What a surgeon sees is the mask, so the mask decides; drift and uncertainty are reported beside it. A model that fails
is not written.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verdiff.bundle import Manifest, checks
from verdiff.diffusion import background_and_labels
from verdiff.errors import VerdiffError, VerificationError
from verdiff.evaluate.empty import Presence, image_diagonal_mm
from verdiff.evaluate.metrics import surface_distances_mm
from verdiff.evaluate.overlap import dice_of, overlap
from verdiff.export.precision.execution import CpuGraph, GraphFactory
from verdiff.export.precision.networks import LoopOutputs, NetworkPair, PatientRunner, PatientSlices
from verdiff.precisions import TABLE, MaskLimits, precision_of

LEAST_PATIENTS = 6
MOST_COUNTED = 1 << 20


LIMITS = {name: each.limits for name, each in TABLE.items() if each.limits is not None}


@dataclass(frozen=True)
class GateReport:
    """What the gate measured between a candidate and FP32.

    Attributes:
        dice: Structure -> patient -> Dice of the two masks, over the patient's slices; without the patients in whom
            neither mask has the structure, who would only dilute the mean.
        hd95_mm: Structure -> mean over slices of the 95th percentile of the distance between the two contours.
        uncertainty: Mean and largest difference of the uncertainty, which lies in [0, 1].
        drift: Mean and largest difference of x0hat after each step, as probability; the prior's first.
        slices: Slices compared, of all patients together.
        patients: Patients compared.
    """

    dice: dict[str, dict[str, float]]
    hd95_mm: dict[str, float]
    uncertainty: tuple[float, float]
    drift: tuple[tuple[float, float], ...]
    slices: int
    patients: int

    def failures(self, limits: MaskLimits) -> list[str]:
        """What is outside ``limits``, in words; a NaN is outside, and so is a structure that no patient shows."""
        found = []
        for name, of in self.dice.items():
            if not of:
                found.append(f"{name} in no patient")
                continue
            mean, (worst, patient) = float(np.mean(list(of.values()))), min((v, k) for k, v in of.items())
            if not mean >= limits.mean_dice:
                found.append(f"mean Dice of {name} {mean:.5f} (at least {limits.mean_dice:g})")
            if not worst >= limits.worst_dice:
                found.append(f"Dice of {name} in {patient} {worst:.5f} (at least {limits.worst_dice:g})")
            if not self.hd95_mm[name] <= limits.hd95_mm:
                found.append(f"HD95 of {name} {self.hd95_mm[name]:.3f} mm (at most {limits.hd95_mm:g})")
        return found

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the manifest."""
        return {
            "patients": self.patients,
            "slices": self.slices,
            "patients_with": {name: len(of) for name, of in self.dice.items()},
            "mean_dice": {name: round(float(np.mean(list(of.values()))), 6) for name, of in self.dice.items() if of},
            "worst_dice": {name: round(min(of.values()), 6) for name, of in self.dice.items() if of},
            "hd95_mm": {name: round(value, 4) for name, value in self.hd95_mm.items()},
            "uncertainty": {"mean": _round(self.uncertainty[0]), "largest": _round(self.uncertainty[1])},
            "drift": [{"mean": _round(mean), "largest": _round(most)} for mean, most in self.drift],
        }

    def lines(self) -> list[str]:
        """The report for people."""
        found = [f"whole loop on {self.slices} slices of {self.patients} patients, same noise, against FP32:"]
        for name, of in self.dice.items():
            values = list(of.values())
            scores = f"Dice mean {np.mean(values):.5f}, worst patient {min(values):.5f}" if values else "in no patient"
            some = f", in {len(values)} of {self.patients} patients" if 0 < len(values) < self.patients else ""
            found.append(f"  {name:<12} {scores}, HD95 {self.hd95_mm[name]:.3f} mm{some}")
        found.append(
            f"  uncertainty  differs by {self.uncertainty[0]:.1e} in the mean, {self.uncertainty[1]:.1e} at most"
        )
        for step, (mean, most) in enumerate(self.drift):
            where = "prior" if step == 0 else f"step {step}"
            found.append(f"  drift {where:<6} {mean:.1e} in the mean, {most:.1e} at most")
        return found


@dataclass(frozen=True)
class PassedGate:
    """A gate on record that was passed.

    Attributes:
        graphs: SHA-256 of each role's graph.
        islands: Role -> node that stays in FP32 -> why.
        worst_dice: Structure -> Dice of the worst patient.
        patients: Patients that were compared.
        slices: Slices of them all.
    """

    graphs: dict[str, str]
    islands: dict[str, dict[str, str]]
    worst_dice: dict[str, float]
    patients: int
    slices: int


class Gate:
    """FP32's answers for some patients, computed once, and candidates compared with them.

    Args:
        source: The FP32 networks.
        manifest: Table, seed, labels and spacing.
        patients: Real slices.
        feeds: Shown every input of every FP32 network call: ``feeds(role, inputs)``.
    """

    def __init__(
        self,
        source: NetworkPair,
        manifest: Manifest,
        patients: Sequence[PatientSlices],
        feeds: Callable[[str, dict[str, NDArray]], None] | None = None,
    ) -> None:
        self.manifest, self.patients = manifest, tuple(patients)
        self.table = manifest.table if source.denoiser is not None else None
        runner = PatientRunner(source, self.table, manifest.defaults.seed)
        self.reference = [runner.run(patient, feeds) for patient in self.patients]

    def require_foreground(self) -> None:
        """Refuse patients that prove nothing: where FP32 finds no structure, every candidate agrees with it.

        Raises:
            VerificationError: Patients without any structure, or structures that FP32 finds in no patient.
        """
        names = list(self.manifest.label_ids)
        seen = [set(np.unique(background_and_labels(each.probabilities)).tolist()) - {0} for each in self.reference]
        bare = [patient.name for patient, found in zip(self.patients, seen, strict=True) if not found]
        absent = [name for channel, name in enumerate(names, 1) if not any(channel in found for found in seen)]
        if bare or absent:
            reasons = [f"no structure at all in {', '.join(bare)}"] if bare else []
            reasons += [f"{', '.join(absent)} in no patient"] if absent else []
            raise VerificationError(
                f"FP32 finds {' and '.join(reasons)}: equal empty masks prove nothing",
                f"some structure in every patient, and each of {', '.join(names)} in one patient at least",
                "judge on scans that the model can segment: name a folder of them with --scans",
            )

    def compare(self, executed: NetworkPair, open_graph: GraphFactory = CpuGraph) -> GateReport:
        """Run the candidate, as hardware computes it, on all patients.

        Raises:
            VerificationError: A value that is not finite, with patient and step.
        """
        return self._report(self._outputs(executed, open_graph))

    def drift(self, executed: NetworkPair) -> tuple[tuple[float, float], ...]:
        """Mean and largest difference of the prior and of each step's x0hat, as probabilities; no masks are judged.

        Raises:
            VerificationError: A value that is not finite, with patient and step.
        """
        return self._drift(self._outputs(executed, CpuGraph))

    def _outputs(self, executed: NetworkPair, open_graph: GraphFactory) -> list[LoopOutputs]:
        runner = PatientRunner(executed, self.table, self.manifest.defaults.seed, open_graph)
        outputs = []
        for patient in self.patients:
            try:
                found = runner.run(patient)
            except VerdiffError as error:
                raise VerificationError(f"{patient.name}: {error.found}", "finite numbers", error.remedy) from error
            if not np.isfinite(found.prior).all():
                raise VerificationError(f"{patient.name}: the prior is not finite", "finite numbers", "use FP32")
            outputs.append(found)
        return outputs

    def _drift(self, outputs: list[LoopOutputs]) -> tuple[tuple[float, float], ...]:
        pairs = list(zip(self.reference, outputs, strict=True))
        stages = [
            [(exact.prior, found.prior) for exact, found in pairs],
            *([(e.steps[i], f.steps[i]) for e, f in pairs] for i in range(len(pairs[0][0].steps))),
        ]
        return tuple(_mean_and_most([np.abs(a - b) / 2 for a, b in stage]) for stage in stages)

    def _report(self, outputs: list[LoopOutputs]) -> GateReport:
        names = list(self.manifest.label_ids)
        dice: dict[str, dict[str, float]] = {name: {} for name in names}
        distances: dict[str, list[float]] = {name: [] for name in names}
        for patient, exact, found in zip(self.patients, self.reference, outputs, strict=True):
            ours, theirs = background_and_labels(found.probabilities), background_and_labels(exact.probabilities)
            for channel, name in enumerate(names, 1):
                a, b = ours == channel, theirs == channel
                common, total = overlap(a, b)
                if total:
                    dice[name][patient.name] = dice_of(common, total)
                distances[name] += self._distances(a, b)
        pairs = zip(self.reference, outputs, strict=True)
        uncertainty = [np.abs(exact.uncertainty - found.uncertainty) for exact, found in pairs]
        return GateReport(
            dice,
            {name: float(np.mean(values)) if values else 0.0 for name, values in distances.items()},
            _mean_and_most(uncertainty),
            self._drift(outputs),
            sum(len(each.prior) for each in outputs),
            len(outputs),
        )

    def _distances(self, ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> list[float]:
        spacing = (self.manifest.spacing_mm, self.manifest.spacing_mm)
        found = []
        for a, b in zip(ours, theirs, strict=True):
            presence = Presence.of(int(b.sum()), int(a.sum()))
            if presence is Presence.BOTH:
                # Equal masks are the common case, and their surfaces need no search.
                found.append(0.0 if np.array_equal(a, b) else surface_distances_mm(a, b, spacing)[0])
            elif a.any() or b.any():
                found.append(image_diagonal_mm(a.shape, spacing))
        return found


def _mean_and_most(differences: list[NDArray[Any]]) -> tuple[float, float]:
    joined = np.concatenate([values.ravel() for values in differences])
    return float(joined.mean(dtype=np.float64)), float(joined.max())


def _round(value: float) -> float:
    return float(f"{value:.3g}")


def limits_of(precision: str) -> MaskLimits:
    """The limits of ``precision``; both INT8 graphs share theirs."""
    return LIMITS[precision_of(precision).name]


def check_record(record: object, precision: str, roles: Iterable[str], labels: Collection[str]) -> PassedGate:
    """What is on record of a gate, which anyone may have written, of the right types and within the limits.

    Args:
        record: Gate's record in the manifest.
        precision: Whose limits hold, whatever limits the record names.
        roles: Roles of the networks.
        labels: Names of the model's structures.

    Raises:
        BundleError: A value that is missing or of a wrong type.
        VerificationError: Too few patients, or figures outside the limits.
    """
    key = f"gates.{precision}"
    plain = checks.mapping(key, record)
    graphs, islands = (checks.mapping(f"{key}.{name}", plain.get(name)) for name in ("graphs", "islands"))
    for role in roles:
        checks.text(f"{key}.graphs.{role}", graphs.get(role), r"[0-9a-f]{64}", "a SHA-256 of 64 hexadecimal digits")
        for node, reason in checks.mapping(f"{key}.islands.{role}", islands.get(role)).items():
            checks.text(f"{key}.islands.{role}.{node}", reason)
    for backend, judged in checks.mapping(f"{key}.backends", plain.get("backends", {})).items():
        checks.mapping(f"{key}.backends.{backend}", judged)
    patients = checks.integer(f"{key}.patients", plain.get("patients"), 1, MOST_COUNTED)
    slices = checks.integer(f"{key}.slices", plain.get("slices"), 1, MOST_COUNTED)
    limits, failed = limits_of(precision), []
    if patients < LEAST_PATIENTS:
        failed.append(f"{patients} patients (at least {LEAST_PATIENTS})")
    bounds = {"mean_dice": limits.mean_dice, "worst_dice": limits.worst_dice, "hd95_mm": limits.hd95_mm}
    for measure, bound in bounds.items():
        figures = checks.mapping(f"{key}.{measure}", plain.get(measure))
        for name in labels:
            value = checks.number(f"{key}.{measure}.{name}", figures.get(name), 0.0, "a number of at least 0")
            if measure == "hd95_mm" and value > bound:
                failed.append(f"{measure} of {name} {value:g} (at most {bound:g})")
            elif measure != "hd95_mm" and not bound <= value <= 1:
                failed.append(f"{measure} of {name} {value:g} (from {bound:g} to 1)")
    if failed:
        raise VerificationError(
            f"the {precision} gate on record was not passed: {'; '.join(failed)}",
            f"a record of at least {LEAST_PATIENTS} patients, within this version's limits",
            "judge the conversion again: name a folder of scans with --scans",
        )
    worst = {name: float(value) for name, value in plain["worst_dice"].items()}
    return PassedGate(graphs, islands, worst, patients, slices)
