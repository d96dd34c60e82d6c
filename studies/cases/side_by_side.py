"""Whole scans as a user has them: verdiff, nnU-Net's own predictor and MedSegDiff's recipe, from file to mask.

Each round runs every entrant in a fresh process, one after the other in changing order, on all scans. So the peak of
memory is that of the entrant alone, and loading is left out of the seconds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from studies.library.nnunet_planner import plan, trained_model
from studies.library.nnunet_predictor import CONFIGURATION
from studies.library.nnunet_trainer import SPENT
from studies.library.recipes import recipes
from studies.options import StudyOptions, require_denoiser
from studies.pages.side_by_side import VolumeRow, draw_side_by_side, markdown_page
from verdiff.benchmarks.cases import Figure, Findings
from verdiff.benchmarks.file_to_file import FAST, policies_of
from verdiff.benchmarks.fresh import run_fresh
from verdiff.benchmarks.timing import Timing, speedup
from verdiff.bundle import Manifest, open_bundle, resolve_model
from verdiff.errors import BackendError, VerdiffError
from verdiff.evaluate import score_case
from verdiff.evaluate.cases import validation_cases
from verdiff.evaluate.fold import LabelledScan, file_ending, scans_of
from verdiff.evaluate.labels import label_table
from verdiff.files import scratch_folder
from verdiff.imaging import read_labels

DEFAULT, FASTEST = "verdiff, default", "verdiff, fast"
NNUNET = "nnunetv2's predictor"
MEDSEGDIFF = "MedSegDiff, the default of its bundle"
TRAINED, RANDOM = "trained", "random: time alone"
SEEN = "trained, on these scans too"
SEGMENT = "studies.library.whole_volumes:segment_volumes"
RECIPE = "studies.library.whole_volumes:recipe_volumes"
PREDICT = "studies.library.nnunet_predictor:predict_volumes"

Scores = dict[str, dict[str, float]]


@dataclass
class VolumeEntrant:
    """Whoever segments the scans.

    Attributes:
        name: What it is called.
        target: The function of a fresh process that does it.
        arguments: Its own, beside scans, masks and threads.
        weights: What its networks have.
        ids: Structure -> its id in the masks that it writes; empty where they say nothing.
        extrapolated: Whether its time is.
        seconds: A scan, one value a round.
        peaks: Bytes, one value a round.
        scores: Case -> structure -> Dice, of the first round.
    """

    name: str
    target: str
    arguments: dict[str, Any]
    weights: str = TRAINED
    ids: Mapping[str, int] = field(default_factory=dict)
    extrapolated: bool = False
    seconds: list[float] = field(default_factory=list)
    peaks: list[int | None] = field(default_factory=list)
    scores: Scores = field(default_factory=dict)


def run(options: StudyOptions) -> Findings:
    """Run every entrant on the fold's validation scans, ``--every n`` every n-th of them.

    Raises:
        InputError: No data set was given, or a case cannot be read.
        DataError: The data set has no such fold, or the model no denoiser.
        BundleError: A bundle cannot be opened.
        BackendError: No backend can run the model.
    """
    data = options.data_set
    names = validation_cases(data / "splits_final.json", options.fold)[:: options.every]
    model = resolve_model(options.bundle)
    manifest = open_bundle(model).manifest
    require_denoiser(manifest, there=open_bundle(model).has("denoiser"))
    truths = label_table(None, data)
    ending = file_ending(data)
    scans = [str((data / "imagesTr" / f"{name}_0000{ending}").resolve()) for name in names]
    left_out: dict[str, str] = {}
    with scratch_folder() as scratch:
        entrants = [*verdiffs(model, manifest), *medsegdiffs(model, options.medsegdiff)]
        entrants = [replace(each, weights=SEEN) if _has_seen(each, data, names) else each for each in entrants]
        try:
            entrants += nnunets(data, options, Path(scratch), truths)
        except VerdiffError as error:
            left_out[NNUNET] = f"{error.found}; {error.remedy}"
        planned = plan_of_nnunet(entrants)
        for number in range(options.repeats):
            turn = number % len(entrants)
            for entrant in entrants[turn:] + entrants[:turn]:
                options.say(f"round {number + 1}: {entrant.name}")
                _once(entrant, scans, Path(scratch), names, ending, options, left_out)
            entrants = [entrant for entrant in entrants if entrant.name not in left_out]
            options.say_round(number + 1)
            if number == 0:
                _score(entrants, data, names, Path(scratch), truths, ending)
    if not entrants:
        raise BackendError("; ".join(left_out.values()), "at least one that runs", "mend what it says")
    timings = {entrant.name: Timing(tuple(entrant.seconds)) for entrant in entrants}
    baseline = timings.get(DEFAULT)
    rows = [
        VolumeRow(
            entrant.name,
            entrant.weights,
            entrant.extrapolated,
            timings[entrant.name],
            None if baseline is None else speedup(timings[entrant.name], baseline),
            max((peak for peak in entrant.peaks if peak is not None), default=None),
            entrant.scores,
        )
        for entrant in entrants
    ]
    return Findings(
        timings=timings,
        baseline=None,
        figures=_figures(rows),
        subject={
            "model": f"{manifest.model_id} {manifest.version}",
            "data": f"{data.name}, validation cases of fold {options.fold}",
            "scans": f"{len(names)} (every {options.every})",
            "threads": options.threads,
            **planned,
        },
        left_out=left_out,
        notes=notes(options),
        results={"entrants": [row.to_dict() for row in rows]},
        page=markdown_page(rows),
        draw=lambda path: draw_side_by_side(rows, path),
    )


def _has_seen(entrant: VolumeEntrant, data: Path, names: Sequence[str]) -> bool:
    """Whether a bundle's training had some of the scans, as far as its manifest says."""
    aside = open_bundle(entrant.arguments["model"]).manifest.put_aside(data.absolute().name)
    return aside is not None and not set(names) <= set(aside)


