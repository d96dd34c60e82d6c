"""Write a conversion as an nnU-Net raw data set: all of it appears together, or nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from verdiff import __version__
from verdiff.errors import DataError, VerdiffError
from verdiff.files import Staging, atomic_path, require_folder
from verdiff.imaging.volume import Volume
from verdiff.imaging.volume_files import write_array
from verdiff.progress import tracked
from verdiff.rehearsal import rehearse
from verdiff.train.data.convert.conversion import Conversion, Converter, ConvertOptions, Labels, SourceCase, both
from verdiff.train.data.convert.levels import STRUCTURES, LabelMeaning, level_order
from verdiff.train.data.findings import refuse_first
from verdiff.train.data.layout import DESCRIPTION, IMAGES, MASKS, case_findings, class_findings
from verdiff.train.data.splits import SPLITS, FoldOptions, Split, make_splits, write_splits

RECORD = "conversion.json"


@dataclass(frozen=True)
class WrittenDataSet:
    """What a conversion wrote.

    Attributes:
        folder: The raw data set.
        labels: Its label table.
        cases: How many it holds.
        folds: How many folds they were put in.
        left_out: Cases that could not be converted, and why; empty unless leaving them out was asked for.
    """

    folder: Path
    labels: dict[str, int]
    cases: int
    folds: int
    left_out: dict[str, str]


class _Leaving:
    """Cases that cannot be converted: the first ends the conversion, or all are put down with the reason."""

    def __init__(self, allowed: bool) -> None:
        self.allowed, self.reasons = allowed, dict[str, str]()

    def note(self, case: SourceCase, error: VerdiffError) -> None:
        found = error.found if error.found.startswith(f"case {case.name}") else f"case {case.name}: {error.found}"
        if not self.allowed:
            raise DataError(found, error.expected, error.remedy) from error
        self.reasons[case.name] = found


def write_raw(
    converter: Converter,
    conversion: Conversion,
    output: Path,
    options: ConvertOptions,
    folds: FoldOptions,
    *,
    source: Path,
    leave_out_bad: bool = False,
    progress: Callable[[str], None] | None = None,
) -> WrittenDataSet:
    """Write every case, then the splits and the records; interrupted, there is none of them.

    Args:
        converter: Whose conversion it is, for the record.
        conversion: What to write.
        output: The raw data set's folder, made if absent.
        options: How the converter was called.
        folds: How folds are made.
        source: The download; paths in the record are relative to it.
        leave_out_bad: Put cases that cannot be converted into the record instead of ending at the first.
        progress: Called with each case.

    Raises:
        DataError: Naming the case: one half is missing, unreadable, on another grid, with an id the data set does not
            have, or without any structure; a data set is there already; fewer patients than folds.
        OutputError: A file cannot be written.
    """
    _refuse_other_files(output, conversion)
    _splits(conversion.cases, folds)
    require_folder(output, make=True)
    rehearse(
        {"download": source},
        [f"convert {len(conversion.cases)} cases, {options.labels}, {folds.folds} folds"],
        [output],
    )
    leaving = _Leaving(leave_out_bad)
    labels = _label_table(conversion, options.labels, leaving, progress or (lambda line: None))
    with Staging(output, check=_require_free) as staged:
        kept, splits = _write_all(converter, conversion, options, folds, source, labels, leaving, progress, staged)
    return WrittenDataSet(output, labels, kept, splits, leaving.reasons)


def _write_all(
    converter: Converter,
    conversion: Conversion,
    options: ConvertOptions,
    folds: FoldOptions,
    source: Path,
    labels: dict[str, int],
    leaving: _Leaving,
    progress: Callable[[str], None] | None,
    staged: Staging,
) -> tuple[int, int]:
    """How many cases were written, in how many folds."""
    output = staged.folder
    seen: dict[str, set[int]] = {}
    extras: dict[str, Any] = {}
    waiting = [case for case in conversion.cases if case.name not in leaving.reasons]
    for number, case in enumerate(tracked(waiting), start=1):
        try:
            sample = conversion.read(case)
            mask = _relabelled(case, sample, conversion, options.labels, labels)
            about = conversion.extra(case, sample) if conversion.extra else None
        except VerdiffError as error:
            leaving.note(case, error)
            if progress:
                progress(f"{leaving.reasons[case.name]}: left out ({number} of {len(waiting)})")
            continue
        place = staged[output / IMAGES / f"{case.name}_0000{conversion.ending}"]
        _write_image(case, sample[0], place, conversion.ending)
        write_array(mask.array, mask, staged[output / MASKS / f"{case.name}{conversion.ending}"])
        seen[case.name] = {int(value) for value in np.unique(mask.array)}
        if about is not None:
            extras[case.name] = about
        if progress:
            progress(f"{case.name} ({number} of {len(waiting)}): {mask.geometry.size}")
    refuse_first(class_findings(labels, seen))
    kept = [case for case in conversion.cases if case.name in seen]
    # Patients that were left out cannot be in the folds that they were named for.
    here = {case.patient for case in kept}
    splits = _splits(kept, replace(folds, first=tuple(name for name in folds.first if name in here)))
    if conversion.extra_file:
        _write_json(staged[output / conversion.extra_file], extras)
    write_splits(staged[output / SPLITS], splits)
    _write_json(staged[output / RECORD], _record(converter, conversion, options, folds, source, kept, leaving.reasons))
    # The last, which says that all is there.
    _write_json(staged[output / DESCRIPTION], _description(conversion, labels, kept))
    return len(kept), len(splits)


def _splits(cases: Sequence[SourceCase], folds: FoldOptions) -> tuple[Split, ...]:
    """The folds asked for, or as many as there are patients; one patient is refused, before anything is written."""
    patients = {case.name: case.patient for case in cases}
    return make_splits(patients, max(2, min(folds.folds, len(set(patients.values())))), folds.seed, folds.first)


def _refuse_other_files(output: Path, conversion: Conversion) -> None:
    if (output / DESCRIPTION).exists():
        raise DataError(f"{output.name} is a data set already", "a new folder", "choose another, or remove it first")
    for folder in (IMAGES, MASKS):
        there = sorted((output / folder).iterdir()) if (output / folder).is_dir() else []
        for path in there:
            if not path.name.startswith("."):
                raise _taken(f"{output.name}/{folder} holds {path.name}")
    for name in filter(None, (conversion.extra_file, SPLITS, RECORD)):
        if os.path.lexists(output / name):
            raise _taken(f"{output.name} holds {name}")


def _require_free(path: Path) -> None:
    if os.path.lexists(path):
        raise _taken(f"{path.parent.name} holds {path.name}")


def _taken(found: str) -> DataError:
    return DataError(found, "a new or an empty folder", "choose another folder, or remove it first")


def _target(meaning: LabelMeaning, labels: Labels) -> str:
    return meaning.structure if labels == "structures" else meaning.level


def _label_table(
    conversion: Conversion, labels: Labels, leaving: _Leaving, progress: Callable[[str], None]
) -> dict[str, int]:
    """Ids 1, 2, ... without a gap, as nnU-Net wants them: of the structures, or of those levels that occur."""
    if labels == "structures":
        there = {meaning.structure for meaning in conversion.meanings.values()}
        names = [name for name in STRUCTURES if name in there]
    else:
        ids: set[int] = set()
        for number, case in enumerate(conversion.cases, start=1):
            try:
                both(case)
                if leaving.allowed:
                    # A case that will be left out must not bring a level that no other has.
                    image, mask = conversion.read(case)
                    _require_fit(case, image, mask, conversion)
                    ids |= {int(value) for value in np.unique(mask.array)}
                else:
                    ids |= conversion.ids(case)
            except VerdiffError as error:
                leaving.note(case, error)
            progress(f"{case.name} ({number} of {len(conversion.cases)}): levels")
        there = {meaning.level for value, meaning in conversion.meanings.items() if value in ids}
        names = sorted(there, key=level_order)
    return {name: index for index, name in enumerate(names, start=1)}


def _relabelled(
    case: SourceCase, sample: Sequence[Volume], conversion: Conversion, labels: Labels, table: dict[str, int]
) -> Volume:
    """The mask with the ids of ``table``, uint8, once it is known to fit its image."""
    image, mask = sample
    _require_fit(case, image, mask, conversion)
    lookup = np.zeros(max(conversion.meanings) + 1, np.uint8)
    for value, meaning in conversion.meanings.items():
        # A level that the first pass met in no mask that could be read has no id, and occurs in none that is written.
        lookup[value] = table.get(_target(meaning, labels), 0)
    return Volume(lookup[mask.array], image.geometry, None, None, mask.nifti_header)


def _require_fit(case: SourceCase, image: Volume, mask: Volume, conversion: Conversion) -> None:
    remedy = "correct the mask, or leave such cases out by name with --leave-out-bad"
    known = {str(value): value for value in conversion.meanings}
    refuse_first(replace(finding, remedy=remedy) for finding in case_findings(case.name, image, mask, known))


def _write_image(case: SourceCase, image: Volume, path: Path, ending: str) -> None:
    if image.source is not None and image.source == case.image and image.source.name.endswith(ending):
        with atomic_path(path) as temporary:
            shutil.copyfile(image.source, temporary)
    else:
        write_array(image.array, image, path)


def _description(conversion: Conversion, labels: dict[str, int], kept: list[SourceCase]) -> dict[str, Any]:
    description: dict[str, Any] = {
        "channel_names": {"0": conversion.channel},
        "labels": {"background": 0, **labels},
        "numTraining": len(kept),
        "file_ending": conversion.ending,
    }
    patients = {case.name: case.patient for case in kept if case.patient != case.name}
    return {**description, "patients": patients} if patients else description


def _record(
    converter: Converter,
    conversion: Conversion,
    options: ConvertOptions,
    folds: FoldOptions,
    source: Path,
    kept: list[SourceCase],
    left_out: dict[str, str],
) -> dict[str, Any]:
    def relative(path: Path | None) -> str | None:
        return None if path is None else path.relative_to(source).as_posix()

    return {
        "converter": converter.name,
        "title": converter.title,
        "source": converter.source,
        "licence": converter.licence,
        "verdiff": __version__,
        "options": asdict(options),
        "folds": asdict(folds),
        "notes": list(conversion.notes),
        "cases": {
            case.name: {"patient": case.patient, "image": relative(case.image), "mask": relative(case.mask)}
            for case in kept
        },
        "left_out": left_out,
    }


def _write_json(path: Path, values: Any) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1), "utf-8")
