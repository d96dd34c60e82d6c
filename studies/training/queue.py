"""The queue: one training after another, each to its budget, then its predictions and scores; and on where it stopped.

Nothing is kept of how far the queue is but the runs themselves: a run with ``scores.json`` is done, one with
``last.pt`` goes on from there, and any other begins. So a queue that was killed goes on as one that ran out of time.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from studies.training import folder, page, scoring
from studies.training.folder import CONFIGURATION, SITTINGS, QueueEntry, TableOptions
from studies.training.plans import WALL
from studies.training.table import read_groups
from verdiff.benchmarks.environment import describe_machine
from verdiff.benchmarks.watch import Watch
from verdiff.errors import VerdiffError
from verdiff.files import atomic_path
from verdiff.train import training
from verdiff.train.checkpoint import Checkpoint, read_checkpoint
from verdiff.train.config import DataConfig
from verdiff.train.data.cases import Dataset
from verdiff.train.data.joining import TrainingSource
from verdiff.train.data.loading import load_sources
from verdiff.train.run_folder import owned

LAST = "last.pt"


@dataclass(frozen=True)
class Sitting:
    """How a sitting ended.

    Attributes:
        done: Trainings that are scored.
        all: Trainings of the queue.
        failed: Training -> why it could not go on; the next sitting tries again.
        written: The page's files.
    """

    done: int
    all: int
    failed: dict[str, str]
    written: tuple[Path, ...]


def run(
    options: TableOptions,
    output: Path,
    *,
    minutes: float | None = None,
    groups: Path | None = None,
    say: Callable[[str], None] = print,
) -> Sitting:
    """Go through the queue for some time.

    Args:
        options: What the queue is made from.
        output: Its folder.
        minutes: Minutes of this sitting. A training stops with its weights kept when they are over. None has no end.
        groups: A CSV file ``case,group``, by which the page looks at cases apart.
        say: Takes a line of news.

    Raises:
        DataError: The data cannot be used, or the folder is another queue's or in use.
        InputError: There is no such table or model.
    """
    until = math.inf if minutes is None else time.monotonic() + 60 * minutes
    entries, apart = folder.entries_of(options, output), {} if groups is None else read_groups(groups)
    folder.claim(options, output)
    failed: dict[str, str] = {}
    with owned(output):
        sources = folder.sources_of(options, output, say)
        for number, entry in enumerate(entries, 1):
            if entry.is_scored():
                continue
            if time.monotonic() >= until:
                break
            say(f"{number} of {len(entries)}: {entry.run.name}, {entry.minutes:g} minutes of training")
            try:
                advance(options, entry, sources, until, say)
            except (VerdiffError, RuntimeError, MemoryError) as error:
                # torch says that there is not enough memory by a RuntimeError; the other models may be smaller.
                failed[entry.run.name] = str(error) or type(error).__name__
                say(f"{entry.run.name} left for now: {failed[entry.run.name].splitlines()[0]}")
            if entry.is_scored():
                page.write(options, output, apart)
        written = page.write(options, output, apart)
    done = sum(entry.is_scored() for entry in entries)
    rest = "" if done == len(entries) else "; the same command goes on"
    say(f"{done} of {len(entries)} trainings are done{rest}")
    return Sitting(done, len(entries), failed, written)


def advance(
    options: TableOptions,
    entry: QueueEntry,
    sources: tuple[TrainingSource, ...],
    until: float,
    say: Callable[[str], None],
) -> None:
    """Train to the budget, predict and score, as far as there is time."""
    mine = sources if entry.model.joined else sources[:1]
    checkpoint = read_checkpoint(entry.run / LAST) if (entry.run / LAST).is_file() else None
    dataset = _dataset(options, entry, mine)
    if checkpoint is None or not finished(checkpoint):
        del checkpoint
        with _sitting(entry):
            training.run(
                str(entry.run / CONFIGURATION),
                mine,
                entry.run,
                fold=options.fold,
                minutes=entry.minutes,
                seed=entry.seed,
                threads=options.threads,
                resume=(entry.run / LAST).is_file(),
                until=until,
                clock=time.monotonic if options.clock == WALL else partial(_processor_share_s, options.threads),
                say=say,
            )
        checkpoint = read_checkpoint(entry.run / LAST)
    if finished(checkpoint):
        cases = folder.cases_to_score(options, sources[0])
        scoring.score_run(entry, dataset, checkpoint, cases, until=until, say=say)


def _dataset(options: TableOptions, entry: QueueEntry, sources: tuple[TrainingSource, ...]) -> Dataset:
    """The cases, with the configuration beside the run written where it is not there yet."""
    preparation = folder.preparation_of(sources[0])
    dataset = load_sources(sources, DataConfig(**preparation))
    path = entry.run / CONFIGURATION
    if not path.is_file():
        held = len(dataset.fold(options.fold)[1])
        folder.write_configuration(folder.configured(options, entry, preparation, held), path)
    return dataset


def finished(checkpoint: Checkpoint) -> bool:
    """Whether a run has spent its minutes or iterations, or stopped on its validation loss."""
    budget = checkpoint.config.training
    return bool(
        checkpoint.iteration >= budget.iterations
        or (budget.minutes and checkpoint.minutes >= budget.minutes)
        or (budget.patience and checkpoint.stale >= budget.patience)
    )


@contextmanager
def _sitting(entry: QueueEntry) -> Iterator[None]:
    """Note on which machine a run went on, for how long, and how much of it the machine really gave."""
    machine, watch, began, own = describe_machine(), Watch(), time.monotonic(), _processor_s()
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    try:
        yield
    finally:
        sitting = {
            "began": date,
            "minutes": round((time.monotonic() - began) / 60, 2),
            "processor_minutes": round((_processor_s() - own) / 60, 2),
            "others": watch.others_share(),
            "machine": {**machine.to_dict(), "gpu": _gpu()},
        }
        path = entry.run / SITTINGS
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps([*folder.sittings_of(entry.run), sitting], indent=1) + "\n", "utf-8")


def _processor_share_s(threads: int) -> float:
    """Seconds of the processor a thread: on a machine at rest those of the clock, and on a busy one the same work."""
    return time.process_time() / threads


def _processor_s() -> float:
    return sum(os.times()[:2])


def _gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