def verdiffs(model: Path, manifest: Manifest) -> list[VolumeEntrant]:
    """The default setting, and the fast one where the model has one on record."""
    found = []
    for policy in policies_of(manifest):
        options: dict[str, Any] = {} if policy is None else {"policy": policy}
        name = FASTEST if policy == FAST else DEFAULT
        found.append(VolumeEntrant(name, SEGMENT, _segment(model, options), ids=manifest.label_ids))
    return found


def medsegdiffs(model: Path, own: Path | None) -> list[VolumeEntrant]:
    """MedSegDiff's recipes with its own bundle's networks, or with the model's; and its bundle as it stands."""
    source = model if own is None else own
    manifest = open_bundle(source).manifest
    found = [] if own is None else [VolumeEntrant(MEDSEGDIFF, SEGMENT, _segment(own, {}), ids=manifest.label_ids)]
    whose = "verdiff's networks" if own is None else "its own networks"
    return [
        *found,
        *(
            VolumeEntrant(
                f"MedSegDiff's recipe, {recipe.name}, {whose}",
                RECIPE,
                {"model": str(source), "number": number},
                extrapolated=True,
            )
            for number, recipe in enumerate(recipes(manifest))
        ),
    ]


def nnunets(data: Path, options: StudyOptions, scratch: Path, truths: Mapping[str, int]) -> list[VolumeEntrant]:
    """nnU-Net's predictor with and without mirroring; trained where ``--nnunet`` names a finished run of it.

    Raises:
        BackendError: nnunetv2 is not installed.
        VerdiffError: Its planner failed.
    """
    place = scratch / "nnunet" if options.nnunet is None else options.nnunet
    plans = plan(data, place, fold=options.fold, processes=max(1, options.threads))
    model = trained_model(data, place, options.fold)
    return [
        VolumeEntrant(
            f"{NNUNET}, {'mirroring' if mirroring else 'no mirroring'}",
            PREDICT,
            {
                "plans": str(plans),
                "description": str((data / "dataset.json").resolve()),
                "model": None if model is None else str(model),
                "fold": options.fold,
                "mirroring": mirroring,
                "seed": options.seed,
            },
            weights=RANDOM if model is None else trained_for(model / f"fold_{options.fold}"),
            ids={} if model is None else truths,
        )
        for mirroring in (True, False)
    ]


def plan_of_nnunet(entrants: Sequence[VolumeEntrant]) -> dict[str, str]:
    """What nnU-Net planned: the patch, and the axis of the scan's array along which its slices lie."""
    paths = {entrant.arguments["plans"] for entrant in entrants if entrant.target == PREDICT}
    if not paths:
        return {}
    plans = json.loads(Path(paths.pop()).read_text("utf-8"))
    patch = " x ".join(str(side) for side in plans["configurations"][CONFIGURATION]["patch_size"])
    return {"nnunetv2's plan": f"patch {patch}, slices along {'zyx'[plans['transpose_forward'][0]]}"}


