"""What ``verdiff data list``, ``convert``, ``check`` and ``split`` do. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from verdiff.commands.requirements import require
from verdiff.errors import SUCCESS, DataError
from verdiff.files import require_folder
from verdiff.rehearsal import rehearse

if TYPE_CHECKING:
    from verdiff.train.data.check import DataReport
    from verdiff.train.data.convert import ConvertOptions
    from verdiff.train.data.splits import FoldOptions


def listing() -> list[str]:
    """A line a data set that can be converted: its name, title, options and licence."""
    from verdiff.train.data.convert import CONVERTERS

    return [
        f"{name:<12} {converter.title} ({converter.licence}); "
        + " ".join(f"--{option}" for option in sorted(converter.options))
        for name, converter in CONVERTERS.items()
    ]


def options(labels: str, contrasts: str | None, *, midline: bool, subset: str | None) -> ConvertOptions:
    """What to make of a download, from the command line's words; ``contrasts`` are joined by commas."""
    from verdiff.train.data.convert import ConvertOptions

    names = tuple(name.strip() for name in (contrasts or "").split(",") if name.strip())
    return ConvertOptions(labels, names, midline, subset)  # type: ignore[arg-type]


def fold_options(folds: int, seed: int, first: Sequence[str] | None) -> FoldOptions:
    """How folds are made, from the command line's words."""
    from verdiff.train.data.splits import FoldOptions

    return FoldOptions(folds, seed, tuple(first or ()))


def convert(
    name: str,
    source: Path,
    output: Path,
    options: ConvertOptions,
    folds: FoldOptions,
    *,
    leave_out_bad: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Make an nnU-Net raw data set from an unpacked public download, and say what was made.

    Raises:
        DataError: See :func:`verdiff.train.data.convert.convert`.
        BackendError: A package the data set needs is missing.
        OutputError: A file cannot be written.
    """
    from verdiff.train.data import convert as room

    converter = room.converter_named(name)
    require(f"data convert {name}", converter.packages, "evaluate")
    written = room.convert(name, source, output, options, folds, leave_out_bad=leave_out_bad, progress=say)
    table = ", ".join(f"{label} {value}" for label, value in written.labels.items())
    say(f"{written.cases} cases in {written.folds} folds by patient -> {output}")
    say(f"labels: {table}")
    for reason in written.left_out.values():
        say(f"left out: {reason}")
    say(f"source: {converter.source}; licence: {converter.licence}")


def split(folder: Path, folds: FoldOptions, *, replace: bool = False, say: Callable[[str], None] = print) -> None:
    """Write ``splits_final.json`` into a raw data set: folds by patient, for training, evaluation and nnU-Net alike.

    Args:
        folder: The data set.
        folds: How many, from which seed, and who is validated on in fold 0.
        replace: Write over folds that are there.
        say: Called with a line a fold.

    Raises:
        DataError: No usable data set, folds are there already, or fewer patients than folds.
        OutputError: The file cannot be written.
    """
    from verdiff.train.data.layout import find_files, patients_of, read_description
    from verdiff.train.data.splits import SPLITS, make_splits, write_splits

    description = read_description(folder)
    patients = patients_of(description, find_files(folder, description.ending).masks)
    if (folder / SPLITS).exists() and not replace:
        raise DataError(
            f"{folder.name} has a {SPLITS}", "a data set without folds", "pass --replace to write over them"
        )
    splits = make_splits(patients, folds.folds, folds.seed, folds.first)
    require_folder(folder)
    rehearse(
        {"data set": folder}, [f"make {len(splits)} folds of {len(set(patients.values()))} patients"], [folder / SPLITS]
    )
    write_splits(folder / SPLITS, splits)
    for number, fold in enumerate(splits):
        say(f"fold {number}: {len(fold['train'])} training and {len(fold['val'])} validation cases")


def check(
    folders: Sequence[Path],
    *,
    patients: str | None = None,
    as_json: bool = False,
    orientation: str | None = None,
    say: Callable[[str], None] = print,
) -> int:
    """Look for everything that is wrong with nnU-Net raw data sets, each alone and together; nothing is changed.

    Args:
        folders: The data sets.
        patients: Pattern of a patient within a case's name, for several data sets.
        as_json: Say the report as JSON; of several data sets a list of reports.
        orientation: What to take where a file leaves its orientation open, as :func:`verdiff.imaging.read_volume`.
        say: Called with each line.

    Returns:
        0, or DataError's exit code when it cannot be trained or scored with.

    Raises:
        DataError: There is no such folder.
    """
    from verdiff.train.data.check import check_dataset
    from verdiff.train.data.check_joint import check_together

    several = len(folders) > 1
    if several:
        reports = check_together(folders, patients=patients, orientation=orientation)
    else:
        reports = [check_dataset(folders[0], orientation=orientation)]
    if as_json:
        told = [report.to_dict() for report in reports]
        say(json.dumps(told if several else told[0], indent=1))
    else:
        for line in [line for report in reports for line in _lines(report)]:
            say(line)
    return SUCCESS if all(report.usable for report in reports) else DataError.exit_code


def _lines(report: DataReport) -> list[str]:
    held = ", ".join(f"{name} in {count}" for name, count in report.cases_with.items())
    lines = [f"{report.name}: {report.cases} cases of {report.patients} patients, {report.folds} folds; {held or '-'}"]
    for finding in report.findings:
        lines += [
            f"{'error' if finding.fatal else 'note'}: {finding.text}",
            f"  expected: {finding.expected}",
            f"  to do: {finding.remedy}",
        ]
    fatal = sum(finding.fatal for finding in report.findings)
    notes = len(report.findings) - fatal
    return [*lines, "nothing wrong was found" if not lines[1:] else f"{fatal} errors, {notes} notes"]
