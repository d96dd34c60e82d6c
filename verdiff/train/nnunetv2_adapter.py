"""The real nnU-Net: the planner and trainer of the package ``nnunetv2`` on a raw data set, in the same folds.

verdiff's own ``nnunet`` follows nnU-Net's plan and network within verdiff's training. This runs nnU-Net itself, with
its own resampling, augmentation and 1000 epochs, as the yardstick. Nothing of it becomes a bundle: what it leaves is
masks of the fold's validation cases in the scans' own grids, which ``verdiff evaluate`` scores as any other masks.

nnU-Net finds its folders in environment variables. They are set for its processes alone.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import util
from pathlib import Path

from verdiff.errors import BackendError, DataError, VerdiffError
from verdiff.extras import install
from verdiff.imaging.atomic import atomic_path
from verdiff.train.data.layout import DESCRIPTION, MASKS, find_files, read_description, splits_of
from verdiff.train.data.splits import SPLITS, Split, make_splits, read_splits

CONFIGURATION = "2d"
PLANS = "nnUNetPlans"
TRAINER = "nnUNetTrainer"
PLANNER = "nnunetv2.experiment_planning.plan_and_preprocess_entrypoints"
LOG = "nnunetv2.log"
# Beside nnU-Net's own splits, of which its planner may copy the data set's before it has preprocessed anything.
PREPARED = "prepared_splits.json"
PREPROCESSED, RESULTS = "preprocessed", "results"
_NAME = re.compile(r"Dataset(\d{3})_\w+")
_NEEDED = ("channel_names", "numTraining")


@dataclass(frozen=True)
class NnunetRun:
    """What a run of nnU-Net leaves.

    Attributes:
        predictions: Folder of the validation cases' masks.
        model: nnU-Net's own folder of the fold: checkpoints, log, curves.
        plan: The two-dimensional configuration that its planner chose: ``patch_size``, ``batch_size``, ``spacing``, ...
        evaluate: The command that scores the predictions.
    """

    predictions: Path
    model: Path
    plan: Mapping[str, object]
    evaluate: str


def require() -> None:
    """Raises BackendError where nnunetv2 is not installed."""
    if util.find_spec("nnunetv2") is None:
        raise BackendError("no package nnunetv2", "the real nnU-Net beside verdiff", install("train,nnunetv2"))


@dataclass(frozen=True)
class Workplace:
    """A data set and the folder in which nnU-Net works on it, in the folds that every other system trains on.

    Attributes:
        number: The data set's number, by which nnU-Net calls it.
        description: Its ``dataset.json``.
        ending: File ending of its masks.
        splits: Names under ``train`` and ``val``, fold by fold.
        plans: ``nnUNetPlans.json`` of nnU-Net's planner, once it was there.
        environment: The variables by which nnU-Net's processes find their folders.
    """

    number: int
    description: Path
    ending: str
    splits: Sequence[Split]
    plans: Path
    environment: Mapping[str, str]

    @property
    def plan(self) -> Mapping[str, object]:
        """The two-dimensional configuration that was planned."""
        found: Mapping[str, object] = json.loads(self.plans.read_text("utf-8"))["configurations"][CONFIGURATION]
        return found

    @property
    def is_prepared(self) -> bool:
        """Whether the data set is planned and preprocessed, in these folds."""
        return (self.plans.parent / PREPARED).is_file()

    def finish_preparation(self) -> None:
        """Have nnU-Net train in these folds, and note that all is there: a preparation that was stopped is repeated.

        Raises:
            OutputError: They cannot be written.
        """
        for name in (SPLITS, PREPARED):
            with atomic_path(self.plans.parent / name) as path:
                path.write_text(json.dumps(self.splits, indent=1), "utf-8")


def workplace(
    data: Path, output: Path, *, fold: int = 0, folds: int | None = None, processes: int = 2, resume: bool = False
) -> Workplace:
    """Check what nnU-Net is to work on, before any of its processes runs.

    Args:
        data: A raw data set in a folder named ``DatasetNNN_Name``.
        output: Gets nnU-Net's ``preprocessed`` and ``results``.
        fold: Number of the fold that will be trained.
        folds: Make so many folds by patient; None takes those of the data set.
        processes: Number of processes for augmentation.
        resume: Go on with what is in ``output``.

    Raises:
        BackendError: nnunetv2 is not installed.
        DataError: The folder's name or ``dataset.json`` is not what nnU-Net wants, there is no such fold, or what is
            gone on with was trained on other folds.
    """
    require()
    number = _number_of(data)
    description = read_description(data)
    patients = {case: description.patients.get(case, case) for case in find_files(data, description.ending).masks}
    splits = splits_of(data, patients) if folds is None else make_splits(patients, folds)
    if not 0 <= fold < len(splits):
        raise DataError(f"fold {fold}", f"0 to {len(splits) - 1}", "pass --fold")
    # Its processes run in other folders.
    data, output = data.resolve(), output.resolve()
    plans = output / PREPROCESSED / data.name / f"{PLANS}.json"
    in_use = plans.parent / SPLITS
    if resume and in_use.is_file() and read_splits(in_use) != splits:
        raise DataError(
            f"{output.name} was trained on other folds than these",
            "the --folds that the run began with",
            "pass them, or choose a new folder",
        )
    environment = NnunetProcesses(data.parent, output, processes).environment
    return Workplace(number, data / DESCRIPTION, description.ending, splits, plans, environment)


def run(
    data: Path,
    output: Path,
    *,
    fold: int = 0,
    folds: int | None = None,
    trainer: str = TRAINER,
    device: str = "auto",
    processes: int = 2,
    resume: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> NnunetRun:
    """Plan, preprocess, train one fold and predict its validation cases.

    Args:
        data: A raw data set in a folder named ``DatasetNNN_Name``.
        output: Gets nnU-Net's ``preprocessed`` and ``results``, and ``nnunetv2.log``.
        fold: Number of a fold in ``splits_final.json``, or of the folds that verdiff makes where there is none.
        folds: Make so many folds by patient instead, those that ``folds`` gives every other system.
        trainer: A trainer class of nnunetv2; ``nnUNetTrainer_5epochs`` and its like train for less.
        device: ``auto``, ``cpu`` or ``cuda``.
        processes: Number of processes for preprocessing and augmentation.
        resume: Go on with the training that is in ``output``.
        say: Told of each stage.

    Raises:
        BackendError: nnunetv2 is not installed.
        DataError: The folder's name or ``dataset.json`` is not what nnU-Net wants, there is no such fold, or the run
            to go on with was trained on other folds.
        VerdiffError: nnU-Net failed; the message has its last words.
    """
    ready = workplace(data, output, fold=fold, folds=folds, processes=processes, resume=resume)
    data, output = data.resolve(), output.resolve()
    nnunet = NnunetProcesses(data.parent, output, processes)
    if not (resume and ready.is_prepared):
        say("nnunetv2: planning and preprocessing")
        nnunet.call(
            PLANNER,
            *("-d", str(ready.number), "-c", CONFIGURATION, "-np", str(processes), "--verify_dataset_integrity"),
        )
        ready.finish_preparation()
    plan = ready.plan
    say(
        f"nnunetv2: patch {plan['patch_size']}, batch {plan['batch_size']}, spacing {plan['spacing']}; "
        f"training fold {fold} with {trainer}, log in {output.name}/{LOG}"
    )
    nnunet.call(
        "nnunetv2.run.run_training",
        *(str(ready.number), CONFIGURATION, str(fold), "-tr", trainer, "-device", _device(device)),
        *(["--c"] if resume else []),
    )
    model = output / RESULTS / data.name / f"{trainer}__{PLANS}__{CONFIGURATION}" / f"fold_{fold}"
    predictions = model / "validation"
    missing = [case for case in ready.splits[fold]["val"] if not (predictions / f"{case}{ready.ending}").is_file()]
    if missing:
        raise VerdiffError(
            f"nnunetv2 left no mask of {missing[0]}", "one of each validation case", f"read {output.name}/{LOG}"
        )
    return NnunetRun(predictions, model, plan, _evaluation(data, output / PREPROCESSED, predictions, fold))


def _evaluation(data: Path, preprocessed: Path, predictions: Path, fold: int) -> str:
    return (
        f"verdiff evaluate {predictions} {data / MASKS} --labels {data / DESCRIPTION} "
        f"--splits {preprocessed / data.name / SPLITS} --fold {fold}"
    )


def _number_of(data: Path) -> int:
    match = _NAME.fullmatch(data.resolve().name)
    if match is None:
        raise DataError(
            f"the folder {data.name}", "DatasetNNN_Name, by which nnU-Net finds data sets", "rename or link the folder"
        )
    try:
        description = json.loads((data / DESCRIPTION).read_text("utf-8"))
    except (OSError, ValueError):
        # Told in full by read_description.
        return int(match.group(1))
    lacking = [key for key in _NEEDED if isinstance(description, dict) and key not in description]
    if lacking:
        raise DataError(
            f"{data.name}/{DESCRIPTION} without {lacking[0]}, which nnU-Net wants",
            'channel_names such as {"0": "T2"}, and numTraining',
            f"add it to {DESCRIPTION}",
        )
    return int(match.group(1))


def _device(device: str) -> str:
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


class NnunetProcesses:
    """Runs nnU-Net's entry points, each in a process with nnU-Net's environment, into one log.

    Args:
        raw: Folder of the raw data sets.
        output: Gets nnU-Net's ``preprocessed`` and ``results``, and the log.
        processes: Number of processes for augmentation.
    """

    def __init__(self, raw: Path, output: Path, processes: int) -> None:
        for folder in (PREPROCESSED, RESULTS):
            (output / folder).mkdir(parents=True, exist_ok=True)
        self.log = output / LOG
        self.environment = {
            **os.environ,
            "nnUNet_raw": str(raw),
            "nnUNet_preprocessed": str(output / PREPROCESSED),
            "nnUNet_results": str(output / RESULTS),
            "nnUNet_n_proc_DA": str(processes),
            # Compiling its network takes a C++ compiler and minutes.
            "nnUNet_compile": "f",
        }

    def call(self, module: str, *arguments: str) -> None:
        """Run a module with arguments, and wait for it.

        Raises:
            VerdiffError: It failed; the message has its last words.
        """
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"$ python -m {module} {' '.join(arguments)}\n")
            log.flush()
            done = subprocess.run(
                [sys.executable, "-m", module, *arguments],
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode:
            lines = [line.strip() for line in self.log.read_text("utf-8", errors="replace").splitlines()]
            last = next((line for line in reversed(lines) if line), "nothing")
            raise VerdiffError(
                f"{module} ended with code {done.returncode}; its last words: {last}",
                "nnU-Net to run through",
                f"read {self.log.parent.name}/{self.log.name}",
            )
