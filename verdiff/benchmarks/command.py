"""The command ``verdiff bench`` without its parsing: run a case, say what it found, write the record."""

from __future__ import annotations

import datetime
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from verdiff.benchmarks.cases import CASES, Options, run_case
from verdiff.benchmarks.compare import compare_records
from verdiff.benchmarks.machine import describe_machine, library_versions
from verdiff.benchmarks.plots import plot
from verdiff.benchmarks.record import Record
from verdiff.benchmarks.record_page import record_page
from verdiff.benchmarks.watch import Watch
from verdiff.errors import REGRESSION, SUCCESS, InputError, OutputError
from verdiff.imaging.atomic import atomic_path
from verdiff.runtime.backends import default_threads

DATA_VARIABLE = "VERDIFF_DATA"


def run(
    case: str,
    *,
    output: str | Path | None = None,
    scan: str | Path | None = None,
    reference: str | Path | None = None,
    model: str | Path | None = None,
    training_run: str | Path | None = None,
    data: str | Path | None = None,
    fold: int = 0,
    every: int = 1,
    recipe_slices: int = 1,
    repeats: int = 5,
    warmup: int = 2,
    threads: int | None = None,
    seed: int = 35,
    device: str = "cuda:0",
    say: Callable[[str], object] = print,
) -> Record | None:
    """Run one case and write its record.

    Args:
        case: A key of :data:`verdiff.benchmarks.cases.CASES`; ``"list"`` only names them.
        output: A folder for ``CASE.json``, ``.csv``, ``.md`` and ``.png``, or the ``.json`` file, the others beside
            it. None writes nothing.
        scan: The scan, for the cases ``volume``, ``throughput`` and ``startup``; a folder of them for ``throughput``.
        reference: The expert's mask of it, for the case ``volume``.
        model: A shipped model's name or a bundle; None is the default model.
        data: An nnU-Net raw data set, for the case ``frontier``.
        fold: Which fold's validation cases of it.
        every: Every how-manieth slice of them.
        recipe_slices: Slices, in all, on which the case ``rivals`` really runs the thousand-step recipe.
        training_run: The run behind the bundle: PyTorch then computes with its weights.
        repeats: Timed rounds.
        warmup: Rounds before them.
        threads: CPU threads of each rival; None is every core this process may use.
        seed: Of whatever is drawn.
        device: The GPU, for the case ``gpu``.
        say: Takes the lines to print.

    Returns:
        The record; None for ``"list"``.

    Raises:
        InputError: There is no such case, or it needs an option that is missing.
        BundleError: The model cannot be opened.
        BackendError: Nothing that could be timed is installed.
        OutputError: The record cannot be written.
    """
    if case == "list":
        for name, what in CASES.items():
            say(f"{name:<20} {what}")
        return None
    stem = _stem(case, output)
    options = Options(
        bundle=model,
        scan=None if scan is None else Path(scan),
        reference=None if reference is None else Path(reference),
        training_run=None if training_run is None else Path(training_run),
        data=None if data is None else Path(data),
        fold=fold,
        every=every,
        recipe_slices=recipe_slices,
        repeats=repeats,
        warmup=warmup,
        threads=default_threads() if threads is None else threads,
        seed=seed,
        device=device,
        on_round=lambda number: say(f"round {number} of {repeats}"),
        say=say,
    )
    machine, watch = describe_machine(), Watch()
    outcome = run_case(case, options)
    record = Record(
        case=case,
        command=repeatable_command(case, options, None if stem is None else stem.with_name(stem.name + ".json")),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        settings={"repeats": repeats, "warmup": warmup, "seed": seed, "threads": options.threads},
        machine=replace(machine, others=watch.others_share()),
        versions=library_versions(),
        outcome=outcome,
    )
    say(record_page(record))
    if stem is not None:
        for path in write_record(record, stem, say):
            say(f"wrote {path}")
    return record


def compare(case: str, records: Sequence[Path], *, say: Callable[[str], object] = print) -> int:
    """Compare two records; returns the exit code.

    Raises:
        InputError: There are not two records, or they are none, or of different cases.
    """
    if case != "compare" or len(records) != 2:
        raise InputError(
            f"bench {case} with {len(records)} records",
            "two records to compare, or none",
            "verdiff bench compare BEFORE.json AFTER.json",
        )
    found = compare_records(*records)
    say(found.to_markdown())
    return REGRESSION if found.regressions() else SUCCESS


def write_record(record: Record, stem: Path, say: Callable[[str], object] = print) -> tuple[Path, ...]:
    """Write ``stem`` as ``.json``, ``.csv``, ``.md`` and, with matplotlib, ``.png``; each whole or not at all.

    Raises:
        OutputError: A file cannot be written.
    """
    written = []
    for suffix, text in ((".json", record.to_json()), (".csv", record.to_csv()), (".md", record_page(record))):
        path = stem.with_name(stem.name + suffix)
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        written.append(path)
    try:
        path = stem.with_name(stem.name + ".png")
        with atomic_path(path) as temporary:
            (record.outcome.draw or partial(plot, record))(temporary)
        written.append(path)
    except ImportError:
        say("no plot: matplotlib is not installed (pip install matplotlib)")
    return tuple(written)


def repeatable_command(case: str, options: Options, output: Path | None) -> str:
    """The command line that repeats a run; a path is cut to what means something on another machine."""
    words = ["verdiff", "bench", case]
    for option, path in (
        ("--model", options.bundle),
        ("--scan", options.scan),
        ("--reference", options.reference),
        ("--run", options.training_run),
        ("--data", options.data),
    ):
        if path is not None:
            words += [option, portable(path)]
    if options.data is not None:
        words += ["--fold", str(options.fold), "--every", str(options.every)]
    if case == "scaling":
        words += ["--every", str(options.every)]
    if case == "rivals":
        words += ["--recipe-slices", str(options.recipe_slices)]
    if case == "gpu":
        words += ["--device", options.device]
    words += ["--repeats", str(options.repeats), "--threads", str(options.threads)]
    if output is not None:
        words += ["--output", output.name]
    # $VERDIFF_DATA is for the reader's shell to fill in, so it stays unquoted.
    return " ".join(word if word.startswith("$") else shlex.quote(word) for word in words)


def portable(path: str | Path) -> str:
    """A path below ``$VERDIFF_DATA`` in terms of it; of any other path its last part."""
    data = os.environ.get(DATA_VARIABLE)
    if data:
        try:
            inside = Path(path).resolve().relative_to(Path(data).resolve())
        except ValueError:
            pass
        else:
            return f"${DATA_VARIABLE}/{inside.as_posix()}"
    return Path(path).name


def _stem(case: str, output: str | Path | None) -> Path | None:
    """Where the record goes, without suffix; checked before anything is timed."""
    if output is None:
        return None
    path = Path(output)
    if path.suffix == ".json" and not path.is_dir():
        folder, stem = path.parent, path.with_suffix("")
    else:
        folder, stem = path, path / case
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder}: {error.strerror}", "a folder that can be written", "choose another output"
        ) from error
    return stem
