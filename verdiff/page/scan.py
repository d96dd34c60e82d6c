"""The page of one scan: scan, mask and uncertainty to scroll through, surfaces to turn, and all that must be known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from verdiff.anatomy import Spine, Surface
from verdiff.imaging import Volume, acquisition_view
from verdiff.imaging.panels import PALETTE
from verdiff.imaging.preview import Preview, preview_bytes
from verdiff.imaging.volume import Array
from verdiff.page.bands import bands_of, stopping
from verdiff.page.frame import NO_VIEWER, VIEWER, asset, picture, whole_page
from verdiff.page.html import Html, element
from verdiff.page.parts import amounts, found_sections, record_sections
from verdiff.page.payload import Held, held_of, ras_affine
from verdiff.page.promises import no_go_section
from verdiff.page.shapes import Shape, no_go_shapes, packed, shapes_of

_NO_SCRIPT = "A still picture: this browser runs no scripts here."
_PLANES = ("sagittal", "coronal", "axial")
# How far from a vertebra's middle a slice still shows its name, as a share of its height.
_REACH = 0.9


@dataclass(frozen=True, eq=False)
class Shown:
    """What a page shows.

    Attributes:
        report: What the JSON beside the mask holds.
        volume: The scan.
        labels: Label ids [z, y, x] in its grid.
        uncertainty: uint8 [z, y, x], 255 for the most uncertain.
        label_table: Names by label id, in their order.
        spine: The vertebrae of the mask; None where they are not known.
        missing: Why there are no vertebrae or surfaces, in words; ``""`` where there are.
        moved: No-go surfaces: side -> structure -> surface. What they promise stands in the report.
    """

    report: Mapping[str, Any]
    volume: Volume
    labels: Array
    uncertainty: Array
    label_table: Mapping[int, str]
    spine: Spine | None = None
    missing: str = ""
    moved: Mapping[str, Mapping[str, Surface]] = field(default_factory=dict)

    @property
    def film(self) -> bool:
        """Whether there is no depth to turn."""
        return self.volume.film or self.volume.geometry.size[2] == 1

    @property
    def colours(self) -> dict[int, tuple[int, int, int]]:
        """A colour a label, as in the preview."""
        return {label: PALETTE[index % len(PALETTE)] for index, label in enumerate(self.label_table)}


def scan_page(shown: Shown) -> str:
    """The page, as the text of its file."""
    viewer = asset(VIEWER)
    shapes = _shapes(shown)
    held = None if viewer is None else held_of(shown.volume, shown.labels, shown.uncertainty)
    name = str(shown.report["provenance"]["scan"]["name"] or "scan")
    body = [_head(name, shown), _picture(shown, held, shapes), _facts(shown, held)]
    styles = [asset("scan.css") or ""]
    if viewer is None or held is None:
        return whole_page(f"{name} | verdiff", *body, styles=styles)
    surfaces = [packed(shape.surface) for shape in shapes]
    data = {"scan": held.scan, "mask": held.labels, "uncertainty": held.uncertainty}
    data |= {f"shape-{index}": raw for index, (raw, _) in enumerate(surfaces)}
    facts = _viewer_facts(shown, held)
    facts["shapes"] = [
        {"id": f"shape-{index}", "name": shape.name, "label": shape.label, **about}
        | {"colour": shown.colours[shape.label], "side": shape.side}
        for index, (shape, (_, about)) in enumerate(zip(shapes, surfaces, strict=True))
    ]
    return whole_page(f"{name} | verdiff", *body, styles=styles, scripts=[viewer], facts=facts, data=data)


def _shapes(shown: Shown) -> list[Shape]:
    if shown.film or shown.missing or not shown.labels.any():
        return []
    found = shapes_of(shown.labels, shown.volume.geometry, shown.label_table, shown.spine)
    return found + no_go_shapes(shown.moved, shown.label_table)


def _viewer_facts(shown: Shown, held: Held) -> dict[str, Any]:
    """What the viewer's script is told."""
    view = "film" if shown.film else acquisition_view(shown.volume.geometry)
    colours = shown.colours
    return {
        "labels": [{"id": id, "name": name, "colour": colours[id]} for id, name in shown.label_table.items()],
        "window": held.window,
        "view": "sagittal" if view == "isotropic" else view,
        "film": shown.film,
        "oriented": shown.volume.geometry.oriented and not shown.film,
        "marks": [
            {
                "name": vertebra.name,
                "mm": _ras(vertebra.centroid_mm),
                "reach_mm": _REACH * max(vertebra.height_mm, 10.0),
            }
            for vertebra in (() if shown.spine is None else shown.spine.vertebrae)
        ],
        "centre": _centre(shown),
    }


def _ras(point_mm: Sequence[float]) -> list[float]:
    left, posterior, superior = point_mm
    return [-left, -posterior, superior]


