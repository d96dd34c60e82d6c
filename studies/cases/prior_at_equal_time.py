"""The claim that counts: at equal time the default against its own prior, which averages over views to fill the time.

The prior gets as many views as it can look at in the time the setting takes, rounded up, and only its network's time
counts: making the views, putting them back and averaging are free. Its views are chosen for it, greedily, on patients
of the training data; and once more on the very patients it is scored on, which no honest method may, as the most that
averaging could bring.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from studies.library.patients import PatientScorer, StudyPatient, load_patients
from studies.library.runtime_slices import Maps, RuntimeSlices
from studies.library.slicewise import Entrant, Scores, mean_dice, patient_means, race
from studies.library.views import CANDIDATES, Votes, averaged_answer, choose_views, collect
from studies.options import StudyOptions, require_denoiser
from studies.pages.prior_at_equal_time import draw_equal_time, markdown_page
from verdiff.benchmarks.cases import Figure, Findings
from verdiff.benchmarks.timing import Timing
from verdiff.bundle import Manifest
from verdiff.diffusion import SamplerTable
from verdiff.errors import DataError
from verdiff.evaluate.cases import validation_cases
from verdiff.evaluate.statistics import compare
from verdiff.options import SampleOptions
from verdiff.runtime import Segmenter
from verdiff.runtime.sampling import resolve_sampling

PRIOR = "prior alone"
# Beside the default: steps x samples.
LARGER = ((5, 1), (5, 4))
PILOT_ROUNDS = 3
# What the last race measures must not fall short of the setting by a hair.
MARGIN = 1.02
FILLED = "views that fill the time, chosen on other patients"
FEWER = "as many of them as were best on other patients"
HINDSIGHT = "views chosen in hindsight on these patients"


@dataclass(frozen=True)
class ChosenViews:
    """The views chosen for the prior on some patients.

    Attributes:
        chosen_on: Which patients, in words.
        order: Numbers of the candidates in the order of joining.
        scores: Mean Dice on those patients of each beginning of it.
    """

    chosen_on: str
    order: list[int]
    scores: list[float]

    def best(self, most: int) -> list[int]:
        """The beginning of at most so many views that scored best where it was chosen."""
        scores = self.scores[:most]
        return self.order[: 1 + scores.index(max(scores))]


def run(options: StudyOptions) -> Findings:
    """Time the settings, give the prior as long, and compare Dice patient by patient.

    Raises:
        InputError: No data set was given, or a case cannot be read.
        DataError: The data set has no such fold, or no other fold to choose views on; or the model no denoiser.
        BundleError: The bundle cannot be opened.
        BackendError: ONNX Runtime or OpenVINO is needed.
    """
    data = options.data_set
    segmenter = Segmenter.load(options.bundle, threads=options.threads)
    manifest = segmenter.manifest
    require_denoiser(manifest, there=segmenter.diffusion)
    other = tuning_fold(options)
    patients, tuning = (
        load_patients(segmenter, data, fold, every=options.every, say=options.say) for fold in (options.fold, other)
    )
    with RuntimeSlices(segmenter) as slices:
        result, timings = at_equal_time(slices, patients, tuning, options)
    return Findings(
        timings=timings,
        baseline=None,
        figures=figures(result),
        subject={
            **options.subject(segmenter, sum(len(patient.image) for patient in patients)),
            "views chosen on": f"validation cases of fold {other}, which fold {options.fold} trains on",
        },
        notes=(
            "Durations are seconds a slice of networks, noise, loop, fusion and averaging, on slices in the middle of "
            "each patient. The number of views counts the prior's network alone.",
            "Views chosen on the scored patients themselves are the most that averaging could bring, not a method.",
        ),
        results=result,
        page=markdown_page(result),
        draw=lambda path: draw_equal_time(result, path),
    )


def tuning_fold(options: StudyOptions) -> int:
    """Another fold, whose validation patients are among this one's training patients.

    Raises:
        DataError: There is none, or it shares patients with this one.
    """
    splits = options.data_set / "splits_final.json"
    scored = set(validation_cases(splits, options.fold))
    for fold in (options.fold + 1, 0):
        try:
            if fold != options.fold and not scored & set(validation_cases(splits, fold)):
                return fold
        except DataError:
            continue
    raise DataError(
        f"no fold beside {options.fold} whose validation patients are others",
        "patients to choose the prior's views on",
        "use a data set of two folds or more",
    )


def at_equal_time(
    slices: RuntimeSlices, patients: Sequence[StudyPatient], tuning: Sequence[StudyPatient], options: StudyOptions
) -> tuple[dict[str, Any], dict[str, Timing]]:
    """Time, choose, score and compare.

    Returns:
        ``structures``, ``prior`` (Dice and time), ``views`` (of each series) and ``settings``: rows with Dice, time,
        the views that fill it, and ``against``, the comparisons; then seconds a slice by name.
    """
    scorer, at_most = PatientScorer(slices.segmenter), slices.lanes.count
    known = settings(slices.segmenter.manifest)
    entrants = {name: Entrant(slices.answer(*setting), at_most) for name, setting in known.items()}
    entrants[PRIOR] = Entrant(slices.prior_answer(), at_most)
    pilot = race(entrants, patients, repeats=PILOT_ROUNDS, warmup=options.warmup).timings
    filling = {
        name: min(len(CANDIDATES), math.ceil(MARGIN * pilot[name].median / pilot[PRIOR].median)) for name in known
    }

    most = max(filling.values())
    fair = choose("other patients", slices, scorer, tuning, votes_of(slices, tuning), most)
    held = votes_of(slices, patients)
    hindsight = choose("the scored patients themselves", slices, scorer, patients, held, most)
    for count in sorted(set(filling.values())):
        views = [CANDIDATES[number] for number in fair.order[:count]]
        entrants[f"prior, {count} views"] = Entrant(averaged_answer(slices, views), at_most)
    timings = race(
        entrants, patients, repeats=options.repeats, warmup=options.warmup, on_round=options.say_round
    ).timings

    def prior_of(members: Sequence[int]) -> Scores:
        return {each.name: scorer.dice(each, held[each.name].mean(members)) for each in patients}

    rows = []
    for name, setting in known.items():
        answer, count = slices.answer(*setting), filling[name]
        dice = {each.name: scorer.dice(each, answer(each.image, range(len(each.image)))) for each in patients}
        rows.append(
            {
                "name": name,
                "milliseconds": 1000 * timings[name].median,
                "views_that_fill_it": count,
                "prior_milliseconds": 1000 * timings[f"prior, {count} views"].median,
                "mean": mean_dice(dice),
                "patients": dice,
                "against": [
                    against(what, members, dice, prior_of(members))
                    for members, what in {
                        tuple(hindsight.best(count)): HINDSIGHT,
                        tuple(fair.best(count)): FEWER,
                        tuple(fair.order[:count]): FILLED,
                    }.items()
                ][::-1],
            }
        )
    alone = prior_of([0])
    return {
        "structures": scorer.names,
        "prior": {"mean": mean_dice(alone), "patients": alone, "milliseconds": 1000 * timings[PRIOR].median},
        "views": [
            {
                "chosen_on": series.chosen_on,
                "order": [CANDIDATES[number].name for number in series.order],
                "mean_dice_there": series.scores,
            }
            for series in (fair, hindsight)
        ],
        "settings": rows,
    }, timings


def settings(manifest: Manifest) -> dict[str, tuple[SamplerTable, int]]:
    """The default and the larger ones: name -> table and samples."""
    defaults = manifest.defaults
    found = {}
    for steps, samples in ((defaults.steps, defaults.samples), *LARGER):
        table = resolve_sampling(manifest, SampleOptions(steps=steps, samples=samples), denoiser=True).table
        assert table is not None
        found[f"{steps} steps x {samples}"] = table, samples
    return found


def votes_of(slices: RuntimeSlices, patients: Sequence[StudyPatient]) -> dict[str, Votes]:
    """What every candidate view says of every slice, by patient."""
    return {patient.name: collect(slices, patient.image, CANDIDATES) for patient in patients}


def choose(
    chosen_on: str,
    slices: RuntimeSlices,
    scorer: PatientScorer,
    patients: Sequence[StudyPatient],
    held: dict[str, Votes],
    most: int,
) -> ChosenViews:
    """The prior's best series of views on ``patients``; see :func:`studies.library.views.choose_views`."""
    base: list[int] = []
    totals: list[tuple[Maps, Maps]] = []

    def mean_with(members: Sequence[int]) -> float:
        nonlocal base, totals
        *earlier, last = members
        # The sums of a series are needed for every candidate that might join it.
        if earlier != base or not totals:
            base, totals = earlier, [held[patient.name].total(earlier) for patient in patients]

        def dice(place: int) -> float:
            patient, (placed, vote) = patients[place], totals[place]
            more, its_vote = held[patient.name].total([last])
            return float(np.mean(list(scorer.dice(patient, (placed + more) / (vote + its_vote)).values())))

        return float(np.mean(slices.lanes.map(dice, range(len(patients)))))

    return ChosenViews(chosen_on, *choose_views(mean_with, len(CANDIDATES), most))


def against(what: str, members: Sequence[int], setting: Scores, prior: Scores) -> dict[str, Any]:
    """The setting against the prior over some views, paired by patient; differences are the setting minus the prior."""
    return {
        "prior": what,
        "views": len(members),
        "mean": mean_dice(prior),
        "patients": prior,
        **asdict(compare(patient_means(setting), patient_means(prior))),
    }


def figures(result: dict[str, Any]) -> tuple[Figure, ...]:
    """The claim's aims, for the default: ahead of the prior beyond doubt, which had at least as long."""
    default = result["settings"][0]
    share = default["prior_milliseconds"] / default["milliseconds"]
    found = [Figure("time of the averaged prior over that of the default", share, "", at_least=1.0)]
    for row in result["settings"]:
        for each in row["against"]:
            name = f"mean Dice ahead of the prior, low end of 95 %: {row['name']}, {each['prior']} ({each['views']})"
            # Nobody can choose in hindsight, so that is no aim.
            aim = None if each["prior"] == HINDSIGHT else 0.0
            found.append(Figure(name, each["difference"]["low"], "", at_least=aim))
    return tuple(found)
