"""The command ``verdiff bench`` without its parsing: run a case, say what it found, write the record."""

from __future__ import annotations

import datetime
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from verdiff.benchmarks.cases import CASES, Options, run_case
from verdiff.benchmarks.compare import compare_records
from verdiff.benchmarks.machine import describe_machine, library_versions
from verdiff.benchmarks.plots import plot
from verdiff.benchmarks.record import Record
from verdiff.benchmarks.record_page import record_page
from verdiff.benchmarks.watch import Watch
from verdiff.errors import REGRESSION, SUCCESS, InputError
from verdiff.files import Plan, plan_files
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
    overwrite: bool = False,
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
        overwrite: Whether files that are not verdiff's may be replaced.
        say: Takes the lines to print.

    Returns:
        The record; None for ``"list"``.

    Raises:
        InputError: There is no such case, or it needs an option that is missing.
        BundleError: The model cannot be opened.
        BackendError: Nothing that could be timed is installed.
        OutputError: The record cannot be written, or a place is taken by a file that is not verdiff's.
    """
    if case == "list":
        for name, what in CASES.items():
            say(f"{name:<20} {what}")
        return None
    stem = _stem(case, output)
    read = {"scan": scan, "reference": reference, "model": model, "run": training_run, "data set": data}
    inputs = {name: Path(path) for name, path in read.items() if path is not None}
    plan = None if stem is None else plan_record(stem, inputs, overwrite=overwrite)
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
        for path in write_record(record, stem, say, plan=plan):
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


def plan_record(
    stem: Path, inputs: Mapping[str, Path | None] = MappingProxyType({}), *, overwrite: bool = False, make: bool = True
) -> Plan:
    """The files of a record, checked.

    Raises:
        OutputError: The folder cannot be made or written, or a place is taken.
    """
    files = {suffix: stem.with_name(stem.name + suffix) for suffix in (".csv", ".md", ".png", ".json")}
    named = {f"record as {suffix}": path for suffix, path in files.items()}
    return plan_files(named, inputs=inputs, overwrite=overwrite, make=make)


def write_record(
    record: Record, stem: Path, say: Callable[[str], object] = print, *, plan: Plan | None = None
) -> tuple[Path, ...]:
    """Write ``stem`` as ``.json``, ``.csv``, ``.md`` and, with matplotlib, ``.png``; all of them or none.

    Raises:
        OutputError: A file cannot be written, or a place is taken by a file that is not verdiff's.
    """
    texts = {".csv": record.to_csv(), ".md": record_page(record), ".json": record.to_json()}
    written = [stem.with_name(stem.name + suffix) for suffix in (".json", ".csv", ".md")]
    with (plan or plan_record(stem, make=False)).staged() as staged:
        picture = stem.with_name(stem.name + ".png")
        drawn = staged.room / picture.name
        try:
            (record.outcome.draw or partial(plot, record))(drawn)
            staged[picture]
            written.append(picture)
        except ImportError:
            say("no plot: matplotlib is not installed (pip install matplotlib)")
        for suffix, text in texts.items():
            staged[stem.with_name(stem.name + suffix)].write_text(text, encoding="utf-8")
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
    """Where the record goes, without suffix."""
    if output is None:
        return None
    path = Path(output)
    if path.suffix == ".json" and not os.path.isdir(path):
        return path.with_suffix("")
    return path / case
