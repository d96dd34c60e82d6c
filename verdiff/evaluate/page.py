"""Pages to look at of one evaluation or several: warnings, figures, box plots, and the worst cases first."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence

from verdiff.errors import BackendError
from verdiff.evaluate.comparing import Comparisons, comparison_markdown
from verdiff.evaluate.empty import EVERY_METRIC, Presence
from verdiff.evaluate.markdown import format_value, summary_lines, to_markdown, volume_lines
from verdiff.evaluate.plots import box_plots
from verdiff.evaluate.tables import MEAN, Results, Table
from verdiff.evaluate.terminal import FIRST, SHOWN
from verdiff.page.frame import picture, whole_page
from verdiff.page.html import Html, element
from verdiff.page.markdown import html_of

# A page shows this many warnings at once, and the others on demand.
_MOST_WARNINGS = 8
_NO_BOXES = "No box plots: matplotlib is not installed (the extra evaluate), or the sets have other structures."
_TITLES = {"masks": "Structures", "instances": "Instances", "uncertainty": "Uncertainty"}


def scores_page(name: str, results: Results, *, remarks: Sequence[str], compared: str, png: bytes | None) -> str:
    """The page of one evaluation.

    Args:
        name: What was scored.
        results: Its scores.
        remarks: What a reader must know.
        compared: The comparison with another model as Markdown; ``""`` without one.
        png: The box plots; None where none were drawn.
    """
    cases = results.masks.cases
    over = f"mean ± standard deviation over {len(cases)} cases" if len(cases) > 1 else "one case"
    parts = [
        element("h1", f"Scores of {name}"),
        element("p", f"{over}, worst case in brackets; shares from 0 to 1, lengths in mm", class_="soft"),
        *_warnings(remarks),
    ]
    for kind, table in results.tables.items():
        parts += [element("h2", _TITLES[kind]), html_of("\n".join(summary_lines(table, FIRST[kind])))]
    if volumes := volume_lines(results.masks):
        parts.append(html_of("\n".join(volumes)))
    parts += [*_boxes(png), element("h2", "Cases, the worst first"), worst_first(results.masks)]
    if compared:
        parts += [element("h2", "Comparison"), html_of(compared)]
    parts.append(element("details", element("summary", "Every metric by case"), html_of(to_markdown(results))))
    return whole_page(f"Scores of {name} | verdiff", element("main", *parts, class_="figures"))


def compared_page(
    masks: Mapping[str, Mapping[str, Table]],
    papers_table: Sequence[str],
    comparisons: Mapping[str, Mapping[str, Mapping[str, Comparisons]]],
    *,
    remarks: Sequence[str],
    png: bytes | None,
) -> str:
    """The page of several evaluations side by side.

    Args:
        masks: Model -> set of cases -> its scores; the first model is compared with each other.
        papers_table: The papers' table, as Markdown.
        comparisons: Other model -> set of cases -> table -> what was found.
        remarks: What a reader must know.
        png: The box plots; None where none were drawn.
    """
    first = next(iter(masks))
    title = f"{', '.join(masks)} side by side"
    parts = [
        element("h1", title),
        element("p", "mean ± standard deviation over cases; shares from 0 to 1, lengths in mm", class_="soft"),
        *_warnings(remarks),
        html_of("\n".join(papers_table)),
        *_boxes(png),
    ]
    for other, sets in comparisons.items():
        for part, found in sets.items():
            parts.append(element("h2", f"{first} minus {other}" + (f", {part}" if part else "")))
            parts.append(html_of(comparison_markdown(found, other)))
            parts.append(element("h3", f"Cases, the worst for {first} first"))
            parts.append(_gaps((first, masks[first][part]), (other, masks[other][part])))
    return whole_page(f"{title} | verdiff", element("main", *parts, class_="figures"))


def boxes_png(tables: Mapping[str, Table], metrics: tuple[str, ...] = ()) -> bytes | None:
    """Box plots as a PNG; None where matplotlib is not installed.

    Args:
        tables: Model -> its scores, all with the same structures.
        metrics: The rows; those that are printed by default.
    """
    drawn = io.BytesIO()
    shared = [name for name in SHOWN["masks"] if all(name in table.metrics for table in tables.values())]
    try:
        box_plots(tables, drawn, metrics or tuple(shared))
    except BackendError:
        return None
    return drawn.getvalue()


def worst_first(table: Table) -> Html:
    """A row a case: its mean, every structure, other metrics, and what is the matter; the smallest Dice first."""
    first, *others = [metric for metric in SHOWN["masks"] if metric in table.metrics] or [table.metrics[0]]
    lead = table.rows[-1]
    titles = ["case", f"{lead} {EVERY_METRIC[first].title}", "", *table.structures[: None if lead == MEAN else -1]]
    titles += [f"{lead} {EVERY_METRIC[metric].title}" for metric in others]
    rows = []
    for case in _from_the_worst(table.by_case(lead, first), higher_is_better=EVERY_METRIC[first].higher_is_better):
        value = table.value(case, lead, first)
        cells = [element("th", case, scope="row"), _figure(value, first), element("td", _bar(value, first))]
        cells += [_figure(table.value(case, name, first), first) for name in table.structures if name != lead]
        cells += [_figure(table.value(case, lead, metric), metric) for metric in others]
        rows.append([*cells, element("td", "; ".join(_matters(table, case)), class_="warn")])
    return _table([*titles, ""], rows)


def _gaps(first: tuple[str, Table], other: tuple[str, Table]) -> Html:
    """A row a case that both models have: the mean Dice of each, and the difference, the smallest first."""
    (name, ours), (rival, theirs) = first, other
    lead = ours.rows[-1]
    metric = next(each for each in (*SHOWN["masks"], *ours.metrics) if each in ours.metrics and each in theirs.metrics)
    gaps = {case: ours.value(case, lead, metric) - theirs.value(case, lead, metric) for case in ours.cases}
    rows = []
    for case in _from_the_worst(gaps, higher_is_better=EVERY_METRIC[metric].higher_is_better):
        gap = "undefined" if math.isnan(gaps[case]) else f"{gaps[case]:+.{EVERY_METRIC[metric].digits}f}"
        values = [_figure(table.value(case, lead, metric), metric) for table in (ours, theirs)]
        rows.append([element("th", case, scope="row"), *values, element("td", gap, class_="figure")])
    return _table(
        ["case", *(f"{each}, {lead} {EVERY_METRIC[metric].title}" for each in (name, rival)), "difference"], rows
    )


def _from_the_worst(values: Mapping[str, float], *, higher_is_better: bool) -> list[str]:
    """Cases by their values; those that are undefined come last."""
    sign = 1 if higher_is_better else -1
    return sorted(values, key=lambda case: math.inf if math.isnan(values[case]) else sign * values[case])


def _matters(table: Table, case: str) -> Iterable[str]:
    """What is the matter with a case: structures that one of the two masks lacks."""
    for name, facts in table.facts.get(case, {}).items():
        presence = facts.get("presence", Presence.BOTH.value)
        if presence != Presence.BOTH.value:
            yield f"{name} is {presence}"


def _warnings(remarks: Sequence[str]) -> list[Html]:
    if not remarks:
        return []
    shown = element("ul", *(element("li", remark) for remark in remarks[:_MOST_WARNINGS]), class_="warnings")
    rest = remarks[_MOST_WARNINGS:]
    more = element("ul", *(element("li", remark) for remark in rest), class_="warnings")
    found = [element("h2", "Warnings"), shown]
    return [*found, element("details", element("summary", f"{len(rest)} more"), more)] if rest else found


def _boxes(png: bytes | None) -> list[Html]:
    if png is None:
        return [element("p", _NO_BOXES, class_="soft")]
    return [element("figure", picture(png, "Box plots, every case a dot"))]


def _bar(value: float, metric: str) -> Html:
    """A share as a bar; nothing of a length."""
    if math.isnan(value) or not EVERY_METRIC[metric].higher_is_better:
        return Html("")
    return element("span", element("i", style=f"width: {100 * value:.1f}%", class_="bar"), class_="track")


def _figure(value: float, metric: str) -> Html:
    return element("td", format_value(value, metric), class_="figure")


def _table(titles: Sequence[str], rows: Iterable[Sequence[Html]]) -> Html:
    cells = [element("th", title, class_="figure" if at and title else None) for at, title in enumerate(titles)]
    head = element("thead", element("tr", *cells))
    return element(
        "div", element("table", head, element("tbody", *(element("tr", *row) for row in rows))), class_="wide"
    )
