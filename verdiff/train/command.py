"""What ``verdiff train`` does: prepare a cache, or train a run with a progress bar."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from verdiff.errors import DataError
from verdiff.train.config import RunConfig, load_config
from verdiff.train.data.cases import write_cache
from verdiff.train.data.nnunet import load_dataset, read_raw
from verdiff.train.planning import planned
from verdiff.train.trainer import Trainer, slices_of


def prepare(
    config_name: str,
    data: Path,
    output: Path,
    *,
    settings: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> None:
    """Read an nnU-Net raw data set and write it as an ``.npz`` cache that trains without SimpleITK."""
    config = planned(load_config(config_name, settings), data, settings)
    dataset = read_raw(data, config.data, say)
    write_cache(dataset, output)
    say(f"{len(dataset.cases)} cases, {slices_of(list(dataset.cases))} slices -> {output}")


def run(
    config_name: str,
    data: Path,
    output: Path,
    *,
    fold: int = 0,
    folds: int | None = None,
    settings: Sequence[str] = (),
    minutes: float | None = None,
    iterations: int | None = None,
    seed: int | None = None,
    threads: int | None = None,
    resume: bool = False,
    device: str = "auto",
    say: Callable[[str], None] = print,
) -> Path:
    """Train ``config_name`` on ``data`` and return the run's folder. ``None`` leaves the configuration's own value.

    Args:
        config_name: A shipped configuration's name or a TOML file.
        data: An nnU-Net raw data set, or a prepared cache.
        output: The run's folder.
        fold: Whose cases validate.
        folds: Make so many folds by patient instead of those of the data set.
        settings: ``TABLE.KEY=VALUE`` each, in place of what the configuration says.
        minutes: Wall-clock budget.
        iterations: Most iterations.
        seed: Of weights, batches and augmentation.
        threads: CPU threads.
        resume: Go on with the run in ``output``.
        device: ``"auto"`` takes CUDA where there is one.
        say: Takes a line of news.

    Raises:
        DataError: The configuration, the data set or the run to resume is not usable.
        VerdiffError: The loss is no longer finite; the weights from before are kept.
    """
    if threads:
        torch.set_num_threads(threads)
    config = override(load_config(config_name, settings), minutes=minutes, iterations=iterations, seed=seed)
    config = planned(config, data, settings)
    dataset = load_dataset(data, config.data)
    for remark in dataset.remarks:
        say(f"{dataset.name}: {remark}")
    if folds is not None:
        dataset = dataset.refolded(folds)
    trainer = Trainer(config, dataset, fold, output, resume=resume, device=device)
    (output / "config.json").write_text(json.dumps(config.to_dict(), indent=1), "utf-8")
    parts = trainer.net.parameters_by_part()
    sizes = ", ".join(f"{part} {count / 1e6:.2f} M" for part, count in parts.items())
    say(
        f"{config.model_id}: {sizes} parameters; "
        f"{len(trainer.train_cases)} training cases ({slices_of(trainer.train_cases)} slices), "
        f"{len(trainer.val_cases)} for validation; {trainer.device}, {'bf16' if trainer.bf16 else 'fp32'}"
    )
    follow(trainer, say)
    return output


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
        config_name: Has to be ``nnunet``; its settings are nnunetv2's own business.
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


def override(config: RunConfig, **values: float | int | None) -> RunConfig:
    """``config`` with the ``[training]`` values that are not None replaced."""
    given = {key: value for key, value in values.items() if value is not None}
    return dataclasses.replace(config, training=dataclasses.replace(config.training, **given))  # type: ignore[arg-type]


def follow(trainer: Trainer, say: Callable[[str], None]) -> None:
    """Train to the end behind a progress bar; a line a validation."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task("training", total=1.0)
        for state in trainer.train():
            bar.update(task, completed=state.fraction, description=f"iteration {state.iteration}")
            if state.validation is not None:
                by_name = " ".join(
                    f"{name} {score:.4f}"
                    for name, score in zip(trainer.dataset.labels, state.validation.sampled.mean(axis=0), strict=True)
                )
                say(
                    f"iteration {state.iteration}, {state.minutes:.1f} min: Dice prior "
                    f"{state.validation.prior.mean():.4f}, sampled {state.validation.sampled.mean():.4f} ({by_name})"
                )
