"""An earlier record of a table: which of its trainings this queue may take over, and the scores it takes.

A table needs hours, and the machine may be gone in between. What stays is ``table.json``: every training's scores,
configuration, machine and commit, and a fingerprint of the data. A training is taken over where all that decides its
scores is the same; another is refused, never quietly mixed in.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studies.training.folder import (
    CONFIGURATION,
    SITTINGS,
    QueueEntry,
    TableOptions,
    index_of,
    write_configuration,
)
from verdiff.errors import DataError
from verdiff.evaluate.stored import STORED
from verdiff.files import atomic_path
from verdiff.train.config import RunConfig
from verdiff.train.data.cases import INDEX
from verdiff.train.data.layout import DESCRIPTION, FINE_MASKS, IMAGES, MASKS
from verdiff.train.data.splits import SPLITS
from verdiff.train.run_folder import differences

RECORD = "table.json"
TAKEN = "taken.json"
DATA = "data.json"
SHARED = ("fold", "clock", "threads")
"""Options of a queue that all of its trainings share, and that decide their scores."""
MOST_NAMED = 4


Fingerprints = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class RecordedTraining:
    """A training of a record.

    Attributes:
        model: The table's line.
        seed: Its seed.
        minutes: Its budget.
        configuration: The whole configuration.
        scores: What its ``scores.json`` held.
        sittings: What its ``sittings.json`` held.
        origin: The record that it was taken from in its turn; empty where it was trained there.
    """

    model: str
    seed: int
    minutes: float
    configuration: Mapping[str, Any]
    scores: Mapping[str, Any]
    sittings: Sequence[Mapping[str, Any]]
    origin: str = ""


@dataclass(frozen=True)
class TableRecord:
    """A table as it was recorded.

    Attributes:
        name: Name of its folder.
        options: What :meth:`~studies.training.folder.TableOptions.stated` gave.
        data: Data set -> its fingerprints (:func:`fingerprints`).
        trainings: Scored trainings.
    """

    name: str
    options: Mapping[str, Any]
    data: Fingerprints
    trainings: tuple[RecordedTraining, ...]

    def training(self, model: str, seed: int) -> RecordedTraining | None:
        """A training by its line and seed."""
        return next((each for each in self.trainings if (each.model, each.seed) == (model, seed)), None)


def read_record(folder: Path) -> TableRecord:
    """The record in a folder: one of ``docs/results``, or a queue's own.

    Raises:
        DataError: There is none, it is damaged, or an older verdiff wrote it, whose records have no scores in them.
    """
    path = folder / RECORD
    try:
        values = json.loads(path.read_text("utf-8"))
        if "trainings" not in values:
            raise DataError(
                f"{folder.name}/{RECORD} has no scores in it",
                "a record that this version wrote",
                "write it anew where its queue's folder is: give that queue's command again with --minutes 0",
            )
        trainings = tuple(
            RecordedTraining(
                model=str(each["model"]),
                seed=int(each["seed"]),
                minutes=float(each["budget_minutes"]),
                configuration=dict(each["configuration"]),
                scores=dict(each["scores"]),
                sittings=tuple(values["sittings"].get(run, ())),
                origin=str(each.get("taken_from", "")),
            )
            for run, each in values["trainings"].items()
        )
        return TableRecord(folder.absolute().name, dict(values["options"]), dict(values["data"]), trainings)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(
            f"{folder.name}/{RECORD}: {type(error).__name__}: {error}",
            f"the folder of a table's record, with its {RECORD}",
            "correct --with",
        ) from error


def fingerprint(folder: Path) -> str:
    """SHA-256 over the names and bytes of what a data set consists of: images, masks, description and splits.

    Args:
        folder: An nnU-Net raw data set, or a cache.
    """
    if (folder / INDEX).is_file():
        files = [folder / INDEX, *folder.glob("*.npz")]
    else:
        files = [path for part in (IMAGES, MASKS, FINE_MASKS) for path in (folder / part).glob("*") if path.is_file()]
        files += [path for path in (folder / DESCRIPTION, folder / SPLITS) if path.is_file()]
    whole = hashlib.sha256()
    for path in sorted(files, key=lambda path: path.relative_to(folder).as_posix()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(f"{path.relative_to(folder).as_posix()} {digest}\n".encode())
    return whole.hexdigest()


def fingerprints(folder: Path, cache: Path) -> tuple[str, list[str]]:
    """A data set's name, and its fingerprints: of its own files, where they were read, and of the cache made of them.

    Two queues have the same data where they share either: one may have begun with the other's cache.

    Args:
        folder: The data set, or a cache.
        cache: The cache that is trained from; may be the same.
    """
    name = str(index_of(cache)["name"])
    return name, [fingerprint(each) for each in dict.fromkeys((folder.resolve(), cache.resolve()))]


def settle_data(options: TableOptions, output: Path, caches: Sequence[Path]) -> dict[str, list[str]]:
    """Fingerprint the data sets of a queue, and see that they are still those that it was begun with.

    Args:
        options: Options of the queue.
        output: Its folder.
        caches: The cache of each data set.

    Raises:
        DataError: One has changed.
    """
    found = dict(fingerprints(*pair) for pair in zip((options.data, *options.beside), caches, strict=True))
    path = output / DATA
    if path.is_file():
        before = json.loads(path.read_text("utf-8"))
        changed = [name for name, values in found.items() if before.get(name) != values]
        if changed:
            raise DataError(
                f"{', '.join(changed)} is not as it was when {output.name} was begun",
                "the same images, masks and splits in every sitting of a queue",
                "restore the data set, or begin a queue in another folder",
            )
        return found
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    return found


def data_of(output: Path) -> dict[str, list[str]]:
    """What :func:`settle_data` found for a queue's folder."""
    found: dict[str, list[str]] = json.loads((output / DATA).read_text("utf-8"))
    return found


