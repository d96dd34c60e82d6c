"""Volumes that the field of view cuts are marked: in the statistics, in the remarks, on the line that is printed."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.anatomy.phantom import LABELS, Phantom, spine
from verdiff.anatomy import AnatomyFiles, Spine, find_vertebrae, write_anatomy
from verdiff.anatomy.files import statistics_of
from verdiff.commands.infer_lines import spine_lines
from verdiff.imaging import Geometry, Volume, sides_cut


def roomy(count: int) -> Phantom:
    """A phantom with air behind its longest process."""
    made = spine(count)
    wide = [np.pad(array, [(0, 0), (0, 0), (0, 8)]) for array in (made.labels, made.truth)]
    z, y, x = wide[0].shape
    return replace(made, labels=wide[0], truth=wide[1], geometry=replace(made.geometry, size=(x, y, z)))


def part(made: Phantom, axis: int, keep: slice) -> tuple[np.ndarray, Geometry]:
    """Labels and grid of a field of view that ends earlier along one axis of the array."""
    labels = np.take(made.labels, range(made.labels.shape[axis])[keep], axis=axis)
    z, y, x = labels.shape
    return labels, replace(made.geometry, size=(x, y, z))


def test_whole_vertebrae_are_marked_as_whole() -> None:
    made = roomy(4)
    found = find_vertebrae(made.labels, made.geometry, LABELS)
    assert [(vertebra.volume_complete, vertebra.cut_sides) for vertebra in found.vertebrae] == [(True, ())] * 4
    assert not [remark for remark in found.remarks if "field of view" in remark]


# Array axes z, y, x of the phantom run to the left, down and back.
@pytest.mark.parametrize(
    ("axis", "keep", "side"),
    [
        (0, slice(0, 14), "left"),
        (0, slice(7, None), "right"),
        (2, slice(0, 28), "posterior"),
        (2, slice(8, None), "anterior"),
    ],
)
def test_vertebrae_that_are_cut_beside_their_bodies_are_complete_and_their_volumes_are_not(
    axis: int, keep: slice, side: str
) -> None:
    labels, geometry = part(roomy(4), axis, keep)
    found = find_vertebrae(labels, geometry, LABELS, lowest="L5")
    cut = [vertebra for vertebra in found.vertebrae if side in vertebra.cut_sides]
    assert cut and all(vertebra.complete and not vertebra.volume_complete for vertebra in cut)
    (remark,) = [remark for remark in found.remarks if "field of view cuts" in remark]
    assert all(vertebra.name in remark for vertebra in cut)
    lines = {line.split()[0]: line for line in spine_lines(found, AnatomyFiles())}
    assert all(f"cuts it ({side}" in lines[vertebra.name] for vertebra in cut)
    rows = {row["level"]: row for row in statistics_of(found)["vertebrae"]}
    assert all(rows[vertebra.level]["volume_complete"] is False for vertebra in cut)


def test_the_statistics_say_it_in_json_and_in_the_table(tmp_path: Path) -> None:
    labels, geometry = part(roomy(4), 0, slice(0, 14))
    found = find_vertebrae(labels, geometry, LABELS)

    folder = tmp_path
    write_anatomy(found, Volume(labels, geometry), AnatomyFiles(statistics=folder / "a.json"))
    rows = list(csv.DictReader(io.StringIO((folder / "a.csv").read_text("utf-8"))))
    assert [row["volume_complete"] for row in rows] == [str(each.volume_complete) for each in found.vertebrae]
    assert rows[0]["cut_sides"] == "left"


def test_a_vertebra_whose_body_the_scan_cuts_has_no_whole_volume() -> None:
    labels, geometry = part(roomy(4), 1, slice(10, None))
    top = find_vertebrae(labels, geometry, LABELS).vertebrae[-1]
    assert (top.complete, top.volume_complete, top.cut_sides) == (False, False, ("superior",))


@pytest.mark.parametrize(
    ("plane", "side"),
    [((0, 1, 1), "inferior"), ((4, 1, 1), "superior"), ((1, 0, 1), "anterior"), ((1, 4, 1), "posterior")],
)
def test_sides_are_the_patient_s_whatever_the_axes(plane: tuple[int, int, int], side: str) -> None:
    mask = np.zeros((5, 5, 5), bool)
    mask[plane] = True
    grid = Geometry((5, 5, 5), (1.0, 1.0, 1.0))
    assert sides_cut(mask, grid) == (side,)
    turned = Geometry((5, 5, 5), (1.0, 1.0, 1.0), direction=(-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, -1.0))
    assert sides_cut(mask[::-1, ::-1, ::-1], turned) == (side,)


def test_the_sides_of_a_film_are_the_picture_s() -> None:
    mask = np.zeros((1, 6, 4), bool)
    mask[0, 0, 1] = mask[0, 2, 3] = True
    assert sides_cut(mask, Geometry((4, 6, 1), (1.0, 1.0, 1.0))) == ("right", "top")


def test_nothing_reaches_no_side() -> None:
    assert sides_cut(np.zeros((3, 3, 3), bool), Geometry((3, 3, 3), (1.0, 1.0, 1.0))) == ()


class TestNames:
    """Files of discs and vertebrae are named by one rule."""

    @staticmethod
    def with_a_disc_above() -> Phantom:
        """Three vertebrae, the fourth taken for nothing, so that its disc lies above the topmost."""
        made = spine(4)
        made.labels[made.truth == 4] = 0
        return made

    def names(self, lowest: str | None) -> Spine:
        made = self.with_a_disc_above()
        return find_vertebrae(made.labels, made.geometry, LABELS, lowest=lowest)

    def test_the_disc_above_the_topmost_vertebra_has_its_level_too(self) -> None:
        found = self.names("L3")
        assert [vertebra.name for vertebra in found.vertebrae] == ["L3", "L2", "L1"]
        discs = [name for name in found.structures if name.startswith("disc")]
        assert discs == ["disc-below-L3", "disc-below-L2", "disc-below-L1", "disc-below-T12"]

    def test_without_levels_all_have_numbers(self) -> None:
        found = self.names(None)
        assert [name for name in found.structures if name.startswith("disc")] == [
            f"disc-below-vertebra-{number:02d}" for number in (1, 2, 3, 4)
        ]

    def test_a_disc_below_a_vertebra_that_the_mask_misses_is_named_after_it(self) -> None:
        made = spine(5)
        made.labels[(made.truth == 3)] = 0
        found = find_vertebrae(made.labels, made.geometry, LABELS, lowest="L5")
        assert "L3" not in found.structures
        assert {"disc-below-L5", "disc-below-L4", "disc-below-L2"} <= set(found.structures)
        assert not [name for name in found.structures if "vertebra-" in name]

    def test_above_c1_there_is_no_level_to_count_to(self) -> None:
        found = self.names("C3")
        assert found.name_of(4) == "vertebra-04"


def test_unknown_levels_name_the_option_that_gives_them() -> None:
    made = spine(3)
    found = find_vertebrae(made.labels, made.geometry, LABELS)
    assert any("--lowest" in remark for remark in found.remarks)
    assert "--lowest" in spine_lines(found, AnatomyFiles())[0]
    named = find_vertebrae(made.labels, made.geometry, LABELS, lowest="L5")
    assert not any("--lowest" in line for line in (*named.remarks, *spine_lines(named, AnatomyFiles())))


def test_a_count_that_cannot_be_names_the_option_too() -> None:
    made = spine(5)
    found = find_vertebrae(made.labels, made.geometry, LABELS, lowest="C3")
    assert found.named_by is None and "--lowest" in spine_lines(found, AnatomyFiles())[0]
