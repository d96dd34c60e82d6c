"""What ``verdiff train`` does: prepare a cache, or train a run with a progress bar."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch

from verdiff.errors import DataError
from verdiff.files import require_folder
from verdiff.progress import doing, done
from verdiff.rehearsal import is_rehearsal, rehearse
from verdiff.train.checkpoint import checkpoint_to_resume
from verdiff.train.config import RunConfig, changed_config, load_config
from verdiff.train.data.cases import cache_files, slices_of, write_cache
from verdiff.train.data.joining import TrainingSource
from verdiff.train.data.loading import load_sources, look_at_sources
from verdiff.train.first_weights import kind_from
from verdiff.train.planning import planned
from verdiff.train.ranks import ALONE, Ranks
from verdiff.train.run_folder import Started, keeping_budget, owned, remove_empty
from verdiff.train.run_kind import TRAINING
from verdiff.train.stopping import stopping
from verdiff.train.trainer import Trainer


def prepare(
    config_name: str,
    sources: Sequence[TrainingSource],
    output: Path,
    *,
    patients: str | None = None,
    settings: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> None:
    """Read nnU-Net raw data sets and write them as one ``.npz`` cache that trains without SimpleITK."""
    cache_files(output)
    require_folder(output, make=True)
    _require_folders(sources)
    config = _planned(load_config(config_name, settings), sources, settings)
    if is_rehearsal():
        look_at_sources(sources)
    _rehearse(sources, config, output, "prepare every slice")
    dataset = load_sources(sources, config.data, patients=patients, progress=say)
    write_cache(dataset, output)
    say(f"{len(dataset.cases)} cases, {slices_of(list(dataset.cases))} slices -> {output}")


def run(
    config_name: str | None,
    sources: Sequence[TrainingSource],
    output: Path,
    *,
    fold: int | None = None,
    folds: int | None = None,
    patients: str | None = None,
    settings: Sequence[str] = (),
    minutes: float | None = None,
    seed: int | None = None,
    threads: int | None = None,
    origins: Sequence[str | Path] = (),
    resume: bool = False,
    until: float = math.inf,
    clock: Callable[[], float] = time.monotonic,
    ranks: Ranks = ALONE,
    say: Callable[[str], None] = print,
) -> Path:
    """Train ``config_name`` on data sets and return the run's folder. ``None`` leaves the configuration's own value.

    Args:
        config_name: A shipped configuration's name or a TOML file; with ``resume`` None is the run's own.
        sources: nnU-Net raw data sets, or prepared caches, with their weights; with ``resume`` none are the run's own.
        output: The run's folder.
        fold: Whose cases validate; None is 0, with ``resume`` the run's own.
        folds: Make so many folds by patient instead of those of the data set.
        patients: Pattern of a patient within a case's name.
        settings: ``TABLE.KEY=VALUE`` each, in place of what the configuration says.
        minutes: Wall-clock budget; 0 learns nothing: the first weights are validated and kept.
        seed: Seed of weights, batches and augmentation.
        threads: CPU threads.
        origins: What has the first weights: the folder of a run of the same network or a checkpoint in one, a bundle,
            or a shipped model's name. Of several the mean is taken.
        resume: Go on with the run in ``output``.
        until: Time to stop with the weights kept, as :func:`time.monotonic` has it; ``resume`` goes on from there.
        clock: Seconds, by which the budget of minutes is counted.
        ranks: Place of this process among those that train together; the first one alone writes and says anything.
        say: Takes a line of news.

    Raises:
        DataError: The configuration, the data set or the run to resume is not usable.
        OutputError: The run's folder cannot be made or written.
        VerdiffError: The loss is no longer finite; the weights from before are kept.
    """
    if threads:
        torch.set_num_threads(threads)
    if resume and origins:
        raise DataError(
            f"first weights from {', '.join(map(str, origins))} for a run that goes on",
            "a run's own weights where it is resumed",
            "leave out --from, or begin another run with it",
        )
    say = say if ranks.first else _nothing
    started = Started.read(output) if resume else None
    if started is not None:
        sources = sources or started.sources
        fold = started.fold if fold is None else fold
        folds, patients = folds or started.folds, patients or started.patients
    _require_named(config_name, sources, output, resume=resume)
    if config_name is None:
        config = changed_config(checkpoint_to_resume(output).config, settings)
    else:
        config = _planned(load_config(config_name, settings), sources, settings)
    if resume and config_name is not None:
        config = keeping_budget(config, checkpoint_to_resume(output).config, settings)
    config = override(config, minutes=minutes, seed=seed)
    require_folder(output, make=True)
    _require_folders(sources)
    dataset = load_sources(sources, config.data, patients=patients)
    for remark in dataset.remarks:
        say(remark if len(sources) > 1 else f"{dataset.name}: {remark}")
    if folds is not None:
        dataset = dataset.refolded(folds)
    kind = kind_from(origins, config, dataset, fold or 0) if origins else TRAINING
    if seen := kind.origin.get("trained_on"):
        say(f"--from was trained on {', '.join(seen)}: these validate, but their Dice is of no held-out patient")
    if is_rehearsal():
        Trainer(config, dataset, fold or 0, output, kind=kind, resume=resume, ranks=ranks, writes=False)
    _rehearse(sources, config, output, f"train {config.model_id}" + (" on from where it stopped" if resume else ""))
    there = output.exists()
    with owned(output) if ranks.first else nullcontext():
        try:
            trainer = Trainer(config, dataset, fold or 0, output, kind=kind, resume=resume, clock=clock, ranks=ranks)
        except BaseException:
            if ranks.first and not there:
                remove_empty(output)
            raise
        if ranks.first:
            Started(tuple(sources), fold or 0, folds, patients).write(output)
            (output / "config.json").write_text(json.dumps(config.to_dict(), indent=1), "utf-8")
        _announce(trainer, say)
        follow(trainer, say, until)
    return output


def _nothing(line: str) -> None:
    """Say nothing: the first process speaks for all."""


def _require_folders(sources: Sequence[TrainingSource]) -> None:
    for source in sources:
        if not source.folder.is_dir():
            raise DataError(f"there is no folder {source.folder}", "an nnU-Net raw data set or a cache", "check --data")


def _rehearse(sources: Sequence[TrainingSource], config: RunConfig, output: Path, work: str) -> None:
    training = config.training
    limits = {"iterations": training.iterations, "minutes": training.minutes}
    budget = " and ".join(f"{limit:g} {what}" for what, limit in limits.items() if limit is not None)
    rehearse(
        {"data": ", ".join(str(source.folder) for source in sources), "configuration": config.model_id},
        [work if work.startswith("prepare") else f"{work}: at most {budget}"],
        [output],
    )


def _require_named(name: str | None, sources: Sequence[TrainingSource], output: Path, *, resume: bool) -> None:
    lacking = [what for what, given in (("a configuration", name), ("--data", sources)) if not given]
    if lacking and not (resume and sources):
        raise DataError(
            f"no {' and no '.join(lacking)}" + (f", and none on record in {output.name}" if resume else ""),
            "a configuration's name and a data set"
            + (", which a run of an older verdiff does not remember" if resume else ""),
            "write verdiff train CONFIG --data FOLDER -o RUN" + (" --resume" if resume else ""),
        )


def _announce(trainer: Trainer, say: Callable[[str], None]) -> None:
    config = trainer.config
    parts = trainer.net.parameters_by_part()
    sizes = ", ".join(f"{part} {count / 1e6:.2f} M" for part, count in parts.items())
    say(
        f"{config.model_id}: {sizes} parameters; "
        f"{len(trainer.train_cases)} training cases ({slices_of(trainer.train_cases)} slices), "
        f"{len(trainer.val_cases)} for validation; {trainer.device}, {'bf16' if trainer.bf16 else 'fp32'}"
        + (f"; goes on at iteration {trainer.iteration}" if trainer.iteration else "")
    )


def run_nnunetv2(
    config_name: str,
    data: Path,
    output: Path,
    *,
    fold: int,
    folds: int | None = None,
    resume: bool,
    refused: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> None:
    """Train the real nnU-Net, with its own planner and trainer, on the fold that the other systems are trained on.

    Args:
        config_name: Name of the configuration, which must be ``nnunet``; its settings are nnunetv2's own business.
        data: An nnU-Net raw data set.
        output: Where its plan, weights and predictions go.
        fold: Whose cases validate.
        folds: Make so many folds by patient instead of those of the data set.
        resume: Go on with what is in ``output``.
        refused: Options that were given and mean nothing to it.
        say: Takes a line of news.

    Raises:
        DataError: Another system, or an option that nnunetv2 does not take.
        BackendError: nnunetv2 is not installed.
    """
    from verdiff.train.nnunetv2_adapter import run as train

    if config_name != "nnunet" or refused:
        raise DataError(
            f"--nnunetv2 with {', '.join([*([] if config_name == 'nnunet' else [config_name]), *refused])}",
            "verdiff train nnunet --nnunetv2 with a data set, an output, and --fold, --folds or --resume if need be",
            "leave out the rest: nnunetv2 plans and trains by itself",
        )
    outcome = train(data, output, fold=fold, folds=folds, resume=resume, say=say)
    say(outcome.evaluate)


def _planned(config: RunConfig, sources: Sequence[TrainingSource], settings: Sequence[str]) -> RunConfig:
    """:func:`planned` for the one data set that such a configuration takes."""
    if getattr(config.network, "planned", False) and len(sources) > 1:
        raise DataError(
            f"{len(sources)} data sets for a network that is planned from its data",
            "one data set",
            "join them in a folder of one layout, or set network.planned=false and the sizes by hand",
        )
    return planned(config, sources[0].folder, settings)


def override(config: RunConfig, **values: float | int | None) -> RunConfig:
    """``config`` with the ``[training]`` values that are not None replaced."""
    given = {key: value for key, value in values.items() if value is not None}
    return dataclasses.replace(config, training=dataclasses.replace(config.training, **given))  # type: ignore[arg-type]


def follow(trainer: Trainer, say: Callable[[str], None], until: float = math.inf) -> None:
    """Train to the end, or ``until`` some moment, telling how far it is; a line a validation.

    Raises:
        KeyboardInterrupt: The run was stopped by Ctrl-C, its weights are in ``last.pt``; SIGTERM then acts as it would.
    """
    dice = ""
    with stopping(trainer.stop) as asked:
        for state in trainer.train():
            if time.monotonic() >= until:
                trainer.stop()
            if state.validation is not None:
                dice = f", Dice {np.nanmean(state.validation.sampled):.4f}"
            doing(f"iteration {state.iteration}, loss {state.loss:.3f}{dice}")
            done(state.fraction)
            if state.stopped:
                say(f"stopped at iteration {state.iteration}; go on with verdiff train --resume -o {trainer.run}")
                break
            if state.validation is not None:
                by_name = " ".join(
                    f"{name} {score:.4f}"
                    for name, score in zip(
                        trainer.dataset.labels, np.nanmean(state.validation.sampled, axis=0), strict=True
                    )
                )
                say(
                    f"iteration {state.iteration}, {state.minutes:.1f} min: Dice prior "
                    f"{np.nanmean(state.validation.prior):.4f}, sampled {np.nanmean(state.validation.sampled):.4f} "
                    f"({by_name})"
                )
    asked.obey()
