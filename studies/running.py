"""A study from its options to its record, which a benchmark's page, JSON, CSV and picture make up."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType

from studies.options import StudyOptions
from verdiff.benchmarks.cases import Findings
from verdiff.benchmarks.record import Record
from verdiff.benchmarks.recording import command_line, recorded
from verdiff.errors import InputError

STUDIES: Mapping[str, str] = MappingProxyType(
    {
        "frontier": "Dice of the prior alone and of steps x samples on a data set's fold: does the diffusion work?",
        "rivals": "the default against PyTorch, a naive loop and MedSegDiff's recipe: time beside Dice, same slices",
        "prior-at-equal-time": "the default against its own prior, which averages over views until the time is up",
        "side-by-side": "whole scans: verdiff, nnunetv2's predictor, MedSegDiff's recipe: seconds, memory, Dice",
        "samplers": "DDIM, DDPM and DPM-Solver++ from noise and from the prior, at equal denoiser passes",
        "scaling": "time and peak memory of generated scans that grow up to 512 x 512 x 800 voxels",
        "endurance": "a thousand series in a row to 'verdiff serve': memory, descriptors, latency from first to last",
    }
)


def run(study: str, options: StudyOptions, *, output: str | Path | None = None, overwrite: bool = False) -> Record:
    """Run one study on a model and write its record.

    Args:
        study: A key of :data:`STUDIES`.
        options: What it is run with.
        output: A folder for ``STUDY.json``, ``.csv``, ``.md`` and ``.png``, or the ``.json`` file, the others beside
            it; an ``.html`` file is a page to look at, beside all of them. None writes nothing.
        overwrite: Whether files that are not verdiff's may be replaced.

    Raises:
        InputError: There is no such study, or it needs a data set.
        DataError: The data set or the model is not what the study needs.
        BundleError: The model cannot be opened.
        BackendError: Nothing that could be timed is installed.
        OutputError: The record cannot be written, or a place is taken by a file that is not verdiff's.
    """
    return recorded(
        study,
        lambda: outcome_of(study, options),
        command=lambda output: repeatable_command(study, options, output),
        settings=options.settings(),
        output=output,
        inputs=options.inputs() | {"bundle of MedSegDiff": options.medsegdiff},
        overwrite=overwrite,
        say=options.say,
    )


def outcome_of(study: str, options: StudyOptions) -> Findings:
    """What a study finds.

    Raises:
        InputError: There is no study of this name, or an option it needs is missing.
    """
    if study not in STUDIES:
        raise InputError(f"study {study!r}", "one of " + ", ".join(STUDIES), "choose one of them")
    module = import_module(f"studies.cases.{study.replace('-', '_')}")
    outcome: Findings = module.run(options)
    return outcome


def repeatable_command(study: str, options: StudyOptions, output: str | None) -> str:
    """The command line that repeats a run; a path is cut to what means something on another machine."""
    scored = options.data is not None
    return command_line(
        *("python", "-m", "studies", study, *([options.data] if scored else [])),
        options=[
            ("--model", None if options.bundle is None else Path(options.bundle)),
            ("--run", options.training_run),
            ("--fold", options.fold if scored else None),
            ("--every", None if study == "endurance" else options.every),
            ("--requests", options.requests if study == "endurance" else None),
            ("--recipe-slices", options.recipe_slices if study == "rivals" else None),
            ("--nnunet", options.nnunet),
            ("--medsegdiff", options.medsegdiff),
            ("--repeats", None if study == "endurance" else options.repeats),
            ("--threads", options.threads),
            ("--output", output),
        ],
    )