def _centre(shown: Shown) -> list[float]:
    """Where the viewer's crosshair begins, in NIfTI's millimetres: amid the mask."""
    affine = ras_affine(shown.volume.geometry)
    middle = np.array([(size - 1) / 2 for size in shown.volume.geometry.size])
    filled = np.nonzero(shown.labels)
    if len(filled[0]):
        middle = np.array([np.median(axis) for axis in filled[::-1]])
    return [float(value) for value in (affine @ [*middle, 1.0])[:3]]


def _still(shown: Shown) -> bytes:
    spine = shown.spine
    marks = {} if spine is None else {vertebra.name: vertebra.centroid_mm for vertebra in spine.vertebrae}
    return preview_bytes(
        Preview(shown.volume, shown.labels, shown.uncertainty, shown.label_table, stopping(shown.report), marks)
    )


def _head(name: str, shown: Shown) -> Html:
    report = shown.report
    model, backend = report["provenance"]["model"], report["provenance"]["backend"]
    grid = shown.volume.geometry
    size = " x ".join(str(each) for each in (grid.size[:2] if shown.film else grid.size))
    pitch = " x ".join(f"{each:.2f}" for each in (grid.spacing_mm[:2] if shown.film else grid.spacing_mm))
    said = [
        f"{model['id']} {model['version']}",
        f"{backend['name']} on {backend['device']}, {backend['precision']}",
        f"{size} {'pixels' if shown.film else 'voxels'}",
        *([] if shown.film else [f"{pitch} mm"]),
    ]
    return element("header", element("h1", name), element("p", *(element("span", each) for each in said)), class_="top")


def _picture(shown: Shown, held: Held | None, shapes: Sequence[Shape]) -> Html:
    bands = element(
        "div", *(element("p", band.text, class_=band.kind) for band in bands_of(shown.report)), class_="bands"
    )
    still = picture(_still(shown), "Slices of the scan with its mask and its uncertainty")
    why = f"A still picture: {NO_VIEWER}." if held is None else _NO_SCRIPT
    figure = element("figure", still, element("figcaption", why, id="why-still"), id="still")
    by_name = {name: shown.colours[label] for label, name in shown.label_table.items()}
    drawn = [] if held is None else [shape.name for shape in shapes if shape.side]
    no_go = no_go_section(shown.report, drawn=drawn, colours=by_name)
    promises = [] if no_go is None else [no_go]
    if held is None:
        return element("section", bands, figure, *promises, class_="picture")
    slices = element(
        "div",
        element("canvas", aria_label="Slices of the scan"),
        *([element("canvas", class_="cuts", aria_hidden="true")] if drawn else []),
        element("div", class_="marks"),
        _legend(shown),
        element("p", id="readout"),
        class_="pane",
        id="slices",
    )
    panes = [slices]
    if shapes:
        canvas = element("canvas", aria_label="Surfaces of the structures")
        named = [element("p", id="turned")] if drawn else []
        panes.append(element("div", canvas, element("div", class_="marks"), *named, class_="pane", id="surfaces"))
    kind = "panes" if shapes else "panes flat"
    picture_of = element("div", *panes, class_=kind)
    return element("section", bands, picture_of, _controls(shown), figure, *promises, class_="picture")


def _legend(shown: Shown) -> Html:
    """The structures with their colours and volumes, on the picture; a press hides one."""
    rows = []
    for amount in amounts(shown.report, shown.labels, shown.label_table):
        colour = ", ".join(str(part) for part in shown.colours[amount.label])
        swatch = element("i", style=f"background: rgb({colour})")
        said = [element("b", amount.name), element("span", amount.text)]
        said += [element("em", "cut")] if amount.cut else []
        rows.append(element("button", swatch, *said, type="button", data_label=str(amount.label), aria_pressed="true"))
    return element("div", *rows, class_="legend")


def _controls(shown: Shown) -> Html:
    def group(name: str, title: str, words: Mapping[str, str], pressed: str) -> Html:
        buttons = (
            element("button", text, type="button", aria_pressed=str(word == pressed).lower(), **{f"data_{name}": word})
            for word, text in words.items()
        )
        return element("div", element("span", title), *buttons, role="group", class_="group")

    layers = {"mask": "Mask", "uncertainty": "Uncertainty", "scan": "Scan alone"}
    strength = element("input", type="range", id="strength", min="0", max="1", step="0.02", value="0.36")
    views = {"all": "All planes", **{plane: plane.capitalize() for plane in _PLANES}}
    groups = [] if shown.film else [group("view", "Slices", views, "all")]
    groups += [group("layer", "Over the scan", layers, "mask"), element("label", element("span", "Strength"), strength)]
    hints = (
        "Drag to move" if shown.film else "Wheel: next slice. Drag: move"
    ) + ". Right drag: brightness and contrast."
    return element("div", *groups, element("p", hints), class_="controls")


def _facts(shown: Shown, held: Held | None) -> Html:
    shares = amounts(shown.report, shown.labels, shown.label_table)
    left = found_sections(shown.report, shares, shown.spine, missing=shown.missing, colours=shown.colours)
    return element("main", element("div", *left), element("div", *record_sections(shown.report, held)), class_="facts")
