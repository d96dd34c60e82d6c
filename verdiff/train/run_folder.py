"""A run's folder: its one owner, what the run was started with, and what may differ when it goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from verdiff.errors import DataError
from verdiff.files import atomic_path, require_folder
from verdiff.train.checkpoint import RunFacts
from verdiff.train.config import RunConfig
from verdiff.train.data.joining import TrainingSource

STARTED = "started.json"
LOCK = "run.lock"
# A run may be given more, or less, of these when it goes on.
LIMITS = ("minutes", "iterations")
BUDGETS = tuple((table, key) for table in ("training", "distillation") for key in LIMITS)
_MOST_NAMED = 4


@dataclass(frozen=True)
class Started:
    """What a run was started with beside its configuration, so that resuming it needs nothing typed again.

    Attributes:
        sources: Data sets and weights; their folders are absolute.
        fold: Whose cases validate.
        folds: How many folds were made by patient; None: those of the data set.
        patients: Pattern of a patient within a case's name; None: none was given.
    """

    sources: tuple[TrainingSource, ...]
    fold: int
    folds: int | None
    patients: str | None

    def write(self, run: Path) -> None:
        """Keep it in the run's folder. Raises OutputError when it cannot be written."""
        values = {
            "data": [{"folder": str(source.folder.absolute()), "weight": source.weight} for source in self.sources],
            "fold": self.fold,
            "folds": self.folds,
            "patients": self.patients,
        }
        with atomic_path(run / STARTED) as temporary:
            temporary.write_text(json.dumps(values, indent=1), "utf-8")

    @classmethod
    def read(cls, run: Path) -> Started | None:
        """What a run was started with; None for a run from before this was kept.

        Raises:
            DataError: The file is damaged.
        """
        path = run / STARTED
        if not path.is_file():
            return None
        try:
            values = json.loads(path.read_text("utf-8"))
            sources = tuple(TrainingSource(Path(each["folder"]), float(each["weight"])) for each in values["data"])
            return cls(sources, int(values["fold"]), values["folds"], values["patients"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{run.name}/{STARTED} is damaged ({error})",
                "what the run was started with",
                "remove it, and name the configuration, --data and --fold beside --resume",
            ) from error


@contextmanager
def owned(run: Path) -> Iterator[None]:
    """Keep a run's folder for this process alone: two trainings in one folder would mix their files.

    The lock ends with the process, however that ends; the file that carries it stays.

    Raises:
        DataError: Another process trains in the folder.
        OutputError: It cannot be made or written.
    """
    require_folder(run, make=True)
    run.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows, whose open files are no locks that end with a process
        yield
        return
    with (run / LOCK).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise DataError(
                f"{run.name} is in use by another training ({file.read().strip() or 'process unknown'})",
                "a run's folder of its own",
                "wait for it or stop it, or choose another -o",
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield


def remove_empty(run: Path) -> None:
    """Remove a folder that was made for a run which then was refused; one that holds anything else stays."""
    if {path.name for path in run.iterdir()} <= {LOCK}:
        (run / LOCK).unlink(missing_ok=True)
        run.rmdir()


def keeping_budget(config: RunConfig, started: RunConfig, settings: Sequence[str]) -> RunConfig:
    """``config`` with the budgets of the run to resume, but for those that ``settings`` (TABLE.KEY=VALUE) name."""
    given = {setting.partition("=")[0].strip() for setting in settings}
    kept = {key: getattr(started.training, key) for key in LIMITS if f"training.{key}" not in given}
    return replace(config, training=replace(config.training, **kept))


def differences(ours: RunConfig, theirs: RunConfig) -> list[str]:
    """What a configuration says otherwise than the one a run was started with, budgets left out."""
    now, before = _flat(ours.to_dict()), _flat(theirs.to_dict())
    return [
        f"{'.'.join(key)} = {now.get(key)} (was {before.get(key)})"
        for key in dict.fromkeys([*before, *now])
        if key not in BUDGETS and now.get(key) != before.get(key)
    ]


def _flat(values: Mapping[str, Any], prefix: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    flat: dict[tuple[str, ...], Any] = {}
    for key, value in values.items():
        flat.update(_flat(value, (*prefix, key)) if isinstance(value, dict) else {(*prefix, key): value})
    return flat


def other_data(ours: RunFacts, theirs: RunFacts) -> list[str]:
    """What a data set and its split say otherwise than those a run was started with."""
    found = []
    for name, now, before in (
        ("the data set", ours.dataset, theirs.dataset),
        ("the fold", ours.fold, theirs.fold),
        ("structures and label ids", _labels(ours), _labels(theirs)),
        ("weights of the data sets", _weights(ours), _weights(theirs)),
    ):
        # A checkpoint from before they were kept names no weights.
        if now != before and before != {}:
            found.append(f"{name}: {now} (was {before})")
    if ours.teacher != theirs.teacher:
        found.append(f"the teacher: {ours.teacher} (was {theirs.teacher})")
    found += _cases("validation", ours.validation_cases, theirs.validation_cases)
    # A checkpoint from before they were kept names no training cases.
    if theirs.training_cases:
        found += _cases("training", ours.training_cases, theirs.training_cases)
    return found


def _labels(facts: RunFacts) -> str:
    return ", ".join(f"{name} {value}" for name, value in zip(facts.labels, facts.label_ids, strict=True))


def _weights(facts: RunFacts) -> dict[str, float]:
    return {name: part["weight"] for name, part in facts.parts.items()}


def _cases(side: str, ours: Sequence[str], theirs: Sequence[str]) -> list[str]:
    told = []
    for verb, names in (("more", set(ours) - set(theirs)), ("missing", set(theirs) - set(ours))):
        if names:
            shown = ", ".join(sorted(names)[:_MOST_NAMED]) + (", ..." if len(names) > _MOST_NAMED else "")
            told.append(f"{side} cases {verb}: {shown}")
    return told


def refuse_other(config: RunConfig, facts: RunFacts, started: RunConfig, before: RunFacts) -> None:
    """Refuse to go on with a run under another configuration or on other data; only its budget may change.

    Raises:
        DataError: Naming what differs.
    """
    found = [*differences(config, started), *other_data(facts, before)]
    if found:
        more = f"; and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
        raise DataError(
            f"the run to resume has another configuration, data set or split: {'; '.join(found[:_MOST_NAMED])}{more}",
            "what it was started with; minutes and iterations may change",
            "resume with --resume and -o alone, or start a new run in another folder",
        )
