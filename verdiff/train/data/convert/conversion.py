"""What a converter finds in a download, before anything is written: cases, and what the ids in their masks mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from verdiff.errors import DataError
from verdiff.imaging.reading import read_labels, read_volume
from verdiff.imaging.volume import Volume
from verdiff.train.data.convert.levels import LabelMeaning

Labels: TypeAlias = Literal["structures", "levels"]
Sample: TypeAlias = tuple[Volume, Volume]


@dataclass(frozen=True)
class ConvertOptions:
    """What to make of a download. Each converter names the options it takes; another one is refused.

    Attributes:
        labels: ``structures``: one label for all vertebrae, one for all discs. ``levels``: a label for each of them.
        contrasts: SPIDER: which of ``t1``, ``t2``, ``t2_SPACE``; empty: all there are.
        midline: SPIDER: slices near the midline, half the resolution, 8 bits: the recipe of ``Dataset101_SpineMR``.
        subset: CTSpine1K, VerSe, AASCE: only what lies in folders of this name.
    """

    labels: Labels = "structures"
    contrasts: tuple[str, ...] = ()
    midline: bool = False
    subset: str | None = None


@dataclass(frozen=True)
class SourceCase:
    """One scan or film of a download; a missing half is ``None`` here and refused, by name, when it is written.

    Attributes:
        name: Its name in the raw data set.
        patient: Whose it is: what folds keep together.
        image: The scan.
        mask: Its mask, or the file that one is made from.
    """

    name: str
    patient: str
    image: Path | None
    mask: Path | None


def read_pair(case: SourceCase) -> Sample:
    """A case's scan and its mask, ids as the download has them. Raises InputError as ``read_volume`` does."""
    image, mask = both(case)
    return read_volume(image), read_labels(mask)


def ids_in_mask(case: SourceCase) -> frozenset[int]:
    """The ids that occur in a case's mask file, without reading the scan."""
    return frozenset(int(value) for value in np.unique(read_labels(both(case)[1]).array))


def both(case: SourceCase) -> tuple[Path, Path]:
    """Both files of a case. Raises DataError, naming it, where one is missing."""
    if case.image is None or case.mask is None:
        have = case.image or case.mask
        what, lacking = ("an image", "a mask") if case.image else ("a mask", "an image")
        raise DataError(
            f"case {case.name} has {what} ({have.name if have else '?'}) and no {lacking.split()[1]}",
            f"{lacking} for each of them",
            "complete the download, or leave such cases out by name with --leave-out-bad",
        )
    return case.image, case.mask


@dataclass(frozen=True)
class Conversion:
    """A download as its converter understands it.

    Attributes:
        channel: Name of the channel, as nnU-Net knows it: ``CT`` decides its normalisation.
        ending: Suffix of the files that are written.
        meanings: What each id in the masks stands for; another id is refused.
        cases: Sorted by name.
        read: Scan and mask of a case on one grid, ids as in ``meanings``.
        ids: The ids in a case's mask, by a way that costs less than ``read`` where there is one.
        extra: Further JSON of a case (``None``: nothing to say), gathered by name into the file ``extra_file``.
        extra_file: Its name, where there is ``extra``.
        notes: What was decided on the way that a reader should know.
    """

    channel: str
    ending: str
    meanings: Mapping[int, LabelMeaning]
    cases: tuple[SourceCase, ...]
    read: Callable[[SourceCase], Sample] = read_pair
    ids: Callable[[SourceCase], frozenset[int]] = ids_in_mask
    extra: Callable[[SourceCase, Sample], dict[str, Any] | None] | None = None
    extra_file: str = ""
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Converter:
    """One public data set.

    Attributes:
        name: What ``verdiff data convert`` calls it.
        title: The data set's own.
        source: Where it is published, and in which paper.
        licence: Its terms as published; ``not verified`` where the publisher states none that was read.
        find: Looks through a download. Raises DataError when it is not the layout.
        options: Names of the ``ConvertOptions`` it takes.
        packages: Further packages it needs, which the extra ``evaluate`` brings.
    """

    name: str
    title: str
    source: str
    licence: str
    find: Callable[[Path, ConvertOptions], Conversion]
    options: frozenset[str] = frozenset({"labels"})
    packages: tuple[str, ...] = ()


def safe_name(text: str) -> str:
    """A case name from a file's stem: letters, digits, dots, dashes and underscores."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")


def stems(paths: Iterable[Path], ending: str) -> dict[str, Path]:
    """Files by their name without ``ending``. Raises DataError when two have one name."""
    found: dict[str, Path] = {}
    for path in paths:
        stem = path.name.removesuffix(ending)
        if stem in found:
            raise DataError(
                f"{path.name} lies in {found[stem].parent.name} and in {path.parent.name}",
                "each file once",
                "convert one part of the download at a time, with --subset or its own folder",
            )
        found[stem] = path
    return found


def within(root: Path, pattern: str, subset: str | None) -> list[Path]:
    """Files under ``root`` that match, sorted; with ``subset``, those below a folder of that name only."""
    return [
        path
        for path in sorted(root.rglob(pattern))
        if path.is_file()
        and not path.name.startswith(".")
        and (subset is None or subset in path.relative_to(root).parts[:-1])
    ]


def nothing_found(source: Path, layout: str) -> DataError:
    """The error of a folder that is not the download."""
    return DataError(f"{source.name} holds no case", layout, "unpack the download, and name the folder that holds it")