def _same(name: str, ours: Fingerprints, theirs: Fingerprints) -> bool:
    return bool(set(ours[name]) & set(theirs.get(name, ())))


def refuse_other_table(record: TableRecord, options: TableOptions, data: Fingerprints, cases: Sequence[str]) -> None:
    """Refuse a record of another table: other data, fold, cases, clock or threads.

    Args:
        record: The record.
        options: Options of this queue.
        data: Its data sets' fingerprints, that of the scored cases first.
        cases: The cases that it scores.

    Raises:
        DataError: Naming what differs.
    """
    ours = json.loads(json.dumps(options.stated()))
    found = [
        f"{key} = {record.options.get(key)}, here {ours[key]}" for key in SHARED if record.options.get(key) != ours[key]
    ]
    name = next(iter(data))
    if name not in record.data:
        found.append(f"of {', '.join(record.data)}, here {name}")
    elif not _same(name, data, record.data):
        found.append(f"{name} had other images, masks or splits")
    scored = {tuple(sorted(training.scores["cases"])) for training in record.trainings}
    if scored - {tuple(sorted(cases))}:
        found.append(f"{len(next(iter(scored)))} cases scored, here {len(cases)} (--every)")
    if found:
        raise DataError(
            f"the record {record.name} is of another table: {'; '.join(found)}",
            "the same data, fold, scored cases, clock and threads",
            "give the options of the record, or leave out --with and train all of it",
        )


def refuse_other_training(record: TableRecord, training: RecordedTraining, entry: QueueEntry, ours: RunConfig) -> None:
    """Refuse a training of a record that was made otherwise than this queue would make it.

    Raises:
        DataError: Naming what differs.
    """
    theirs = RunConfig.from_dict(dict(training.configuration), f"{record.name}/{RECORD}")
    found = differences(ours, theirs)
    if training.minutes != entry.minutes:
        found.insert(0, f"budget = {entry.minutes:g} minutes (was {training.minutes:g})")
    if found:
        more = f"; and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
        raise DataError(
            f"{entry.model.name}, seed {entry.seed}, of the record {record.name} was trained otherwise: "
            f"{'; '.join(found[:MOST_NAMED])}{more}",
            "the budget and the settings of this queue",
            "give those of the record (--budget, --others, --set), or leave out --with and train it",
        )


def take_over(
    records: Sequence[TableRecord],
    entries: Sequence[QueueEntry],
    configured: Callable[[QueueEntry], RunConfig],
    data: Fingerprints,
    say: Callable[[str], None],
) -> tuple[str, ...]:
    """Put the scores of recorded trainings into the queue's folder; all are checked before any is taken.

    What the queue has begun itself stays its own.

    Args:
        records: Records of the same table.
        entries: The queue.
        configured: What a training would be made with here.
        data: The queue's data sets' fingerprints.
        say: Takes a line of news.

    Returns:
        Names of the trainings' folders.

    Raises:
        DataError: A training was made otherwise, or a record has none of the queue's.
        OutputError: It cannot be written.
    """
    wanted = {(entry.model.name, entry.seed) for entry in entries}
    for record in records:
        if not wanted & {(training.model, training.seed) for training in record.trainings}:
            there = dict.fromkeys(f"{training.model}, seed {training.seed}" for training in record.trainings)
            raise DataError(
                f"the record {record.name} has no training of this queue, only {'; '.join(there) or 'none'}",
                "one that has some of its models and seeds",
                "correct --with, --models or --seed",
            )
    found: list[tuple[QueueEntry, RecordedTraining, TableRecord, RunConfig]] = []
    for entry in entries:
        for record in records:
            training = record.training(entry.model.name, entry.seed)
            if training is None or entry.run.exists():
                continue
            config = configured(entry)
            refuse_other_training(record, training, entry, config)
            lacking = [name for name in data if entry.model.joined and not _same(name, data, record.data)]
            if lacking:
                raise DataError(
                    f"{entry.model.name} of the record {record.name} was trained beside another {', '.join(lacking)}",
                    "the same further data sets",
                    "name them with --beside, or leave out --with and train it",
                )
            found.append((entry, training, record, config))
            break
    for entry, training, record, config in found:
        write_configuration(config, entry.run / CONFIGURATION)
        _write(list(training.sittings), entry.run / SITTINGS)
        _write({"record": training.origin or record.name}, entry.run / TAKEN)
        # Last: with its scores a training is done.
        _write(dict(training.scores), entry.run / STORED)
        say(f"{entry.run.name} taken over from {record.name}")
    return tuple(entry.run.name for entry, *_ in found)


def taken_from(run: Path) -> str:
    """The record that a run's scores were taken from; empty where it was trained here."""
    path = run / TAKEN
    return str(json.loads(path.read_text("utf-8"))["record"]) if path.is_file() else ""


def commit() -> str | None:
    """The commit of the checkout that this module lies in, marked where files differ from it; None outside of one."""
    root = Path(__file__).resolve().parents[2]
    try:
        found = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None


def _write(values: Any, path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n", "utf-8")
