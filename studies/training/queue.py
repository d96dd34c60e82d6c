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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from studies.training import folder, page, real_nnunet, record, scoring
from studies.training.folder import CONFIGURATION, SITTINGS, QueueEntry, TableOptions
from studies.training.plans import WALL
from studies.training.table import read_groups
from verdiff.benchmarks.environment import describe_machine
from verdiff.benchmarks.watch import Watch
from verdiff.errors import DataError, VerdiffError
from verdiff.files import atomic_path
from verdiff.train import training
from verdiff.train.checkpoint import Checkpoint, read_checkpoint
from verdiff.train.config import DataConfig, RunConfig, load_config
from verdiff.train.data.cases import Dataset
from verdiff.train.data.joining import TrainingSource
from verdiff.train.data.loading import load_sources
from verdiff.train.run_folder import differences, owned

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
    records: Sequence[Path] = (),
    say: Callable[[str], None] = print,
) -> Sitting:
    """Go through the queue for some time.

    Args:
        options: What the queue is made from.
        output: Its folder.
        minutes: Minutes of this sitting. A training stops with its weights kept when they are over. None has no end.
        groups: A CSV file ``case,group``, by which the page looks at cases apart.
        records: Folders of earlier records of this table, whose trainings are not done again.
        say: Takes a line of news.

    Raises:
        DataError: The data cannot be used, the folder is another queue's or in use, or a record is of another table.
        InputError: There is no such table or model.
    """
    until = math.inf if minutes is None else time.monotonic() + 60 * minutes
    entries, apart = folder.entries_of(options, output), {} if groups is None else read_groups(groups)
    earlier = [record.read_record(path) for path in records]
    folder.claim(options, output)
    failed: dict[str, str] = {}
    with owned(output):
        sources = folder.sources_of(options, output, say)
        data = record.settle_data(options, output, [source.folder for source in sources])
        take_over(options, entries, sources, earlier, data, say)
        for number, entry in enumerate(entries, 1):
            if entry.is_scored():
                continue
            if time.monotonic() >= until:
                break
            how = (
                f"sampled from {entry.model.network_of}"
                if entry.model.network_of
                else f"{entry.minutes:g} minutes of training"
            )
            say(f"{number} of {len(entries)}: {entry.run.name}, {how}")
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


def take_over(
    options: TableOptions,
    entries: Sequence[QueueEntry],
    sources: tuple[TrainingSource, ...],
    records: Sequence[record.TableRecord],
    data: record.Fingerprints,
    say: Callable[[str], None],
) -> None:
    """Take the scores of recorded trainings, where all that decides them is the same.

    Raises:
        DataError: A record is of another table, or has a training that was made otherwise.
    """
    cases = folder.cases_to_score(options, sources[0])
    for each in records:
        record.refuse_other_table(each, options, data, cases)
    if records:
        record.take_over(
            records, entries, lambda entry: _configured(options, entry, _source(entry, sources)), data, say
        )


