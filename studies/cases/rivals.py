"""The default setting against its rivals on the same slices: each one's Dice in the scan's grid beside its time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from studies.library.naive_loop import naive_answer
from studies.library.patients import PatientScorer, StudyPatient, load_patients
from studies.library.recipes import FEWEST_ROUNDS, Recipe, really_run, recipes
from studies.library.runtime_slices import Answer, RuntimeSlices
from studies.library.slicewise import Entrant, Raced, every_slice, mean_dice, race, score, spread_slices
from studies.library.torch_slices import Form, TorchSlices
from studies.options import StudyOptions, require_denoiser
from studies.pages.rivals import RivalRow, Scored, draw_rivals, markdown_page
from verdiff.benchmarks.cases import Figure, Findings
from verdiff.benchmarks.timing import speedup
from verdiff.bundle import Bundle, open_bundle, resolve_model
from verdiff.bundle.objects import stated
from verdiff.diffusion import SamplerTable
from verdiff.errors import VerdiffError
from verdiff.runtime import Segmenter

DEFAULT, NAIVE, RUNTIME = "verdiff, default", "naive ONNX Runtime loop", "verdiff's runtime"
EAGER, COMPILED = "PyTorch eager", "torch.compile"
TORCH: dict[str, Form] = {EAGER: "eager", f"{EAGER}, channels last": "channels last", COMPILED: "compiled"}
RECIPE_AIMS = (100.0, 8.0)
DICE_BEHIND = 0.002
SAME_PRIOR = 1e-3

TorchFactory = Callable[[Bundle, Path | None, int], TorchSlices]


@dataclass(frozen=True)
class LoadedRivals:
    """The rivals that are there.

    Attributes:
        answers: Rival -> how it segments.
        torch: PyTorch's networks, or None.
        first_call_s: Rival -> seconds of its first call, on one slice.
        left_out: Rival -> why it is not there.
    """

    answers: dict[str, Answer]
    torch: TorchSlices | None
    first_call_s: dict[str, float]
    left_out: dict[str, str]


def run(options: StudyOptions, torch_factory: TorchFactory = TorchSlices) -> Findings:
    """Time the default, the same loop elsewhere, and MedSegDiff's recipes; score all of them.

    Raises:
        InputError: No data set was given, or a case cannot be read.
        DataError: The data set has no such fold, or the model no denoiser.
        BundleError: The bundle cannot be opened.
        BackendError: ONNX Runtime or OpenVINO is needed.
    """
    data = options.data_set
    bundle = open_bundle(resolve_model(options.bundle))
    require_denoiser(bundle.manifest, there=bundle.has("denoiser"))
    segmenter = Segmenter.load(options.bundle, threads=options.threads)
    patients = load_patients(segmenter, data, options.fold, every=options.every, say=options.say)
    manifest = bundle.manifest
    defaults, table = manifest.defaults, stated(manifest.table, "table")
    with RuntimeSlices(segmenter) as slices:
        loaded = load_rivals(bundle, table, options, patients[0], torch_factory)
        known = recipes(manifest)
        entrants = {DEFAULT: Entrant(slices.answer(table, defaults.samples))}
        entrants |= {name: Entrant(answer) for name, answer in loaded.answers.items()}
        pieces = recipe_pieces(slices, known, loaded.torch if EAGER in loaded.answers else None)
        raced = race(
            entrants | {name: entrant for parts in pieces.values() for name, entrant in parts[1].items()},
            patients,
            repeats=max(FEWEST_ROUNDS, options.repeats),
            warmup=options.warmup,
            on_round=options.say_round,
        )
        timings = {name: raced.timings[name] for name in entrants}
        for name, (recipe, parts) in pieces.items():
            timings[name] = recipe.extrapolated(*(raced.timings[part] for part in parts))
        scored, really_s = score_rivals(slices, patients, raced, known, options.recipe_slices)
        difference = None if loaded.torch is None else _prior_difference(slices, loaded.torch, patients[0])

    same_weights = loaded.torch is not None and loaded.torch.same_weights
    rows = []
    for name, timing in timings.items():
        of = pieces[name][0].name if name in pieces else name
        shown = scored[of] if name not in TORCH or same_weights else None
        rows.append(RivalRow(name, name in pieces, timing, speedup(timing, timings[DEFAULT]), shown))
    results = {
        "rivals": [row.to_dict() for row in rows],
        "recipes_really_run_s_a_slice": really_s,
        "first_call_s": loaded.first_call_s,
    }
    return Findings(
        timings=timings,
        baseline=None,
        figures=figures(rows, known, difference, loaded.first_call_s),
        subject={
            **options.subject(segmenter, sum(len(patient.image) for patient in patients)),
            "bundle_sha256": bundle.manifest_sha256,
            "default": f"{defaults.sampler}, {defaults.steps} steps x {defaults.samples}",
        },
        left_out=loaded.left_out,
        notes=notes(same_weights, loaded.torch is not None),
        results=results,
        page=markdown_page(rows, really_s),
        draw=lambda path: draw_rivals(rows, path),
    )


def load_rivals(
    bundle: Bundle, table: SamplerTable, options: StudyOptions, patient: StudyPatient, torch_factory: TorchFactory
) -> LoadedRivals:
    """Load each rival and run it once on one slice, which compiles what is to be compiled."""
    samples = bundle.manifest.defaults.samples
    opened: dict[str, Callable[[], Answer]] = {
        NAIVE: partial(naive_answer, bundle, table, samples, threads=options.threads)
    }
    loaded = LoadedRivals({}, None, {}, {})
    torch: TorchSlices | None = None
    try:
        torch = torch_factory(bundle, options.training_run, options.threads)
    except VerdiffError as error:
        loaded.left_out.update(dict.fromkeys(TORCH, f"{error.found}; {error.remedy}"))
    else:
        opened |= {name: partial(torch.answer, table, samples, form=form) for name, form in TORCH.items()}
    for name, factory in opened.items():
        begun = time.perf_counter()
        try:
            answer = factory()
            answer(patient.image[:1], [0])
        except VerdiffError as error:
            loaded.left_out[name] = f"{error.found}; {error.remedy}"
        except Exception as error:
            # Whatever a rival's library raises, a compiler that is not there for one, is why it is left out.
            loaded.left_out[name] = (str(error).strip() or type(error).__name__).splitlines()[0]
        else:
            loaded.answers[name] = answer
            loaded.first_call_s[name] = time.perf_counter() - begun
    return LoadedRivals(loaded.answers, torch, loaded.first_call_s, loaded.left_out)


def whole_name(recipe: Recipe, engine: str) -> str:
    """A recipe's name in the record."""
    return f"{recipe.name}, {engine}, extrapolated"


