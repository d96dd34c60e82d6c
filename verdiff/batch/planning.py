"""A batch before anything is computed: what is wrong with its list, what is done already, where its files go."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from verdiff.batch.asked import Asked, named_scan, repeating_command
from verdiff.batch.cases import BatchCase
from verdiff.batch.fingerprint import fingerprint, last_changed
from verdiff.batch.rows import Row, row_of_error, row_of_report
from verdiff.batch.scan import spine_files_of
from verdiff.bundle.names import model_file
from verdiff.errors import InputError, OutputError, VerdiffError
from verdiff.files import Plan, made_by_verdiff, require_folder
from verdiff.files.places import absolute
from verdiff.imaging.reading import FILM_SUFFIXES
from verdiff.runtime.writing import OutputFiles, output_files

SUMMARY = "summary.csv"
_SHOWN = 20


@dataclass(frozen=True)
class BatchTask:
    """One case of a batch.

    Attributes:
        case: The scan.
        name: What its files are called, which no other of the batch is in that folder.
        asked: What is asked for of it.
        output: The folder its files go to, for :func:`verdiff.runtime.writing.output_files`; None is beside the scan.
        files: Where they go, as far as that is known of a scan that was not read.
        replaces: Time of the report that its own is to replace, in ns; None where there was none.
    """

    case: BatchCase
    name: str
    asked: Asked
    output: str | None
    files: OutputFiles
    replaces: int | None = None


@dataclass(frozen=True)
class Batch:
    """Several scans, looked at.

    Attributes:
        folder: Where the summary goes, which no other batch may write into meanwhile.
        to_do: What is to be segmented, in order.
        done: Rows of what an earlier call did, with the same model, options and scan.
        bad: Rows of what is wrong with the list itself: these have no mask, and get none.
        asked: What is asked for of each scan.
    """

    folder: Path
    to_do: tuple[BatchTask, ...]
    done: tuple[Row, ...] = ()
    bad: tuple[Row, ...] = ()
    asked: Asked = field(default_factory=Asked)

    @property
    def summary(self) -> Path:
        """The CSV with a row a case."""
        return self.folder / SUMMARY

    def plan_summary(self) -> Plan:
        """The place of the summary, checked.

        Raises:
            OutputError: It cannot be written, or another file is there.
        """
        return Plan(self.folder, {"summary": self.summary}, {}, self.asked.overwrite)


def plan_batch(
    cases: Sequence[BatchCase],
    output: Path | None,
    asked: Asked,
    *,
    model_sha256: str,
    redo: bool = False,
    leave_out_bad: bool = False,
) -> Batch:
    """Look at every scan and every place of a batch, so that what is wrong with them is told before hours of work.

    A scan that is missing or cannot be opened, is named twice, has another's name, or whose files cannot be
    written is bad. A scan is done where an earlier call left its report, with the same model, the same options and the
    same files, after the scan was last changed; another scan of its name is not.

    Args:
        cases: The scans.
        output: The folder for all files, which is made when it is missing; None puts each scan's files beside it,
            and the summary into the folder that holds all of them.
        asked: What is asked for of each.
        model_sha256: The hash of the model's manifest, which says which model it is.
        redo: Take nothing as done.
        leave_out_bad: Go on without what is bad; else the first is an error, with the others' names.

    Raises:
        InputError: A scan is bad, and not ``leave_out_bad``.
        OutputError: A place is bad, and not ``leave_out_bad``; or the summary cannot be written.
    """
    folder = absolute(output if output is not None else _common([each.scan for each in cases]))
    require_folder(folder, make=output is not None)
    to_do: list[BatchTask] = []
    done: list[Row] = []
    bad: list[tuple[Row, VerdiffError]] = []
    scans = {os.path.realpath(each.scan) for each in cases}
    taken: dict[Path, BatchCase] = {}
    seen: dict[str, BatchCase] = {}
    names = _Names(folder, output is None)
    for case in cases:
        name, files = _files_of(case, output, asked)
        shown = names.of(files, name)
        wanted = asked.of_scan(lowest=case.lowest)
        try:
            _check_scan(case, seen)
            places = _places(files, wanted)
            _check_apart(case, places, taken, scans)
            # What is done keeps its files, also those that somebody corrected since.
            report = None if redo else _report_of(case, files, wanted, model_sha256)
            if report is None:
                _check_places(case, places, wanted, make=output is not None)
        except VerdiffError as error:
            bad.append((row_of_error(shown, str(case.scan), error), error))
            continue
        if report is not None:
            done.append(row_of_report(shown, str(case.scan), report, earlier=True))
        else:
            place = None if output is None else f"{output}{os.sep}"
            to_do.append(BatchTask(case, shown, wanted, place, files, _written(files.report)))
    if bad and not leave_out_bad:
        raise _told(bad)
    batch = Batch(folder, tuple(to_do), tuple(done), tuple(row for row, _ in bad), asked)
    batch.plan_summary().check(batch.summary, "summary")
    return batch


def done_since(task: BatchTask, model_sha256: str) -> dict[str, Any] | None:
    """The report of a task that somebody finished since the batch was planned; None where nobody did."""
    report = _report_of(task.case, task.files, task.asked, model_sha256)
    return None if _written(task.files.report) == task.replaces else report


@dataclass(frozen=True)
class _Names:
    """What a summary calls its cases: their files' name, with their folder where the files of a batch go to several."""

    folder: Path
    beside: bool

    def of(self, files: OutputFiles, name: str) -> str:
        if not self.beside:
            return name
        inner = os.path.relpath(absolute(files.mask.parent), self.folder)
        return name if inner == os.curdir else f"{Path(inner).as_posix()}/{name}"


