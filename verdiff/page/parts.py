"""The tables beside the picture: what was found, how long it took, what made it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from verdiff.anatomy import Spine
from verdiff.imaging.volume import Array
from verdiff.page.bands import bands_of
from verdiff.page.html import Html, element
from verdiff.page.payload import Held

# In the order in which they run.
STAGES = (
    *("read", "load", "normalise", "locate", "resample", "prior", "noise", "loop", "fuse", "restore"),
    *("anatomy", "margins", "write"),
)
_LONGEST_BAR = 100
_LEVELS_FROM = {
    None: "From the lowest up. Levels unknown: nothing says which the lowest is; --lowest L5 does.",
    "told": "From the lowest up, whose level was stated.",
    "model": "From the lowest up; levels are the model's.",
    "sacrum": "From the lowest up; levels are counted from the sacrum.",
    "picture": "From the lowest up; levels are counted from the last body above the sacrum in the picture.",
}


@dataclass(frozen=True)
class Amount:
    """How much of a structure a mask holds.

    Attributes:
        label, name: The structure.
        text: Its volume, or its share of a film.
        cut: Sides of the field of view that cut it.
    """

    label: int
    name: str
    text: str
    cut: tuple[str, ...]


def amounts(report: Mapping[str, Any], labels: Array, label_table: Mapping[int, str]) -> list[Amount]:
    """Every structure of the model; the volumes are the report's."""
    volumes, cut = report["volumes_ml"], report["cut_by_field_of_view"]
    found = []
    for label, name in label_table.items():
        share = 100 * np.count_nonzero(labels == label) / labels.size
        text = f"{volumes[name]:.1f} ml" if name in volumes else f"{share:.1f} %"
        found.append(Amount(label, name, text if share else "none", tuple(cut.get(name, ()))))
    return found


def found_sections(
    report: Mapping[str, Any],
    structures: Sequence[Amount],
    spine: Spine | None,
    *,
    missing: str,
    colours: Mapping[int, tuple[int, int, int]],
) -> list[Html]:
    """Structures, vertebrae, warnings."""
    kind = "volume" if report["volumes_ml"] else "share of the film"
    rows = []
    for each in structures:
        swatch = element("i", style=f"background: rgb{colours[each.label]}", class_="swatch")
        rows.append([element("span", swatch, each.name), each.text, _cut(each.cut)])
    sections = [_section("Structures", _table(("structure", kind, ""), rows, figures={1}), name="structures")]
    if spine is not None:
        sections.append(_vertebrae(spine))
    elif missing:
        sections.append(_section("Vertebrae", element("p", missing, class_="soft"), name="vertebrae"))
    said = [element("li", band.text, class_=band.kind) for band in bands_of(report)]
    if said:
        sections.append(_section("Warnings and notes", element("ul", *said), name="warnings"))
    return sections


def record_sections(report: Mapping[str, Any], held: Held | None) -> list[Html]:
    """Times of the stages, and what made the mask."""
    provenance = report["provenance"]
    model, backend, sampling = provenance["model"], provenance["backend"], provenance["sampling"]
    made = {
        "Model": f"{model['id']} {model['version']}",
        "Manifest": element("code", model["manifest_sha256"]),
        "Computed by": f"{backend['name']} {backend['version']} on {backend['device']}, {backend['precision']}, "
        f"{backend['threads']} thread{'' if backend['threads'] == 1 else 's'}",
        "Sampling": ", ".join(
            f"{key.replace('_', ' ')} {value}" for key, value in sampling.items() if value is not None
        ),
        "Software": ", ".join(f"{name} {version}" for name, version in provenance["versions"].items()),
        "Files": ", ".join(f"{name} {file}" for name, file in report["files"].items()),
        "Again": element("code", provenance.get("command", "")),
    }
    if "trusted" in model:
        made["Signed"] = f"trusted: {model['trusted']}"
    if held is not None and max(held.every) > 1:
        pitch = " x ".join(f"{each:.2f}" for each in held.grid.spacing_mm)
        made["On this page"] = f"the scan is shown at {pitch} mm, coarser than it is; the files beside it are whole"
    whole = element("pre", json.dumps(report, indent=1))
    return [
        _section("Time", _times(report["timings_s"]), name="times"),
        _section("Made by", _pairs(made), name="provenance"),
        element("details", element("summary", "The whole record"), whole, id="record"),
    ]


def _vertebrae(spine: Spine) -> Html:
    rows = []
    for each in spine.vertebrae:
        volume = "" if each.volume_ml is None else f"{each.volume_ml:.1f} ml"
        confidence = "" if each.confidence is None else f"{each.confidence:.2f}"
        remark = "" if each.complete else "ends in its body"
        cut = [element("span", remark, class_="warn")] if remark and not each.cut_sides else []
        rows.append(
            [each.name, volume, f"{each.height_mm:.0f} mm", confidence, element("span", _cut(each.cut_sides), *cut)]
        )
    titles = ("vertebra", "volume", "height", "confidence", "")
    source = _LEVELS_FROM[spine.named_by]
    if spine.level_probability is not None:
        source += f" Their probability is {spine.level_probability:.3f}."
    table = _table(titles, rows, figures={1, 2, 3}) if rows else element("p", "No vertebra was found.")
    remarks = [element("li", remark) for remark in spine.remarks]
    return _section("Vertebrae", table, element("p", source, class_="soft"), element("ul", *remarks), name="vertebrae")


def _cut(sides: Sequence[str]) -> Html:
    """Beside a volume of which the field of view holds a part."""
    return element("span", f"cut by the field of view ({', '.join(sides)})", class_="warn") if sides else Html("")


def _times(timings: Mapping[str, float]) -> Html:
    taken = {stage: timings[stage] for stage in STAGES if stage in timings}
    longest = max([*taken.values(), 1e-9])
    rows = []
    for stage, seconds in taken.items():
        bar = element("i", style=f"width: {_LONGEST_BAR * seconds / longest:.1f}%", class_="bar")
        rows.append([stage, f"{seconds:.2f} s", element("span", bar, class_="track")])
    rows.append([element("b", "all"), element("b", f"{sum(taken.values()):.2f} s"), ""])
    return _table(("stage", "time", ""), rows, figures={1})


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, figures: set[int]) -> Html:
    def cells(tag: str, row: Sequence[str]) -> Html:
        kinds = ("figure" if column in figures else None for column in range(len(row)))
        return element("tr", *(element(tag, cell, class_=kind) for cell, kind in zip(row, kinds, strict=True)))

    head = element("thead", cells("th", titles))
    body = element("tbody", *(cells("td", row) for row in rows))
    return element("div", element("table", head, body), class_="wide")


def _pairs(pairs: Mapping[str, str]) -> Html:
    return element(
        "dl", *(part for name, value in pairs.items() for part in (element("dt", name), element("dd", value)))
    )


def _section(title: str, *content: Html, name: str) -> Html:
    return element("section", element("h2", title), *content, id=f"s-{name}")