def advance(
    options: TableOptions,
    entry: QueueEntry,
    sources: tuple[TrainingSource, ...],
    until: float,
    say: Callable[[str], None],
) -> None:
    """Train to the budget, predict and score, as far as there is time."""
    mine = _source(entry, sources)
    cases = folder.cases_to_score(options, sources[0])
    if entry.model.real:
        memory_gb = load_config(entry.model.configuration, options.settings_of(entry.model)).network.memory_gb
        dataset = _dataset(options, entry, mine)
        real_nnunet.advance(options, entry, dataset, cases, memory_gb, sitting_of, until=until, say=say)
        return
    if entry.model.network_of:
        _sample(options, entry, mine, cases, until, say)
        return
    checkpoint = read_checkpoint(entry.run / LAST) if (entry.run / LAST).is_file() else None
    dataset = _dataset(options, entry, mine)
    if checkpoint is None or not finished(checkpoint):
        del checkpoint
        with sitting_of(entry.run):
            training.run(
                str(entry.run / CONFIGURATION),
                [mine],
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
        scoring.score_run(entry, dataset, checkpoint, cases, until=until, say=say)


def _sample(
    options: TableOptions,
    entry: QueueEntry,
    source: TrainingSource,
    cases: Sequence[str],
    until: float,
    say: Callable[[str], None],
) -> None:
    """Predict and score with another line's network and this line's ``[sampling]``.

    Raises:
        DataError: That line's weights are not here, or more than the sampling differs.
    """
    whose = entry.model.network_of
    trained = next(
        each
        for each in folder.entries_of(options, entry.run.parent)
        if (each.model.name, each.seed) == (whose, entry.seed)
    )
    checkpoint = read_checkpoint(trained.run / LAST) if (trained.run / LAST).is_file() else None
    if checkpoint is None or not finished(checkpoint):
        taken = record.taken_from(trained.run)
        raise DataError(
            f"the weights of {whose} are not {'in the record ' + taken if taken else 'trained yet'}",
            "a trained network to sample",
            "give the same command again" if not taken else f"take no {whose} from that record, or its samplings too",
        )
    dataset = _dataset(options, entry, source)
    config = load_config(entry.run / CONFIGURATION)
    other = [text for text in differences(config, checkpoint.config) if not text.startswith("sampling.")]
    if other:
        raise DataError(
            f"{entry.model.name} differs from {whose} in {'; '.join(other)}",
            "another sampling alone",
            f"set it for both: --set {whose!r}:TABLE.KEY=VALUE",
        )
    with sitting_of(entry.run):
        sampled = replace(checkpoint, config=config)
        scoring.score_run(entry, dataset, sampled, cases, trained=trained.run, until=until, say=say)


def _source(entry: QueueEntry, sources: tuple[TrainingSource, ...]) -> TrainingSource:
    """What a training trains from."""
    return folder.joined_source(sources, entry.run.parent) if entry.model.joined else sources[0]


def _configured(options: TableOptions, entry: QueueEntry, source: TrainingSource) -> RunConfig:
    held = len(folder.put_aside(options, source))
    return folder.configured(options, entry, folder.preparation_of(source), held)


def _dataset(options: TableOptions, entry: QueueEntry, source: TrainingSource) -> Dataset:
    """The cases, with the configuration beside the run written where it is not there yet."""
    path = entry.run / CONFIGURATION
    if not path.is_file():
        folder.write_configuration(_configured(options, entry, source), path)
    return load_sources([source], DataConfig(**folder.preparation_of(source)))


def finished(checkpoint: Checkpoint) -> bool:
    """Whether a run has spent its minutes or iterations, or stopped on its validation loss."""
    budget = checkpoint.config.training
    return bool(
        checkpoint.iteration >= budget.iterations
        or (budget.minutes and checkpoint.minutes >= budget.minutes)
        or (budget.patience and checkpoint.stale >= budget.patience and not checkpoint.waits_for_denoiser)
    )


@contextmanager
def sitting_of(run: Path) -> Iterator[None]:
    """Note on which machine and commit a run went on, for how long, and how much of it the machine really gave."""
    machine, watch, began, own = describe_machine(), Watch(), time.monotonic(), _processor_s()
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    # Now: the checkout may be another one when a long training ends.
    commit = record.commit()
    try:
        yield
    finally:
        sitting = {
            "began": date,
            "minutes": round((time.monotonic() - began) / 60, 2),
            "processor_minutes": round((_processor_s() - own) / 60, 2),
            "others": watch.others_share(),
            "machine": {**machine.to_dict(), "gpu": _gpu()},
            "commit": commit,
        }
        path = run / SITTINGS
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps([*folder.sittings_of(run), sitting], indent=1) + "\n", "utf-8")


def _processor_share_s(threads: int) -> float:
    """Seconds of the processor a thread: on a machine at rest those of the clock, and on a busy one the same work."""
    return time.process_time() / threads


def _processor_s() -> float:
    """Seconds of the processor, those of processes that were waited for included."""
    return sum(os.times()[:4])


def _gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
