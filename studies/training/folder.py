"""What lies where in a table's folder: the queue's options, one cache, and a run's folder for each model and seed.

``study.json`` says what the queue was made from, so that the same command goes on with it and another is refused.
``cache`` holds the prepared data set, from which every model is trained, and ``joined`` the same with the further data
sets, for the models that are trained on those too. A run's folder is one of ``verdiff train``, and has
``configuration.toml``, ``predictions`` and ``scores.json`` beside what that leaves.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studies.training.plans import PLANS, WALL, TableModel, TablePlan
from verdiff.errors import DataError, InputError
from verdiff.evaluate.stored import STORED
from verdiff.files import atomic_path, require_folder
from verdiff.train import training
from verdiff.train.config import DataConfig, RunConfig, load_config
from verdiff.train.data.cases import INDEX, write_cache
from verdiff.train.data.joining import TrainingSource, join
from verdiff.train.data.layout import read_description
from verdiff.train.data.nnunet import load_dataset

STUDY, CACHE, JOINED = "study.json", "cache", "joined"
CONFIGURATION, PREDICTIONS, SITTINGS = "configuration.toml", "predictions", "sittings.json"
FILMS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
FILM = ("data.modality=XR", "data.view=film", "data.spacing_mm=1.0", "data.soft_masks=false")
"""Films have no millimetres: they keep their pixels."""
MOST_VALIDATED = 12
"""Cases that a validation looks at, so that it does not take the budget of the training."""


@dataclass(frozen=True)
class TableOptions:
    """What a queue is made from; all of it stands in ``study.json`` and on the page.

    Attributes:
        study: A key of :data:`~studies.training.plans.PLANS`.
        data: An nnU-Net raw data set, or a cache of ``verdiff train --prepare``.
        beside: Further data sets, for the models that are trained on those too.
        fold: Whose validation cases are scored.
        budget: Minutes of training of each main model.
        others: Minutes of each other model.
        seeds: How many seeds each model is trained with, ``seed`` the first.
        seed: See there.
        threads: CPU threads.
        clock: What the budgets are minutes of: :data:`~studies.training.plans.WALL` or ``PROCESSOR``.
        every: Every how-manieth validation case is scored.
        models: Their names, in the order of training; none: all of the plan.
        settings: ``TABLE.KEY=VALUE`` for every model, or ``MODEL:TABLE.KEY=VALUE`` for one.
    """

    study: str
    data: Path
    beside: tuple[Path, ...] = ()
    fold: int = 0
    budget: float = 45.0
    others: float = 15.0
    seeds: int = 1
    seed: int = 35
    threads: int = 1
    clock: str = WALL
    every: int = 1
    models: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()

    @property
    def plan(self) -> TablePlan:
        """The table.

        Raises:
            InputError: There is no such table.
        """
        if self.study not in PLANS:
            raise InputError(f"the table {self.study!r}", "one of " + ", ".join(PLANS), "choose one of them")
        return PLANS[self.study]

    def settings_of(self, model: TableModel) -> list[str]:
        """What is set for a model, in the order in which later settings win."""
        found = list(model.settings)
        for text in self.settings:
            name, colon, setting = text.partition(":")
            if not colon or "=" in name:
                found.append(text)
            elif name in (model.name, model.network_of):
                found.append(setting)
        return found

    def stated(self) -> dict[str, Any]:
        """Plain values; of paths the last part, since a folder may be moved."""
        values = dataclasses.asdict(self)
        return {**values, "data": self.data.absolute().name, "beside": [path.absolute().name for path in self.beside]}


@dataclass(frozen=True)
class QueueEntry:
    """One training of the queue.

    Attributes:
        model: The table's line.
        seed: Seed of weights, batches and augmentation.
        minutes: Its budget.
        run: Its folder.
    """

    model: TableModel
    seed: int
    minutes: float
    run: Path

    def is_scored(self) -> bool:
        """Whether nothing is left to do."""
        return (self.run / STORED).is_file()


def entries_of(options: TableOptions, output: Path) -> tuple[QueueEntry, ...]:
    """The queue: every model with the first seed before any with the second.

    Raises:
        InputError: There is no such table or model.
    """
    plan = options.plan
    models = plan.chosen(options.models, joined=bool(options.beside))
    for text in options.settings:
        name, colon, _ = text.partition(":")
        if colon and "=" not in name and name not in [model.name for model in models]:
            raise InputError(f"--set {text}", "one of " + ", ".join(m.name for m in models), "correct the model")
    return tuple(
        QueueEntry(
            model,
            seed,
            options.budget if model.main else options.others,
            output / (model.folder if options.seeds == 1 else f"{model.folder}-seed{seed}"),
        )
        for seed in range(options.seed, options.seed + options.seeds)
        for model in models
    )


def sittings_of(run: Path) -> list[dict[str, Any]]:
    """Time, place and length of each sitting of a run; a sitting that was killed has left nothing."""
    path = run / SITTINGS
    found: list[dict[str, Any]] = json.loads(path.read_text("utf-8")) if path.is_file() else []
    return found


def claim(options: TableOptions, output: Path) -> None:
    """Make the folder this queue's, or see that it is.

    Raises:
        DataError: It is another queue's, or has no ``study.json`` and holds something.
    """
    path, ours = output / STUDY, json.loads(json.dumps(options.stated()))
    if path.is_file():
        try:
            theirs = dict(json.loads(path.read_text("utf-8")))
        except (OSError, ValueError) as error:
            raise DataError(
                f"{output.name}/{STUDY}: {error}", "what a queue was begun with", "choose a new folder"
            ) from error
        other = [f"{key} = {ours[key]} (was {theirs.get(key)})" for key in ours if theirs.get(key) != ours[key]]
        if other:
            raise DataError(
                f"{output.name} is the folder of another queue: {'; '.join(other)}",
                "the options that it was begun with; --minutes may change",
                "repeat them, or choose another folder",
            )
        return
    if output.is_dir() and any(output.iterdir()):
        raise DataError(
            f"{output.name} holds something, and no {STUDY}", "a new or empty folder", "choose another folder"
        )
    output.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(ours, indent=1) + "\n", "utf-8")


def sources_of(options: TableOptions, output: Path, say: Callable[[str], None]) -> tuple[TrainingSource, ...]:
    """The caches to train from, the data set's first; each is prepared once.

    Raises:
        DataError: A data set cannot be used, or a cache was prepared with other settings than the first.
    """
    found = []
    for number, folder in enumerate((options.data, *options.beside)):
        if (folder / INDEX).is_file():
            found.append(TrainingSource(folder))
            continue
        cache = output / (CACHE if number == 0 else f"{CACHE}-{folder.absolute().name}")
        if not (cache / INDEX).is_file():
            film = FILM if read_description(folder).ending in FILMS else ()
            given = [text for text in options.settings if text.startswith("data.")]
            training.prepare(options.plan.data, [TrainingSource(folder)], cache, settings=[*film, *given], say=say)
        found.append(TrainingSource(cache))
    return tuple(found)


def preparation_of(cache: TrainingSource) -> dict[str, Any]:
    """The ``[data]`` settings that a cache was prepared with."""
    return dict(index_of(cache.folder)["preparation"])


def joined_source(sources: Sequence[TrainingSource], output: Path) -> TrainingSource:
    """The cache of all data sets as one, which is prepared once.

    The folds of the first data set are the table's, whoever made them: its patients validate here as in every other
    line, so none of those that are scored is trained on.

    Args:
        sources: The caches, the data set's first.
        output: The queue's folder.

    Raises:
        DataError: They cannot be joined.
    """
    cache = output / JOINED
    if not (cache / INDEX).is_file():
        config = DataConfig(**preparation_of(sources[0]))
        first, *others = [load_dataset(source.folder, config) for source in sources]
        parts = [dataclasses.replace(first, stated_splits=True), *others]
        joint = join([(part, source.weight) for part, source in zip(parts, sources, strict=True)])
        require_folder(cache, make=True)
        write_cache(joint, cache)
    return TrainingSource(cache)


def put_aside(options: TableOptions, cache: TrainingSource) -> list[str]:
    """Names of the cases that the fold puts aside."""
    return list(index_of(cache.folder)["splits"][options.fold]["val"])


def cases_to_score(options: TableOptions, cache: TrainingSource) -> list[str]:
    """Names of the fold's validation cases that every model is scored on; those of the first data set alone."""
    return put_aside(options, cache)[:: options.every]