def trained_for(fold: Path) -> str:
    """What is said of nnU-Net's weights: for how long, where they were trained on a budget."""
    if not (fold / SPENT).is_file():
        return TRAINED
    spent = json.loads((fold / SPENT).read_text("utf-8"))
    return f"{TRAINED}, {spent['iterations']} iterations in {spent['processor_minutes']:.0f} processor minutes"


def notes(options: StudyOptions) -> tuple[str, ...]:
    """What a reader must know."""
    return (
        "Seconds are from file to mask file, the model loaded; a round's value is the mean over the scans. Peak memory "
        "is that of a process that loads the model and segments all of them.",
        "Dice is over whole scans in their own grid, mean over structures and scans. Of weights that were trained on "
        "these scans, too, it says nothing of other patients.",
        "Extrapolated: a call with one step, and the further steps of all five samples by the time of 20 steps on "
        "slices in the middle of each scan. Its Dice with the same networks: the study 'rivals'.",
        *(
            ["MedSegDiff's recipe has verdiff's networks here: only its sampling is timed."]
            if options.medsegdiff is None
            else []
        ),
        "nnunetv2 predicts with its own two-dimensional plan, preprocessing, half-overlapping windows and resampling, "
        "in PyTorch on the processor; random weights take as long as trained ones and have no Dice. Its planner slices "
        "across the axis of the largest spacing, unless the study 'nnunetv2' made the plan.",
    )


def _segment(model: Path, options: dict[str, Any]) -> dict[str, Any]:
    return {"model": str(model), "precision": "fp32", "options": options}


def _once(
    entrant: VolumeEntrant,
    scans: Sequence[str],
    scratch: Path,
    names: Sequence[str],
    ending: str,
    options: StudyOptions,
    left_out: dict[str, str],
) -> None:
    """One round of one entrant; one that cannot is left out from then on."""
    masks = [str(_mask(scratch, entrant, name, ending)) for name in names]
    Path(masks[0]).parent.mkdir(parents=True, exist_ok=True)
    task = {**entrant.arguments, "scans": list(scans), "masks": masks, "threads": options.threads}
    try:
        fresh = run_fresh(entrant.target, task)
    except VerdiffError as error:
        left_out[entrant.name] = f"{error.found}; {error.remedy}"
        return
    entrant.seconds.append(math.fsum(fresh.result) / len(fresh.result))
    entrant.peaks.append(fresh.peak_bytes)


def _score(
    entrants: Sequence[VolumeEntrant],
    data: Path,
    names: Sequence[str],
    scratch: Path,
    truths: Mapping[str, int],
    ending: str,
) -> None:
    """Dice of each structure that both know by name, of whoever has trained weights."""
    for scan in scans_of(data, names):
        for entrant in entrants:
            if entrant.ids:
                found = read_labels(_mask(scratch, entrant, scan.name, ending)).array
                entrant.scores[scan.name] = dice_of(found, entrant.ids, scan, truths)


def dice_of(found: Any, ids: Mapping[str, int], scan: LabelledScan, truths: Mapping[str, int]) -> dict[str, float]:
    """Dice of the structures that both have, by name.

    Args:
        found: Mask [z, y, x].
        ids: Structure -> its id there.
        scan: Scan with the true mask.
        truths: Structure -> its id in that.
    """
    shared = [name for name in truths if name in ids]
    return {
        name: score_case(
            found == ids[name],
            scan.truth == truths[name],
            spacing_mm=scan.spacing_mm,
            label_ids={name: 1},
            distances=False,
        )[name].dice
        for name in shared
    }


def _mask(scratch: Path, entrant: VolumeEntrant, name: str, ending: str) -> Path:
    folder = "".join(letter if letter.isalnum() else "-" for letter in entrant.name)
    return scratch / "masks" / folder / f"{name}{ending}"


def _figures(rows: Sequence[VolumeRow]) -> tuple[Figure, ...]:
    peaks = [(row.name, row.peak_bytes) for row in rows if row.peak_bytes is not None]
    return tuple(Figure(f"peak memory, {name}", peak / 1e9, "GB") for name, peak in peaks)
