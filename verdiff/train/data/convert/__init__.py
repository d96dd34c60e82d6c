"""Public data sets of the papers as nnU-Net raw data sets: one module a data set, one way of writing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import get_args

from verdiff.errors import DataError
from verdiff.train.data.convert.aasce import AASCE
from verdiff.train.data.convert.conversion import Converter, ConvertOptions, Labels
from verdiff.train.data.convert.ctspine1k import CTSPINE1K
from verdiff.train.data.convert.mrspineseg import MRSPINESEG
from verdiff.train.data.convert.raw_data_set import WrittenDataSet, write_raw
from verdiff.train.data.convert.spider import SPIDER
from verdiff.train.data.convert.verse import VERSE
from verdiff.train.data.splits import FoldOptions

CONVERTERS: dict[str, Converter] = {
    converter.name: converter for converter in (SPIDER, CTSPINE1K, VERSE, MRSPINESEG, AASCE)
}

__all__ = ["CONVERTERS", "ConvertOptions", "Converter", "FoldOptions", "WrittenDataSet", "convert", "converter_named"]


def converter_named(name: str) -> Converter:
    """The converter of a data set. Raises DataError, with the names there are, when there is none."""
    if name not in CONVERTERS:
        raise DataError(f"a data set {name!r}", f"one of {', '.join(CONVERTERS)}", "check the name")
    return CONVERTERS[name]


def convert(
    name: str,
    source: Path,
    output: Path,
    options: ConvertOptions | None = None,
    folds: FoldOptions | None = None,
    *,
    leave_out_bad: bool = False,
    progress: Callable[[str], None] | None = None,
) -> WrittenDataSet:
    """Make an nnU-Net raw data set, with folds by patient, from an unpacked public download.

    Args:
        name: Name of the data set, a key of ``CONVERTERS``.
        source: The unpacked download; it is only read.
        output: The raw data set's folder, made if absent.
        options: What to make of it; ``None``: the defaults.
        folds: How folds are made; ``None``: five, seed 35.
        leave_out_bad: Put cases that cannot be converted into the record instead of ending at the first.
        progress: Called with each case.

    Raises:
        DataError: An unknown data set, an option it does not take, a folder that is not the download, or what
            :func:`verdiff.train.data.convert.raw_data_set.write_raw` refuses.
        OutputError: A file cannot be written.
    """
    converter, options = converter_named(name), options or ConvertOptions()
    if not source.is_dir():
        raise DataError(f"there is no folder {source}", "an unpacked download", "check the path")
    if options.labels not in get_args(Labels):
        raise DataError(f"labels {options.labels!r}", " or ".join(get_args(Labels)), "correct --labels")
    for option in fields(options):
        if getattr(options, option.name) != option.default and option.name not in converter.options:
            raise DataError(
                f"{name} with --{option.name}",
                f"options of its own: {', '.join(f'--{known}' for known in sorted(converter.options))}",
                "leave it out",
            )
    conversion = converter.find(source, options)
    return write_raw(
        converter,
        conversion,
        output,
        options,
        folds or FoldOptions(),
        source=source,
        leave_out_bad=leave_out_bad,
        progress=progress,
    )
