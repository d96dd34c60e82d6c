"""What ``verdiff distill`` does: train a student of a run, judge it, and keep it only if it wins."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from verdiff.errors import DataError
from verdiff.files import require_folder
from verdiff.options import DistillOptions
from verdiff.rehearsal import is_rehearsal, rehearse
from verdiff.train.checkpoint import Checkpoint, checkpoint_to_resume, load_network
from verdiff.train.config import DataConfig
from verdiff.train.data.cases import Dataset
from verdiff.train.data.joining import TrainingSource
from verdiff.train.data.loading import load_sources
from verdiff.train.distill import distillation_kind, student_config
from verdiff.train.distill_verdict import Verdict, judge, record
from verdiff.train.run_folder import Started, owned
from verdiff.train.trainer import Trainer
from verdiff.train.training import follow


def run(
    source: Path, data: Path, output: Path, options: DistillOptions, *, say: Callable[[str], None] = print
) -> Verdict:
    """Distil the run in folder ``source`` into a new run in ``output`` and judge it on the fold's validation patients.

    Args:
        source: The folder of a training run.
        data: The data set it was trained on: nnU-Net raw, or a prepared cache.
        output: The student's run: what ``verdiff train`` writes, and ``distillation.json``, the verdict. ``best.pt`` is
            there only if the student was kept, so ``verdiff export`` takes another only when it is named.
        options: What to change of the run's ``[distillation]`` table.
        say: Told what happens, line by line.

    Raises:
        DataError: ``source`` is no run, ``data`` is not what it was trained on, or ``output`` holds a run.
        OutputError: ``output`` cannot be made or written.
    """
    if options.threads:
        torch.set_num_threads(options.threads)
    teacher, checkpoint = load_network(source, options.weights)
    begun = checkpoint_to_resume(output).config if options.resume else checkpoint.config
    asked = dataclasses.replace(begun.distillation, **options.recipe())
    config = student_config(dataclasses.replace(checkpoint.config, distillation=asked))
    require_folder(output, make=True)
    dataset = _same_folds(source, data, config.data)
    for remark in dataset.remarks:
        say(f"{dataset.name}: {remark}")
    check_same_data(checkpoint, dataset)
    kind = distillation_kind(teacher, checkpoint)
    begin = partial(
        Trainer,
        config,
        dataset,
        checkpoint.facts.fold,
        output,
        kind=kind,
        resume=options.resume,
        device=options.device,
    )
    if is_rehearsal():
        begin(writes=False)
    rehearse(
        {"teacher": source / options.weights, "data set": data},
        [f"teach a student of {asked.steps} steps"],
        [output],
    )
    trainer = begin()
    (output / "config.json").write_text(json.dumps(config.to_dict(), indent=1), "utf-8")
    say(
        f"{config.model_id}: a student of {asked.steps} step(s) from iteration {checkpoint.iteration}, taught by "
        f"{asked.teacher_steps} x {asked.teacher_samples}; {trainer.net.parameters_by_part()['denoiser'] / 1e6:.2f} M "
        f"parameters learn; {trainer.device}, {'bf16' if trainer.bf16 else 'fp32'}"
    )
    with owned(output):
        follow(trainer, say)
    teacher.to(trainer.device)
    verdict = judge(
        trainer.ema,
        teacher,
        config,
        checkpoint.config.sampling,
        trainer.val_cases,
        dataset.labels,
        patients=dataset.patients,
        every=options.every,
        say=say,
    )
    record(output, verdict)
    for line in verdict.lines():
        say(line)
    if not verdict.kept:
        say(f"{output.name} is not exported unless its checkpoint is named: verdiff export RUN --weights last.pt")
    return verdict


def _same_folds(source: Path, data: Path, config: DataConfig) -> Dataset:
    """A data set in the folds that a run was started with."""
    started = Started.read(source if source.is_dir() else source.parent)
    dataset = load_sources([TrainingSource(data)], config, patients=None if started is None else started.patients)
    return dataset if started is None or started.folds is None else dataset.refolded(started.folds)


def check_same_data(checkpoint: Checkpoint, dataset: Dataset) -> None:
    """Refuse a data set in which other patients validate than in the run: the teacher may have trained on them.

    Raises:
        DataError: Naming what differs.
    """
    facts = checkpoint.facts
    _, validating = dataset.fold(facts.fold)
    ours, theirs = tuple(case.name for case in validating), facts.validation_cases
    if dataset.labels != facts.labels or set(ours) != set(theirs):
        raise DataError(
            f"{dataset.name}, fold {facts.fold}: structures {', '.join(dataset.labels)}, validation {', '.join(ours)}",
            f"the run's structures {', '.join(facts.labels)} and validation patients {', '.join(theirs)}",
            "pass the data set that the run was trained on",
        )
