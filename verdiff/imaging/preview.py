"""A picture of a result that shows at a glance whether to trust it: outlines, uncertainty, volumes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from verdiff.errors import InputError
from verdiff.imaging.atomic import atomic_path
from verdiff.imaging.banner import printable, with_banner
from verdiff.imaging.intensity import normalise
from verdiff.imaging.panels import FINE, PALETTE, Colour, heat, heated, outlined, window
from verdiff.imaging.resample import resize_planes
from verdiff.imaging.slicing import SlicePlan, acquisition_view, plan_slices
from verdiff.imaging.volume import Array, Volume

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

_PAGE, _INK, _FAINT = (15, 18, 23), (236, 239, 244), (140, 149, 163)
# Sizes in pixels: legible where the picture is shown at half its width, as in a page of text.
_MARGIN, _GAP, _CAPTION, _HEADER, _LEGEND = 28, 12, 30, 88, 320
_TITLE, _BODY, _SMALL = 28, 22, 18
_MAX_WIDTH, _MAX_HEIGHT, _FILM_HEIGHT = 1240, 440, 720
_EDGES = {"sagittal": ("A", "P", "S", "I"), "coronal": ("R", "L", "S", "I"), "axial": ("R", "L", "A", "P")}


@dataclass(frozen=True)
class Preview:
    """What a picture shows.

    Attributes:
        volume: The scan.
        labels: Label ids [z, y, x] in the scan's grid.
        uncertainty: Uint8 [z, y, x], 255 for the most uncertain, or None to leave its row out.
        label_table: Names by label id, in the order of the legend.
        warnings: What was forced or looks wrong, written across the picture.
        marks: Names to write on the mask where it covers these points, each three LPS millimetres.
        remarks: What else is said of the mask, behind the scan's pixels.

    Raises:
        InputError: Labels or uncertainty are not in the scan's grid.
    """

    volume: Volume
    labels: Array
    uncertainty: Array | None
    label_table: Mapping[int, str]
    warnings: Sequence[str] = ()
    marks: Mapping[str, Sequence[float]] = field(default_factory=dict)
    remarks: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name, array in (("labels", self.labels), ("uncertainty", self.uncertainty)):
            if array is not None and array.shape != self.volume.array.shape:
                raise InputError(
                    f"{name} of shape {array.shape}",
                    f"the scan's shape {self.volume.array.shape}",
                    "pass maps in the scan's grid",
                )

    @property
    def colours(self) -> dict[int, Colour]:
        """The colour of each structure, by label id."""
        return {label: PALETTE[index % len(PALETTE)] for index, label in enumerate(self.label_table)}


@dataclass(frozen=True)
class _Layout:
    """Panels in pixels; uncertainty lies below each slice, or beside it where there is only one."""

    shown: tuple[int, ...]
    width: int
    height: int
    rows: int

    def corner(self, column: int, row: int) -> tuple[int, int]:
        """The upper left pixel of a panel."""
        if len(self.shown) == 1:
            column, row = row, 0
        return (
            _MARGIN + column * (self.width + _GAP),
            _HEADER + row * (self.height + _CAPTION + _GAP),
        )

    @property
    def page(self) -> tuple[int, int]:
        columns, rows = (self.rows, 1) if len(self.shown) == 1 else (len(self.shown), self.rows)
        width = _MARGIN * 2 + columns * (self.width + _GAP) + _LEGEND
        return width, max(_HEADER + rows * (self.height + _CAPTION + _GAP) + _MARGIN // 2, 340)


def preview_png(path: str | Path, shown: Preview) -> None:
    """Write the picture of :func:`preview_bytes`, whole or not at all. Raises OutputError if it cannot be written."""
    picture = preview_bytes(shown)
    with atomic_path(path) as temporary:
        temporary.write_bytes(picture)


def preview_bytes(shown: Preview) -> bytes:
    """A PNG with three to five slices, each structure outlined, the uncertainty, and the volumes in ml.

    The slices lie in the plane the scan was acquired in, sagittal where it is isotropic.
    """
    view = acquisition_view(shown.volume.geometry)
    plan = plan_slices(shown.volume.geometry, view="sagittal" if view == "isotropic" else view, spacing_mm=None)
    layout = _layout(plan, plan.extract(shown.labels), rows=1 if shown.uncertainty is None else 2)
    page = _draw(shown, plan, layout)
    _write_text(page, shown, plan, layout)
    _write_marks(page, shown, plan, layout)
    if shown.warnings:
        page = with_banner(page, shown.warnings)
    packed = io.BytesIO()
    page.save(packed, "PNG", compress_level=3)
    return packed.getvalue()


def _layout(plan: SlicePlan, planes: Array, *, rows: int) -> _Layout:
    aspect = plan.scan_cols * plan.pixel_spacing_mm[1] / (plan.scan_rows * plan.pixel_spacing_mm[0])
    count = min(plan.slices, 3 if aspect > 1.2 else 4 if aspect > 0.55 else 5)
    columns, limit = (rows, _FILM_HEIGHT) if count == 1 else (count, _MAX_HEIGHT)
    width = (_MAX_WIDTH - (columns - 1) * _GAP) // columns
    height = min(limit, round(width / aspect))
    return _Layout(_choose(planes, count), max(24, min(width, round(height * aspect))), max(24, height), rows)


def _choose(planes: Array, count: int) -> tuple[int, ...]:
    """Slices that split the labelled area into equal parts; evenly spaced ones where nothing is labelled."""
    area = np.count_nonzero(planes, axis=(1, 2)).astype(float)
    weight = area if np.count_nonzero(area) >= count else np.ones_like(area)
    share = np.cumsum(weight) / weight.sum()
    chosen = {int(np.searchsorted(share, (part + 0.5) / count)) for part in range(count)}
    # A large slice can hold two of the parts: fill up with its nearest neighbours.
    spare = sorted(set(range(len(area))) - chosen, key=lambda index: (-weight[index], index))
    return tuple(sorted([*chosen, *spare[: count - len(chosen)]]))


def _draw(shown: Preview, plan: SlicePlan, layout: _Layout) -> Image.Image:
    from PIL import Image

    page = Image.new("RGB", layout.page, _PAGE)
    low, high = window(shown.volume)
    size = (layout.height * FINE, layout.width * FINE)
    for column, index in enumerate(layout.shown):
        grey = (resize_planes(normalise(plan.extract(shown.volume.array)[index], low, high), *size) + 1) * 127.5
        panels = [outlined(grey, plan.extract(shown.labels)[index], shown.colours)]
        if shown.uncertainty is not None:
            panels.append(heated(grey, resize_planes(plan.extract(shown.uncertainty)[index], *size) / 255.0))
        for row, panel in enumerate(panels):
            image = Image.fromarray(np.clip(panel, 0, 255).astype(np.uint8)).reduce(FINE)
            page.paste(image, layout.corner(column, row))
    return page


def _write_text(page: Image.Image, shown: Preview, plan: SlicePlan, layout: _Layout) -> None:
    from PIL import ImageDraw

    draw = ImageDraw.Draw(page)
    name = shown.volume.source.name if shown.volume.source else "scan"
    film = plan.view == "film"
    pitch = f"{plan.pixel_spacing_mm[0]:.2f} x {plan.pixel_spacing_mm[1]:.2f} mm"
    stack = f"{plan.slices} slices every {plan.slice_spacing_mm:.2f} mm" if plan.slices > 1 else "one slice"
    facts = (f"{plan.scan_cols} x {plan.scan_rows} pixels",) if film else (stack, pitch)
    _text(draw, (_MARGIN, 14), _shortened(name), _TITLE, _INK)
    _text(draw, (_MARGIN, 54), "  |  ".join((plan.view, *facts, *shown.remarks)), _SMALL, _FAINT)
    for column, index in enumerate(layout.shown):
        for row, what in enumerate(("mask", "uncertainty")[: layout.rows]):
            left, top = layout.corner(column, row)
            caption = what if plan.slices == 1 else f"slice {index + 1} of {plan.slices}" if row == 0 else what
            _text(draw, (left + 2, top + layout.height + 4), caption, _SMALL, _FAINT)
    if plan.view in _EDGES:
        _edges(draw, layout, _EDGES[plan.view])
    left = layout.page[0] - _LEGEND
    bottom = _legend(draw, (left, _HEADER), shown, film=film)
    if layout.rows == 2:
        _scale(page, draw, (left, bottom + 28))


def _write_marks(page: Image.Image, shown: Preview, plan: SlicePlan, layout: _Layout) -> None:
    from PIL import ImageDraw

    draw, grid, planes = ImageDraw.Draw(page), shown.volume.geometry, plan.extract(shown.labels)
    for name, point in shown.marks.items():
        offset = np.linalg.solve(grid.matrix, np.asarray(point, np.float64) - np.asarray(grid.origin_mm))
        index = offset / np.asarray(grid.spacing_mm)
        _, row, column = plan.place([float(at) for at in index[::-1]])
        if not (0 <= row < plan.scan_rows and 0 <= column < plan.scan_cols):
            continue
        for place, slice_index in enumerate(layout.shown):
            if planes[slice_index, int(row), int(column)]:
                left, top = layout.corner(place, 0)
                x = left + (column + 0.5) / plan.scan_cols * layout.width
                y = top + (row + 0.5) / plan.scan_rows * layout.height
                _text(draw, (round(x), round(y)), name, 13, _INK, anchor="mm", outlined=True)


def _legend(draw: ImageDraw.ImageDraw, corner: tuple[int, int], shown: Preview, *, film: bool) -> int:
    """Name and volume of each structure; returns where it ends, in pixels from the top."""
    (left, top), labels, table = corner, shown.labels, shown.label_table
    right = left + _LEGEND - _MARGIN
    counts = {label: int(np.count_nonzero(labels == label)) for label in table}
    _text(draw, (left, top), "Share of the film" if film else "Volume", _SMALL, _FAINT)
    top += 34
    for label, count in counts.items():
        value = f"{100 * count / labels.size:.1f} %" if film else f"{count * shown.volume.geometry.voxel_ml:.1f} ml"
        draw.rounded_rectangle((left, top + 5, left + 18, top + 23), 5, fill=shown.colours[label])
        _text(draw, (left + 30, top), _shortened(table[label], 16), _BODY, _INK)
        _text(draw, (right, top), value if count else "none", _BODY, _INK if count else _FAINT, anchor="ra")
        top += 36
    if not any(counts.values()):
        _text(draw, (left, top + 4), "No structure was found", _SMALL, PALETTE[2])
        top += 30
    return top


def _scale(page: Image.Image, draw: ImageDraw.ImageDraw, corner: tuple[int, int]) -> None:
    from PIL import Image

    left, top = corner
    width = _LEGEND - _MARGIN
    _text(draw, (left, top), "Uncertainty", _SMALL, _FAINT)
    bar = np.repeat(heat(np.linspace(0, 1, width))[None], 14, axis=0)
    page.paste(Image.fromarray(bar.astype(np.uint8)), (left, top + 32))
    _text(draw, (left, top + 52), "certain", _SMALL, _FAINT)
    _text(draw, (left + width, top + 52), "undecided", _SMALL, _FAINT, anchor="ra")


def _edges(draw: ImageDraw.ImageDraw, layout: _Layout, letters: Sequence[str]) -> None:
    """Which way the patient lies, on the first panel."""
    left, top = layout.corner(0, 0)
    middle, centre = top + layout.height // 2, left + layout.width // 2
    places = (
        (left + 5, middle, "lm"),
        (left + layout.width - 5, middle, "rm"),
        (centre, top + 4, "ma"),
        (centre, top + layout.height - 4, "md"),
    )
    for letter, (x, y, anchor) in zip(letters, places, strict=True):
        _text(draw, (x, y), letter, _SMALL, _INK, anchor=anchor, outlined=True)


def _text(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    size: int,
    colour: Colour,
    *,
    anchor: str = "la",
    outlined: bool = False,
) -> None:
    from PIL import ImageFont

    options: dict[str, Any] = {"stroke_width": 2, "stroke_fill": (0, 0, 0)} if outlined else {}
    draw.text(place, printable(text), colour, ImageFont.load_default(size), anchor=anchor, **options)


def _shortened(text: str, longest: int = 60) -> str:
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
