"""What an evaluation leaves behind: the lines that are printed and the files that are written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from verdiff import __version__
from verdiff.errors import DataError
from verdiff.evaluate.comparing import Comparisons, compare_results, comparison_dict, comparison_markdown, only_in_one
from verdiff.evaluate.markdown import PAPER_METRICS, papers_table, to_markdown
from verdiff.evaluate.metrics import optional_library
from verdiff.evaluate.page import boxes_png, scores_page
from verdiff.evaluate.stored import STORED, to_csv, to_json
from verdiff.evaluate.tables import Results, Table
from verdiff.evaluate.terminal import summary
from verdiff.files import Plan, plan_files
from verdiff.files.places import absolute, folder_of_all, require_folder

PLOT = "boxes.png"
# What is looked at in a browser; it is called and lies where the caller says.
LOOK = "page"
CSV, PAGE = "scores.csv", "scores.md"


@dataclass(frozen=True)
class Evaluation:
    """What ``verdiff evaluate`` found.

    Attributes:
        results: The scores of the predictions.
        comparisons: Table -> structure -> metric -> comparison with the other model; empty when none was given.
        markdown: The whole report, as in ``scores.md``.
        written: The files that were written.
        summary: The lines to print.
    """

    results: Results
    comparisons: Mapping[str, Comparisons]
    markdown: str
    written: tuple[Path, ...]
    summary: tuple[str, ...] = ()

    @property
    def table(self) -> Table:
        """The masks' scores."""
        return self.results.masks


@dataclass(frozen=True)
class Targets:
    """The files to write, by what they hold: ``scores.csv``, ``instances.csv``, ``scores.json``, ..."""

    files: Mapping[str, Path]
    plan: Plan | None = None

    @classmethod
    def of(
        cls,
        output: str | Path | None,
        *,
        tables: Iterable[str] = (),
        plots: bool = False,
        page: Path | None = None,
        inputs: Mapping[str, Path | None] = MappingProxyType({}),
        overwrite: bool = False,
    ) -> Targets:
        """The files of an output, checked before anything is scored.

        Args:
            output: A folder, which is made; one ``.csv``, ``.json`` or ``.md`` file; or None for no file.
            tables: Tables beside the masks', each a CSV of its own.
            plots: Whether box plots are asked for.
            page: An HTML page to look at: in the output's folder, above it or below it.
            inputs: What is read, by what it is, and must not be written to.
            overwrite: Whether files that are not verdiff's may be replaced.

        Raises:
            DataError: The output has no room for all that is asked for.
            OutputError: The folder cannot be made or written, or a place is taken.
            BackendError: Plots are asked for and matplotlib is not installed.
        """
        path, tables = None if output is None else Path(output), tuple(tables)
        single = path is not None and path.suffix in (".csv", ".json", ".md") and not os.path.isdir(path)
        if plots:
            optional_library("matplotlib.figure")
        if (plots and (path is None or single)) or (tables and path is not None and single and path.suffix == ".csv"):
            asked = "box plots" if plots else f"the tables of {' and '.join(tables)}"
            raise DataError(
                f"{asked}, and the output {'nowhere' if path is None else path.name}",
                "a folder to write to",
                "give one",
            )
        if path is not None and single:
            return cls._planned({f"scores{path.suffix}": path}, path.parent, page, inputs, overwrite=overwrite)
        names = (CSV, *(f"{name}.csv" for name in tables), STORED, PAGE, *([PLOT] if plots else []))
        return cls.in_folder(path, names, page=page, inputs=inputs, overwrite=overwrite)

    @classmethod
    def in_folder(
        cls,
        folder: str | Path | None,
        names: Iterable[str],
        *,
        page: Path | None = None,
        inputs: Mapping[str, Path | None] = MappingProxyType({}),
        overwrite: bool = False,
    ) -> Targets:
        """Files of a folder, which is made when they are written, and a page; None is no file.

        Raises:
            OutputError: The folder cannot be made or written, or a place is taken.
        """
        if folder is None:
            return cls({}) if page is None else cls._planned({}, page.parent, page, inputs, overwrite=overwrite)
        files = {name: Path(folder) / name for name in names}
        return cls._planned(files, Path(folder), page, inputs, overwrite=overwrite, make=True)

    @classmethod
    def _planned(
        cls,
        others: Mapping[str, Path],
        folder: Path,
        page: Path | None,
        inputs: Mapping[str, Path | None],
        *,
        overwrite: bool,
        make: bool = False,
    ) -> Targets:
        files = dict(others)
        place = folder
        if page is not None:
            require_folder(absolute(page).parent, make=make and absolute(page).parent == absolute(folder))
            place = folder_of_all(folder, page)
            files = {LOOK: page, **files}
        return cls(files, plan_files(files, inputs=inputs, overwrite=overwrite, folder=place, make=make))

    def write(self, contents: Mapping[str, Callable[[Path], Any]]) -> tuple[Path, ...]:
        """Write the files, all or none of them; ``contents`` is given the path to write to.

        Raises:
            OutputError: A file cannot be written, or its place has been taken meanwhile.
        """
        if self.plan is None:
            return ()
        with self.plan.staged() as staged:
            for name, path in self.files.items():
                contents[name](staged[path])
        return tuple(self.files.values())


