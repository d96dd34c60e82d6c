"""Several volumes in one series are told apart by what their frames say, and none is taken in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.imaging.make import save_dicom, save_enhanced, save_nifti, save_series, textured
from verdiff.errors import InputError
from verdiff.imaging import read_volume

TIMES, PLACES = 3, [0.0, 3.0, 6.0, 9.0]
FRAMES = textured((TIMES * len(PLACES), 6, 8))
TEMPORAL, ECHO_TIME, STACK, IN_STACK = 0x00209128, 0x00189082, 0x00209056, 0x00209057


def dimensions(*tags: int, label: str = "") -> list[Any]:
    from pydicom.dataset import Dataset

    items = []
    for tag in tags:
        item = Dataset()
        item.DimensionIndexPointer = tag
        if label:
            item.DimensionDescriptionLabel = label
        items.append(item)
    return items


def save_times(path: Path, *tags: int, order: list[int] | None = None, label: str = "", **more: Any) -> Path:
    """Frames of three volumes, time by time, with their index in every dimension."""
    order = order if order is not None else list(range(len(FRAMES)))
    own = []
    for index in order:
        time, place = divmod(index, len(PLACES))
        # In every dimension that is none of space, the time counts from 2.
        values = [{STACK: 1, IN_STACK: place + 1}.get(tag, time + 2) for tag in tags]
        content = {"DimensionIndexValues": values} if tags else {"TemporalPositionIndex": time + 2}
        own.append({"FrameContentSequence": content})
    places = [PLACES[index % len(PLACES)] for index in order]
    sequence = {"DimensionIndexSequence": dimensions(*tags, label=label)} if tags else {}
    return save_enhanced(path, FRAMES[order], places, own=own, **sequence, **more)


SYNTAXES = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"]


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("tags", [(STACK, IN_STACK, TEMPORAL), (ECHO_TIME, IN_STACK), ()])
def test_a_time_point_is_told_by_its_index(tmp_path: Path, tags: tuple[int, ...], syntax: str) -> None:
    order = [7, 2, 11, 0, 5, 8, 3, 10, 1, 6, 9, 4]
    path = save_times(tmp_path / "a.dcm", *tags, order=order, syntax=syntax)
    for time in range(TIMES):
        volume = read_volume(path, time_point=time + 1)
        places = volume.geometry.index_to_mm([[0, 0, z] for z in range(len(PLACES))])[:, 0]
        expected = FRAMES[time * len(PLACES) :][: len(PLACES)]
        np.testing.assert_array_equal(volume.array, expected[[PLACES.index(place) for place in places]])
        assert volume.notes == (volume.notes[0],) and f"volume {time + 1} of 3 was chosen" in volume.notes[0]
        assert volume.identity is not None
        numbers = [each.number for each in volume.identity.slices]
        assert numbers == [order.index(time * len(PLACES) + PLACES.index(place)) + 1 for place in places]


@pytest.mark.parametrize(
    ("tag", "label", "named"),
    [
        (TEMPORAL, "", "Temporal Position Index"),
        (ECHO_TIME, "echo", "Effective Echo Time"),
        (0x00211001, "b value", "b value"),
        (0x00211001, "", r"\(0021,1001\)"),
    ],
)
def test_none_is_taken_in_silence(tmp_path: Path, tag: int, label: str, named: str) -> None:
    path = save_times(tmp_path / "a.dcm", IN_STACK, tag, label=label)
    with pytest.raises(InputError, match=rf"holds 3 volumes, told apart by {named} \(2, 3, 4\)") as caught:
        read_volume(path)
    assert "--time-point 1 to 3" in caught.value.remedy
    with pytest.raises(InputError, match="time point 4 is not there"):
        read_volume(path, time_point=4)


def test_frames_that_nothing_tells_apart_share_a_position(tmp_path: Path) -> None:
    places = [PLACES[index % len(PLACES)] for index in range(len(FRAMES))]
    with pytest.raises(InputError, match="share a position"):
        read_volume(save_enhanced(tmp_path / "a.dcm", FRAMES, places))


def test_an_index_that_grows_with_the_slices_makes_no_volumes(tmp_path: Path) -> None:
    own = [{"FrameContentSequence": {"TemporalPositionIndex": index + 1}} for index in range(len(PLACES))]
    path = save_enhanced(tmp_path / "a.dcm", FRAMES[: len(PLACES)], PLACES, own=own)
    assert read_volume(path).notes == ()


def test_files_of_several_time_points_are_told_by_their_temporal_position(tmp_path: Path) -> None:
    (tmp_path / "dynamic").mkdir()
    for index, frame in enumerate(FRAMES):
        time, place = divmod(index, len(PLACES))
        tags = {"ImagePositionPatient": [PLACES[place], -20, 30], "TemporalPositionIdentifier": time + 1}
        save_dicom(tmp_path / "dynamic" / f"{index}.dcm", frame, **tags)
    with pytest.raises(InputError, match=r"3 volumes, told apart by Temporal Position Identifier \(1, 2, 3\)"):
        read_volume(tmp_path / "dynamic")
    assert len(read_volume(tmp_path / "dynamic", time_point=2).array) == len(PLACES)


def test_a_time_point_of_what_has_none_is_refused(tmp_path: Path) -> None:
    save_series(tmp_path / "t2", PLACES)
    assert len(read_volume(tmp_path / "t2", time_point=1).array) == len(PLACES)
    with pytest.raises(InputError, match=r"time point 2 of .*, which holds one volume"):
        read_volume(tmp_path / "t2", time_point=2)
    with pytest.raises(InputError, match="which is no DICOM"):
        read_volume(save_nifti(tmp_path / "a.nii", textured((3, 6, 8))), time_point=1)