def index_of(cache: Path) -> dict[str, Any]:
    """What a cache says of itself, without its images."""
    values: dict[str, Any] = json.loads((cache / INDEX).read_text("utf-8"))
    return values


def configured(
    options: TableOptions, entry: QueueEntry, preparation: Mapping[str, Any], validation_cases: int
) -> RunConfig:
    """The configuration of one training: the model's own but for data, budget and seed, which all share.

    Args:
        options: Options of the queue.
        entry: The training.
        preparation: The ``[data]`` settings of the cache.
        validation_cases: How many cases the fold puts aside.
    """
    settings = [text for text in options.settings_of(entry.model) if not text.startswith("data.")]
    config = load_config(entry.model.configuration, settings)
    validated = 1 if _named("training.validate_cases", settings) else -(-validation_cases // MOST_VALIDATED)
    return dataclasses.replace(
        config,
        data=dataclasses.replace(DataConfig(**preparation), middle_slices=config.data.middle_slices),
        training=dataclasses.replace(
            config.training,
            minutes=entry.minutes,
            seed=entry.seed,
            validate_cases=max(config.training.validate_cases, validated),
        ),
    )


def write_configuration(config: RunConfig, path: Path) -> None:
    """A configuration as the TOML file that ``verdiff train`` reads; what is None stands in no TOML and is left out.

    Raises:
        DataError: A value would not come back as it is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lines, tables = [], []
    for key, value in config.to_dict().items():
        if isinstance(value, dict):
            there = {name: one for name, one in value.items() if one is not None}
            tables += ["", f"[{key}]", *(f"{name} = {json.dumps(one)}" for name, one in there.items())]
        else:
            lines.append(f"{key} = {json.dumps(value)}")
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join([*lines, *tables]) + "\n", "utf-8")
        if load_config(temporary) != config:
            raise DataError(f"{config.model_id} does not come back from TOML", "the same values", "set others")


def _named(key: str, settings: Sequence[str]) -> bool:
    return any(text.partition("=")[0].strip() == key for text in settings)
