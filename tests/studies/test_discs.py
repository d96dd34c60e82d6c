"""Groups of patients by their discs: measures of drawn discs, and the file that a table takes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from studies.__main__ import app
from studies.training.discs import NARROWED, OTHERS, Disc, discs_of, judged
from studies.training.table import read_groups
from tests.benchmarks.tiny_fold import SAGITTAL
from verdiff.errors import DataError
from verdiff.imaging import volume_from, write_array

SPACING = (0.5, 0.5)


def drawn(heights: list[float], *, tilt: float = 0.0, greys: list[int] | None = None) -> tuple[NDArray, NDArray]:
    """Discs 30 mm deep, one below the other in slices of 120 x 50 mm: masks and images [3, 240, 100]."""
    masks, images = np.zeros((3, 240, 100), bool), np.full((3, 240, 100), 60, np.uint8)
    rows, cols = np.mgrid[:240, :100] * 0.5
    for number, height in enumerate(heights):
        down, back = rows - 15 - 25 * number, cols - 25
        along, across = back * np.cos(tilt) + down * np.sin(tilt), down * np.cos(tilt) - back * np.sin(tilt)
        one = (abs(along) < 15) & (abs(across) < height / 2)
        masks[:, one] = True
        images[:, one] = (greys or [100 - 10 * each for each in range(len(heights))])[number]
    return masks, images


@pytest.mark.parametrize("tilt", [0.0, 0.3, -0.5])
def test_heights_and_depths_are_those_that_were_drawn_however_the_discs_lie(tilt: float) -> None:
    masks, images = drawn([8.0, 9.0, 5.0], tilt=tilt)
    discs = discs_of(masks, images, SPACING)
    assert [disc.height_mm for disc in discs] == pytest.approx([8.0, 9.0, 5.0], abs=0.8)
    assert [disc.depth_mm for disc in discs] == pytest.approx([30.0] * 3, rel=0.12)
    assert [disc.signal for disc in discs] == [100, 90, 80]


def test_a_disc_that_the_picture_cuts_is_left_out() -> None:
    masks, images = drawn([8.0, 9.0])
    assert len(discs_of(masks[:, 20:], images[:, 20:], SPACING)) == 2
    assert len(discs_of(masks[:, 26:], images[:, 26:], SPACING)) == 1


@pytest.mark.parametrize(
    ("heights", "signals", "narrowed"),
    [
        ((6, 8, 10), (100, 90, 80), False),
        ((8, 10, 6), (100, 90, 80), True),
        # Low and no darker than the one above, as a healthy last disc may be.
        ((8, 10, 6), (100, 90, 95), False),
        ((8, 10, 7), (100, 90, 80), False),
        # All alike, and collapsed.
        ((2.5, 2.5, 2.5), (50, 50, 50), True),
        ((4,), (50,), False),
    ],
)
def test_what_makes_a_disc_a_narrowed_one(
    heights: tuple[float, ...], signals: tuple[float, ...], narrowed: bool
) -> None:
    discs = tuple(
        Disc(row, height, 30.0, signal) for row, (height, signal) in enumerate(zip(heights, signals, strict=True))
    )
    assert judged("a", discs).narrowed is narrowed


def test_the_file_is_one_that_a_table_takes(tmp_path: Path) -> None:
    data = tmp_path / "Dataset900_Toy"
    for part in ("imagesTr", "labelsTr"):
        (data / part).mkdir(parents=True)
    for name, heights in (("a", [8.0, 9.0, 9.0]), ("b", [8.0, 9.0, 4.0])):
        masks, images = drawn(heights)
        for part, file, array in (("imagesTr", f"{name}_0000", images), ("labelsTr", name, 2 * masks.astype(np.uint8))):
            volume = volume_from((array, (0.5, 0.5, 3.0), SAGITTAL))
            write_array(array, volume, data / part / f"{file}.nii.gz")
    about = {"labels": {"background": 0, "vertebra": 1, "disc": 2}, "file_ending": ".nii.gz"}
    (data / "dataset.json").write_text(json.dumps(about), "utf-8")
    result = CliRunner().invoke(app, ["groups", str(data), "-o", str(tmp_path / "groups.csv")])
    assert result.exit_code == 0 and "1 of 2 cases have a narrowed disc" in result.output
    assert read_groups(tmp_path / "groups.csv") == {OTHERS: ["a"], NARROWED: ["b"]}
    (data / "dataset.json").write_text(json.dumps({**about, "labels": {"background": 0, "vertebra": 1}}), "utf-8")
    refused = CliRunner().invoke(app, ["groups", str(data), "-o", str(tmp_path / "others.csv")])
    assert refused.exit_code == DataError.exit_code and not (tmp_path / "others.csv").exists()
