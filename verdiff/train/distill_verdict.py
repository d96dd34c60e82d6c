"""Whether a distilled denoiser is worth keeping: student and teacher on the same validation patients, paired."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from verdiff.evaluate.statistics import Comparison, compare
from verdiff.train.config import RunConfig, SamplingConfig
from verdiff.train.data.cases import CaseSlices
from verdiff.train.distill import teacher_sampling
from verdiff.train.networks import SegmentationModel
from verdiff.train.validate import known_mean, validate

VERDICT = "distillation.json"
# That fewer patients all improve is likely enough by chance (1 in 16 for four), and their interval means little.
LEAST_PATIENTS = 5
CRITERION = (
    "mean Dice a patient, student minus teacher at the same number of steps: the 95 % bootstrap interval over at least "
    f"{LEAST_PATIENTS} patients lies above 0"
)


@dataclass(frozen=True)
class Score:
    """One setting on the validation patients: its steps and samples, and Dice [patients, K]. The prior has 0 steps.

    A patient of several scans has their mean; NaN stands for structures that none of a patient's scans has labelled.
    """

    name: str
    steps: int
    samples: int
    dice: np.ndarray

    @property
    def by_patient(self) -> list[float]:
        """Mean Dice over the structures that are labelled, a patient."""
        means: list[float] = np.nanmean(self.dice, axis=1).tolist()
        return means


@dataclass(frozen=True)
class Verdict:
    """Student and teacher on the same patients, on the prepared grid.

    Attributes:
        patients: Their names, in the order of every Dice.
        structures: The K structures.
        every: Every how many-th slice was scored.
        student: The student at its own number of steps.
        rivals: The teacher at as many steps, then the teacher as its run samples, as the student was taught by it, and
            the prior that all of them share.
        comparisons: The student against each rival, in that order; differences are student minus rival.
    """

    patients: tuple[str, ...]
    structures: tuple[str, ...]
    every: int
    student: Score
    rivals: tuple[Score, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def kept(self) -> bool:
        """Whether the student beats its teacher at the same number of steps, by :data:`CRITERION`."""
        return len(self.patients) >= LEAST_PATIENTS and self.comparisons[0].difference.low > 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, Dice a patient and structure among them."""
        scores = (self.student, *self.rivals)
        return {
            "kept": self.kept,
            "criterion": CRITERION,
            "patients": list(self.patients),
            "structures": list(self.structures),
            "every": self.every,
            "scores": [{**dataclasses.asdict(score), "dice": score.dice.tolist()} for score in scores],
            "student_against": {
                rival.name: dataclasses.asdict(comparison)
                for rival, comparison in zip(self.rivals, self.comparisons, strict=True)
            },
        }

    def lines(self) -> list[str]:
        """What ``verdiff distill`` prints: a line a setting, a line a comparison, and whether the student is kept."""
        told = []
        for score in (self.student, *self.rivals):
            means = zip(self.structures, map(known_mean, score.dice.T), strict=True)
            told.append(
                f"{setting(score)}: Dice {np.mean(score.by_patient):.4f} ("
                + " ".join(f"{name} {mean:.4f}" for name, mean in means)
                + ")"
            )
        for rival, comparison in zip(self.rivals, self.comparisons, strict=True):
            gain = comparison.difference
            told.append(
                f"student minus {setting(rival)}: {gain.mean:+.4f}, 95 % interval {gain.low:+.4f} to {gain.high:+.4f}, "
                f"p = {comparison.p_value:.3f}, better on {comparison.better} of {gain.cases} patients"
            )
        told.append(f"{'kept' if self.kept else 'not kept'} ({CRITERION})")
        return told


def setting(score: Score) -> str:
    """A score's name with its steps and samples."""
    return f"{score.name}, {score.steps} x {score.samples}" if score.steps else score.name


def judge(
    student: SegmentationModel,
    teacher: SegmentationModel,
    config: RunConfig,
    own: SamplingConfig,
    cases: list[CaseSlices],
    structures: tuple[str, ...],
    *,
    patients: Mapping[str, str] = MappingProxyType({}),
    every: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> Verdict:
    """Sample every patient with the student and the teacher from the same noise, and compare.

    Args:
        student: The distilled network.
        teacher: The network it came from.
        config: The student's configuration.
        own: How the teacher's own run samples.
        cases: The scans of the validation patients.
        structures: Names of the K structures.
        patients: Name of a scan -> its patient; one that is not there is a patient of its own.
        every: Score every ``every``-th slice.
        say: Told what is being scored, since it takes minutes.
    """

    people = [patients.get(case.name, case.name) for case in cases]

    def score(name: str, net: SegmentationModel, sampling: SamplingConfig) -> tuple[Score, np.ndarray]:
        say(f"scoring the {name}, {sampling.steps} x {sampling.samples}, on {len(set(people))} patients")
        found = validate(net, dataclasses.replace(config, sampling=sampling), cases, every=every)
        return Score(name, sampling.steps, sampling.samples, _by_patient(found.sampled, people)), found.prior

    ours, prior = score("student", student, config.sampling)
    settings = [("teacher", config.sampling), ("teacher as its run samples", own)]
    settings.append(("teacher as it taught", teacher_sampling(config)))
    rivals = [score(name, teacher, sampling)[0] for name, sampling in settings]
    rivals.append(Score("prior", 0, 0, _by_patient(prior, people)))
    return Verdict(
        tuple(dict.fromkeys(people)),
        structures,
        every,
        ours,
        tuple(rivals),
        tuple(compare(ours.by_patient, rival.by_patient) for rival in rivals),
    )


def _by_patient(dice: np.ndarray, people: Sequence[str]) -> np.ndarray:
    """Dice [cases, K] as [patients, K], in the order of their first cases."""
    rows = [[dice[index] for index, name in enumerate(people) if name == each] for each in dict.fromkeys(people)]
    return np.array([[known_mean(values) for values in zip(*row, strict=True)] for row in rows])


def record(run: Path, verdict: Verdict) -> None:
    """Write the verdict into the run; a student that is kept gets a ``best.pt``, which is what an export takes."""
    best = run / "best.pt"
    best.unlink(missing_ok=True)
    _replace(run / VERDICT, lambda path: path.write_text(json.dumps(verdict.to_dict(), indent=1), "utf-8"))
    if verdict.kept:
        _replace(best, lambda path: shutil.copyfile(run / "last.pt", path))


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    temporary = path.with_name(f".{path.name}.part")
    write(temporary)
    os.replace(temporary, path)