def write_report(
    scored: tuple[str, Results], other: tuple[str, Results] | None, targets: Targets, *, about: Mapping[str, Any]
) -> Evaluation:
    """Compare where there is another model, and write everything.

    Args:
        scored: What the predictions are called, and their results.
        other: Name and results of the model they are compared with; None where there is none.
        targets: The files to write.
        about: Entries of ``scores.json`` beside the scores.

    Raises:
        DataError: The two models were not scored on the same cases and structures.
        OutputError: A file cannot be written.
    """
    (name, results), rivals = scored, () if other is None else (other,)
    # Two folders may have the same name.
    models = {name: results, **{f"{rival} (other)" if rival == name else rival: theirs for rival, theirs in rivals}}
    comparisons = {} if other is None else compare_results(results, other[1])
    shown = [metric for metric in PAPER_METRICS if all(metric in one.masks.metrics for one in models.values())]
    markdown = "\n".join(papers_table({model: {"": one.masks} for model, one in models.items()}, shown)) + "\n\n"
    markdown += to_markdown(results)
    remarks = list(dict.fromkeys(remark for table in results.tables.values() for remark in table.remarks()))
    compared = ""
    if other is not None:
        lacking = only_in_one(results, other[1])
        remarks += lacking
        compared = comparison_markdown(comparisons, list(models)[1], lacking)
        markdown += compared
    more: dict[str, Any] = {"verdiff": __version__, "predictions": name, **about}
    if comparisons:
        more["comparison"] = {"other": other[0] if other else "", **comparison_dict(comparisons)}
    contents: dict[str, Callable[[Path], Any]] = {
        CSV: _text(lambda: to_csv(results.masks)),
        STORED: _text(lambda: to_json(results, **more)),
        PAGE: _text(lambda: markdown),
        PLOT: lambda path: _draw(models, path),
        LOOK: _text(
            lambda: scores_page(
                name,
                results,
                remarks=remarks,
                compared=compared,
                png=boxes_png({model: one.masks for model, one in models.items()}),
            )
        ),
    }
    for table, scores in results.tables.items():
        contents.setdefault(f"{table}.csv", _text(partial(to_csv, scores)))
    written = targets.write(contents)
    rival = None if other is None else list(models)[1]
    return Evaluation(results, comparisons, markdown, written, summary(results, comparisons, rival, remarks))


def _text(make: Callable[[], str]) -> Callable[[Path], Any]:
    return lambda path: path.write_text(make(), encoding="utf-8")


def _draw(models: Mapping[str, Results], path: Path) -> None:
    from verdiff.evaluate.plots import box_plots

    box_plots({name: results.masks for name, results in models.items()}, path)
