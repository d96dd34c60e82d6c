"""From a case to its record: the machine watched while it runs, the command that repeats it, the files."""

from __future__ import annotations

import datetime
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from verdiff.benchmarks.cases import Findings
from verdiff.benchmarks.environment import describe_machine, library_versions
from verdiff.benchmarks.plots import plot
from verdiff.benchmarks.record import Record
from verdiff.benchmarks.record_page import record_page
from verdiff.benchmarks.watch import Watch
from verdiff.files import Plan, plan_files
from verdiff.page.figures import figures_page
from verdiff.rehearsal import rehearse

DATA_VARIABLE = "VERDIFF_DATA"
PICTURE, PAGE = ".png", ".html"
# The last one says that all are there.
SUFFIXES = (".csv", ".md", PICTURE, ".json")


def recorded(
    case: str,
    work: Callable[[], Findings],
    *,
    command: Callable[[str | None], str],
    settings: Mapping[str, Any],
    output: str | Path | None,
    inputs: Mapping[str, str | Path | None],
    overwrite: bool = False,
    say: Callable[[str], object] = print,
) -> Record:
    """Do the work of a case, say what it found, and write its record.

    Args:
        case: What the record is called.
        work: Runs the case.
        command: Makes the command that repeats the run, given the name of the record's file, or None without one.
        settings: Repeats, warm-up, seed and threads, as the record states them.
        output: A folder for ``CASE.json``, ``.csv``, ``.md`` and ``.png``, or the ``.json`` file, the others beside
            it; an ``.html`` file is the page to look at, beside all of them. None writes nothing.
        inputs: What the case reads, which must not be written over.
        overwrite: Whether files that are not verdiff's may be replaced.
        say: Takes the lines to print.

    Raises:
        OutputError: The record cannot be written, or a place is taken by a file that is not verdiff's.
        VerdiffError: Whatever stopped the work.
    """
    stem = record_stem(case, output)
    read = {name: Path(path) for name, path in inputs.items() if path is not None}
    suffixes = record_suffixes(output)
    plan = None if stem is None else plan_record(stem, read, suffixes=suffixes, overwrite=overwrite)
    times = settings.get("repeats")
    rehearse(
        read,
        [f"measure {case}" + (f", {times} rounds of each rival" if times else "")],
        () if stem is None else [stem.with_name(stem.name + suffix) for suffix in suffixes],
    )
    machine, watch = describe_machine(), Watch()
    outcome = work()
    record = Record(
        case=case,
        command=command(None if stem is None else f"{stem.name}{PAGE if PAGE in suffixes else '.json'}"),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        settings=settings,
        machine=replace(machine, others=watch.others_share()),
        versions=library_versions(),
        outcome=outcome,
    )
    say(record_page(record))
    if stem is not None:
        for path in write_record(record, stem, say, suffixes=suffixes, plan=plan):
            say(f"wrote {path}")
    return record


def plan_record(
    stem: Path,
    inputs: Mapping[str, Path | None] = MappingProxyType({}),
    *,
    suffixes: Sequence[str] = SUFFIXES,
    overwrite: bool = False,
    make: bool = True,
) -> Plan:
    """The files of a record, checked.

    Raises:
        OutputError: The folder cannot be made or written, or a place is taken.
    """
    files = {suffix: stem.with_name(stem.name + suffix) for suffix in suffixes}
    named = {f"record as {suffix}": path for suffix, path in files.items()}
    return plan_files(named, inputs=inputs, overwrite=overwrite, make=make)


def write_record(
    record: Record,
    stem: Path,
    say: Callable[[str], object] = print,
    *,
    suffixes: Sequence[str] = SUFFIXES,
    plan: Plan | None = None,
) -> tuple[Path, ...]:
    """Write ``stem`` as ``.json``, ``.csv``, ``.md`` and, with matplotlib, ``.png``; all of them or none.

    The page to look at is written too where ``suffixes`` has it.

    Raises:
        OutputError: A file cannot be written, or a place is taken by a file that is not verdiff's.
    """
    texts = {".csv": record.to_csv(), ".md": record_page(record), ".json": record.to_json()}
    written = [stem.with_name(stem.name + suffix) for suffix in (PAGE, ".json", ".csv", ".md") if suffix in suffixes]
    with (plan or plan_record(stem, suffixes=suffixes, make=False)).staged() as staged:
        picture = stem.with_name(stem.name + PICTURE)
        drawn = staged.room / picture.name
        try:
            (record.outcome.draw or partial(plot, record))(drawn)
            staged[picture]
            written.append(picture)
        except ImportError:
            say("no plot: matplotlib is not installed (pip install matplotlib)")
        if PAGE in suffixes:
            png = staged[picture].read_bytes() if picture in written else None
            texts = {PAGE: figures_page(record.case, texts[".md"], png), **texts}
        for suffix, text in texts.items():
            staged[stem.with_name(stem.name + suffix)].write_text(text, encoding="utf-8")
    return tuple(written)


def command_line(*words: object, options: Sequence[tuple[str, object]]) -> str:
    """A command as a shell takes it; options that are None are left out, and paths are cut as in :func:`portable`."""
    written = [portable(word) if isinstance(word, Path) else str(word) for word in words]
    for option, value in options:
        if value is not None:
            written += [option, portable(value) if isinstance(value, Path) else str(value)]
    # $VERDIFF_DATA is for the reader's shell to fill in, so it stays unquoted.
    return " ".join(word if word.startswith("$") else shlex.quote(word) for word in written)


def portable(path: str | Path) -> str:
    """A path below ``$VERDIFF_DATA`` in terms of it; the last part of any other path, which means nothing elsewhere."""
    data = os.environ.get(DATA_VARIABLE)
    if data:
        try:
            inside = Path(path).resolve().relative_to(Path(data).resolve())
        except ValueError:
            pass
        else:
            return f"${DATA_VARIABLE}/{inside.as_posix()}"
    return Path(path).name


def record_stem(case: str, output: str | Path | None) -> Path | None:
    """Where the record goes, without suffix; None where there is no output."""
    if output is None:
        return None
    path = Path(output)
    if path.suffix in (".json", PAGE) and not os.path.isdir(path):
        return path.with_suffix("")
    return path / case


def record_suffixes(output: str | Path | None) -> tuple[str, ...]:
    """The files of a record: with the page to look at where that is what the output names."""
    page = output is not None and Path(output).suffix == PAGE and not os.path.isdir(output)
    return (PAGE, *SUFFIXES) if page else SUFFIXES
