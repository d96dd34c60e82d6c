"""The preview: a legible picture for every kind of scan, in the scan's true proportions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.imaging.make import textured
from verdiff.errors import InputError
from verdiff.imaging import Geometry, Volume, plan_slices
from verdiff.imaging.panels import PALETTE
from verdiff.imaging.preview import Preview, _choose, _layout, preview_png

TABLE = {1: "vertebra", 2: "disc"}
SAGITTAL = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0)


def scan(shape: tuple[int, int, int] = (9, 40, 30), pitch: tuple[float, float] = (1.0, 1.0)) -> Volume:
    return Volume(textured(shape), Geometry(shape[::-1], (pitch[1], pitch[0], 4.0), direction=SAGITTAL))


def blocks(volume: Volume) -> np.ndarray:
    labels = np.zeros(volume.array.shape, np.uint8)
    labels[:, 8:20, 8:20] = 1
    labels[:, 24:30, 8:20] = 2
    return labels


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def near(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(picture - colour).max(axis=-1) < 12).sum())


def test_every_structure_is_outlined_in_its_colour(tmp_path: Path) -> None:
    volume = scan()
    preview_png(tmp_path / "a.png", Preview(volume, blocks(volume), np.zeros(volume.array.shape, np.uint8), TABLE))
    preview_png(tmp_path / "b.png", Preview(volume, 0 * blocks(volume), np.zeros(volume.array.shape, np.uint8), TABLE))
    drawn, empty = pixels(tmp_path / "a.png"), pixels(tmp_path / "b.png")
    for colour in PALETTE[:2]:
        assert near(drawn, colour) > near(empty, colour) + 500


def test_uncertain_places_glow(tmp_path: Path) -> None:
    volume, glow = scan(), np.zeros((9, 40, 30), np.uint8)
    preview_png(tmp_path / "a.png", Preview(volume, blocks(volume), glow, TABLE))
    glow[:, 10:20, 10:20] = 255
    preview_png(tmp_path / "b.png", Preview(volume, blocks(volume), glow, TABLE))
    hot = (252, 250, 190)
    assert near(pixels(tmp_path / "b.png"), hot) > near(pixels(tmp_path / "a.png"), hot) + 1000


def test_a_mark_is_written_on_the_mask_where_its_point_lies_and_not_beside_it(tmp_path: Path) -> None:
    volume = scan()
    labels = blocks(volume)
    inside, beside = (volume.geometry.index_to_mm(place) for place in ([14, 14, 4], [25, 14, 4]))
    for name, marks in (("without", {}), ("inside", {"L4": inside}), ("beside", {"L4": beside})):
        preview_png(tmp_path / f"{name}.png", Preview(volume, labels, None, TABLE, marks=marks))
    without, written, nothing = (pixels(tmp_path / f"{name}.png") for name in ("without", "inside", "beside"))
    assert (without == nothing).all()
    rows, columns = np.nonzero((without != written).any(axis=-1))
    layout = _layout(plan_slices(volume.geometry, view="sagittal", spacing_mm=None), labels, rows=1)
    left, top = layout.corner(0, 0)
    assert abs((rows.min() + rows.max()) / 2 - (top + layout.height * 14.5 / 40)) < 4
    assert abs(columns.min() - (left + layout.width * 14.5 / 30)) < 15


def test_without_uncertainty_the_page_has_one_row(tmp_path: Path) -> None:
    volume = scan((9, 120, 60))
    labels = np.zeros(volume.array.shape, np.uint8)
    preview_png(tmp_path / "one.png", Preview(volume, labels, None, TABLE))
    preview_png(tmp_path / "two.png", Preview(volume, labels, labels, TABLE))
    assert Image.open(tmp_path / "one.png").height < Image.open(tmp_path / "two.png").height


@pytest.mark.parametrize("pitch", [(1.0, 1.0), (0.5, 1.5), (2.0, 0.7)])
def test_panels_have_the_proportions_of_the_body(pitch: tuple[float, float]) -> None:
    volume = scan((9, 80, 60), pitch)
    plan = plan_slices(volume.geometry, view="sagittal", spacing_mm=None)
    layout = _layout(plan, plan.extract(volume.array), rows=2)
    assert layout.width / layout.height == pytest.approx(60 * pitch[1] / (80 * pitch[0]), rel=0.02)
    assert 3 <= len(layout.shown) <= 5


def test_the_slices_shown_are_those_with_something_in_them() -> None:
    planes = np.zeros((40, 4, 4), np.uint8)
    planes[10:20] = 1
    assert all(10 <= index < 20 for index in _choose(planes, 4))
    assert _choose(np.zeros((3, 4, 4)), 3) == (0, 1, 2)
    planes[15:] = 0
    planes[12] = 1
    assert len(set(_choose(planes, 5))) == 5


def test_a_film_has_its_uncertainty_beside_it(tmp_path: Path) -> None:
    film = Volume(textured((1, 90, 40)), Geometry((40, 90, 1), (1.0, 1.0, 1.0)), "XR")
    labels = np.zeros(film.array.shape, np.uint8)
    preview_png(tmp_path / "film.png", Preview(film, labels, labels, TABLE))
    preview_png(tmp_path / "alone.png", Preview(film, labels, None, TABLE))
    assert Image.open(tmp_path / "film.png").width > Image.open(tmp_path / "alone.png").width
    assert Image.open(tmp_path / "film.png").height == Image.open(tmp_path / "alone.png").height


def test_maps_of_another_grid_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    volume = scan()
    with pytest.raises(InputError, match="labels of shape"):
        preview_png(tmp_path / "a.png", Preview(volume, np.zeros((1, 2, 3), np.uint8), None, TABLE))
    with pytest.raises(InputError, match="uncertainty of shape"):
        preview_png(tmp_path / "a.png", Preview(volume, blocks(volume), np.zeros((1, 2, 3), np.uint8), TABLE))
    assert not list(tmp_path.iterdir())