def _common(scans: Sequence[Path]) -> Path:
    try:
        return Path(os.path.commonpath([absolute(scan, resolve=True).parent for scan in scans]))
    except ValueError as error:
        raise OutputError(
            "scans on several drives, which no one folder holds", "a folder for the summary", "name one with -o FOLDER"
        ) from error


def _files_of(case: BatchCase, output: Path | None, asked: Asked) -> tuple[str, OutputFiles]:
    """The name of a case and its files, if it is a film by its suffix or a volume by any other."""
    scan = named_scan(case.scan)
    files = output_files(
        scan,
        None if output is None else f"{output}{os.sep}",
        name=case.name,
        film=scan.name.lower().endswith(FILM_SUFFIXES),
        uncertainty=asked.uncertainty,
        preview=asked.preview,
        page=asked.page,
        page_each=True,
    )
    return files.name, files


def _check_scan(case: BatchCase, seen: dict[str, BatchCase]) -> None:
    if not os.path.exists(case.scan):
        raise InputError(f"{case.where}there is no file or folder {case.scan}", "a scan to read", "check the path")
    if not os.access(case.scan, os.R_OK | (os.X_OK if case.scan.is_dir() else 0)):
        raise InputError(
            f"{case.where}{case.scan} cannot be opened", "a scan that may be read", "check its permissions"
        )
    if case.scan.is_file() and case.scan.stat().st_size == 0:
        raise InputError(f"{case.where}{case.scan} is empty", "an image", "copy or export the file again")
    other = seen.setdefault(os.path.realpath(case.scan), case)
    if other is not case:
        raise InputError(f"{case} is {other} again", "each scan once", "leave one of them out")


def _places(files: OutputFiles, asked: Asked) -> dict[str, Path]:
    """Every file of a case by what it holds."""
    spine = spine_files_of(files, asked)
    named: Mapping[str, Path | None] = {
        "mask": files.mask,
        "uncertainty map": files.uncertainty,
        "preview": files.preview,
        "page": files.page,
        **({} if spine is None else spine.taken),
        "report": files.report,
    }
    return {what: absolute(path) for what, path in named.items() if path is not None}


def _check_apart(case: BatchCase, places: Mapping[str, Path], taken: dict[Path, BatchCase], scans: set[str]) -> None:
    for what, path in places.items():
        other = taken.setdefault(path, case)
        if other is not case:
            raise InputError(
                f"{case} and {other} would both write {path}",
                "a name of its own for the files of each scan",
                "give them names in a manifest's column 'name', or segment them into two folders",
            )
        if os.path.realpath(path) in scans:
            raise OutputError(
                f"{path}, the place of the {what} of {case}, is a scan of this batch",
                "a place that holds no scan",
                "choose another folder with -o",
            )


def _check_places(case: BatchCase, places: Mapping[str, Path], asked: Asked, *, make: bool) -> None:
    folder = places["mask"].parent
    require_folder(folder, make=make)
    model = model_file(asked.options.model)
    inputs = {"scan": absolute(case.scan), **({} if model is None else {"model": absolute(model)})}
    plan = Plan(folder, places, inputs, asked.overwrite)
    for what, path in places.items():
        plan.check(path, what)


def _report_of(case: BatchCase, files: OutputFiles, asked: Asked, model_sha256: str) -> dict[str, Any] | None:
    """The report of a case that is done: of this scan, with these options, by this model, since it was changed."""
    if not made_by_verdiff(files.report):
        return None
    try:
        report: dict[str, Any] = json.loads(files.report.read_text("utf-8"))
        provenance = report["provenance"]
        same = (
            provenance["command"] == repeating_command(case.scan, asked.options)
            and provenance.get("made") == asked.extras()
            and provenance["model"]["manifest_sha256"] == model_sha256
            and report["outcome"] != "cancelled"
            and all((files.report.parent / name).exists() for name in report["files"].values())
            and last_changed(case.scan) < files.report.stat().st_mtime_ns
            # A scan of that name and grid may be another patient's.
            and provenance["scan"]["fingerprint"] == fingerprint(case.scan)
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return report if same else None


def _written(report: Path) -> int | None:
    try:
        return report.stat().st_mtime_ns
    except OSError:
        return None


def _told(bad: Sequence[tuple[Row, VerdiffError]]) -> VerdiffError:
    """One error for everything that is wrong with a list, of the first one's kind."""
    first = bad[0][1]
    if len(bad) == 1:
        return type(first)(first.found, first.expected, f"{first.remedy}, or pass --leave-out-bad to go on without it")
    lines = [f"  {error.found}" for _, error in bad[:_SHOWN]]
    more = [] if len(bad) <= _SHOWN else [f"  and {len(bad) - _SHOWN} more"]
    return type(first)(
        "\n".join([f"{len(bad)} scans that cannot be done:", *lines, *more]),
        "scans that can be read, each once, and places that can be written",
        "correct the list, or pass --leave-out-bad to go on without them",
    )