def recipe_pieces(
    slices: RuntimeSlices, known: Sequence[Recipe], torch: TorchSlices | None
) -> dict[str, tuple[Recipe, dict[str, Entrant]]]:
    """What is timed of each recipe, in the runtime and in PyTorch: name of the whole -> recipe and its entrants."""
    engines: dict[str, Callable[[SamplerTable, int], Answer]] = {
        RUNTIME: lambda table, steps: slices.answer(table, stop_after=steps)
    }
    if torch is not None:
        engines[EAGER] = lambda table, steps: torch.answer(table, stop_after=steps)
    pieces = {}
    for engine, stopped in engines.items():
        for recipe in known:
            name = whole_name(recipe, engine)
            first, more = recipe.entrants(stopped, slices.lanes.count)
            pieces[name] = recipe, {f"{name}: the first step": first, f"{name}: more steps": more}
    return pieces


def score_rivals(
    slices: RuntimeSlices, patients: Sequence[StudyPatient], raced: Raced, known: Sequence[Recipe], recipe_slices: int
) -> tuple[dict[str, Scored], dict[str, float]]:
    """Dice of whoever saw every slice and of the recipes, which are run for it on a few; and the seconds that took.

    The longest recipe gets ``recipe_slices`` slices in all, a shorter one as many more as it is shorter.
    """
    scorer, everything = PatientScorer(slices.segmenter), every_slice(patients)
    default = raced.probabilities[DEFAULT]
    whole = {name: score(scorer, patients, everything, found) for name, found in raced.probabilities.items()}
    count = sum(len(patient.image) for patient in patients)
    scored = {name: Scored(scores, whole[DEFAULT], count) for name, scores in whole.items()}
    seconds: dict[str, float] = {}
    for recipe in known:
        longest = max(len(each.table) for each in known)
        chosen = spread_slices(patients, recipe_slices * longest // len(recipe.table))
        found, seconds[recipe.name] = really_run(slices.answer(recipe.table, recipe.samples), patients, chosen)
        beside = {name: default[name][indices] for name, indices in chosen.items()}
        scored[recipe.name] = Scored(
            score(scorer, patients, chosen, found),
            score(scorer, patients, chosen, beside),
            sum(map(len, chosen.values())),
        )
    return scored, seconds


def figures(
    rows: Sequence[RivalRow], known: Sequence[Recipe], difference: float | None, first_call_s: Mapping[str, float]
) -> tuple[Figure, ...]:
    """The aims: times faster than each recipe on the same networks, and mean Dice behind anything on its slices."""
    by_name = {row.name: row for row in rows}
    found = []
    for recipe, aim in zip(known, RECIPE_AIMS, strict=True):
        for engine in (RUNTIME, EAGER):
            row = by_name.get(whole_name(recipe, engine))
            if row is not None:
                found.append(Figure(f"default, times faster than {row.name}", row.faster.value, "", at_least=aim))
    behind: dict[str, float] = {}
    for row in rows:
        # A recipe's Dice is that of its run in the runtime, whichever engine is timed.
        if row.scored is not None and row.name not in (DEFAULT, *(whole_name(recipe, EAGER) for recipe in known)):
            behind[row.name] = mean_dice(row.scored.dice) - mean_dice(row.scored.default)
    found += [
        Figure(f"mean Dice of the default behind {name}, same slices", value, "", at_most=DICE_BEHIND)
        for name, value in behind.items()
    ]
    if difference is not None:
        found.append(
            Figure("largest difference of the prior, PyTorch from the runtime", difference, "", at_most=SAME_PRIOR)
        )
    if COMPILED in first_call_s:
        found.append(Figure("compiling with torch.compile, and one slice", first_call_s[COMPILED], "s"))
    return tuple(found)


def notes(same_weights: bool, torch: bool) -> tuple[str, ...]:
    """What a reader must know."""
    found = [
        "Durations are seconds a slice from the normalised slice to fused probabilities: networks, noise, loop and "
        "fusion; each round is all slices of all patients, the rivals taking turns patient by patient.",
        "Recipes are extrapolated: 20 steps more against one step, on slices in the middle of each patient, times "
        "all steps of all samples. The prior is counted once a slice.",
    ]
    if torch and not same_weights:
        found.append("PyTorch's networks have random weights, so no Dice: name the training run behind the bundle.")
    return tuple(found)


def _prior_difference(slices: RuntimeSlices, torch: TorchSlices, patient: StudyPatient) -> float | None:
    if not torch.same_weights:
        return None
    image = patient.image[:1]
    return float(np.abs(torch.priors(image) - slices.priors(image)).max())
