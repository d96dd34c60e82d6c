"""Files of several frames: each frame at the place and with the values that it states itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.imaging.make import packed, save_dicom, save_enhanced, textured
from verdiff.errors import InputError
from verdiff.imaging import Volume, read_volume

FRAMES = textured((6, 8, 10))
PLACES = [float(-3 * index) for index in range(6)]
SYNTAXES = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"]
PACKED = ["RLE", "JPEG", "JPEG2000"]


def scaling(slope: float, intercept: float) -> dict[str, dict[str, Any]]:
    values = {"RescaleSlope": str(slope), "RescaleIntercept": str(intercept), "RescaleType": "US"}
    return {"PixelValueTransformationSequence": values}


def assert_at_their_places(volume: Volume, values: np.ndarray, places: list[float]) -> None:
    """Every plane lies at the place of the frame that has its values."""
    assert len(volume.array) == len(places)
    for plane, place in zip(values, places, strict=True):
        index = next(i for i in range(len(places)) if np.array_equal(volume.array[i], plane))
        np.testing.assert_allclose(volume.geometry.index_to_mm([0, 0, index]), [place, -20, 30], atol=1e-6)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [0, 2, 4, 1, 3, 5], [3, 0, 5, 1, 4, 2]])
def test_frames_in_any_order_lie_where_they_say(tmp_path: Path, order: list[int], syntax: str) -> None:
    path = save_enhanced(tmp_path / "a.dcm", FRAMES[order], [PLACES[index] for index in order], syntax=syntax)
    volume = read_volume(path)
    assert_at_their_places(volume, FRAMES, PLACES)
    assert volume.geometry.spacing_mm == pytest.approx((0.75, 0.5, 3.0))
    assert volume.array.dtype == np.uint16 and volume.modality == "MR"


@pytest.mark.parametrize("syntax", [*SYNTAXES, *PACKED])
def test_each_frame_has_its_own_slope_and_intercept(tmp_path: Path, syntax: str) -> None:
    own = [scaling(0.5 + index, -10.0 * index) for index in range(6)]
    tags = {} if syntax in PACKED else {"syntax": syntax}
    path = save_enhanced(tmp_path / "a.dcm", FRAMES, PLACES, own=own, **tags)
    volume = read_volume(packed(path, syntax) if syntax in PACKED else path)
    expected = [(0.5 + index) * plane - 10.0 * index for index, plane in enumerate(FRAMES)]
    assert_at_their_places(volume, np.array(expected, np.float32), PLACES)


@pytest.mark.parametrize("pack", [None, *PACKED])
def test_a_slope_of_all_frames_and_one_of_the_file_are_applied(tmp_path: Path, pack: str | None) -> None:
    shared = save_enhanced(tmp_path / "a.dcm", FRAMES, PLACES, shared=scaling(2, -7))
    of_file = save_enhanced(tmp_path / "b.dcm", FRAMES, PLACES, RescaleSlope="2", RescaleIntercept="-7")
    for path in (shared, of_file):
        assert_at_their_places(read_volume(packed(path, pack) if pack else path), FRAMES * 2 - 7, PLACES)


MEASURES = {"PixelMeasuresSequence": {"PixelSpacing": [0.5, 0.75]}}


@pytest.mark.parametrize(
    ("places", "groups", "message"),
    [
        ([0.0, -3.0, -6.0, -15.0, -18.0, -21.0], {}, r"frame 3 .* are 9\.00 mm apart where the others are 3\.00"),
        ([0.0, -3.0, -6.0, 0.0, -3.0, -6.0], {}, "share a position, as 2 more do"),
        ([0.0, 0.0, -3.0, -3.0, -6.0, -6.0], {}, "share a position"),
        ([0.0, -3.0, -6.1, -9.3, -12.6, -16.0], {}, "mm apart where the others"),
        ([[-3.0 * i, 0, 0.8 * i] for i in range(6)], {}, r"tilted gantry.*14\.93 degrees"),
        ([[-3.0 * i, 12.0 * (i == 2), 0] for i in range(6)], {}, r"frame 3 of .* is shifted by 12\.00 mm"),
        ([0.0, -3.0, None, -9.0, -12.0, -15.0], {}, "frame 3 .* lacks Image Position"),
        (
            PLACES,
            {4: {"PlaneOrientationSequence": {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}}},
            "frame 5 .* orientation",
        ),
        (PLACES, {4: {"PixelMeasuresSequence": {"PixelSpacing": [0.5, 0.8]}}}, "frame 5 .* pixel spacing"),
        (PLACES, {4: scaling(0, 3)}, "frame 5 .* rescale slope of 0"),
    ],
)
def test_frames_that_form_no_volume_are_refused_with_frame_and_reason(
    tmp_path: Path, places: list[Any], groups: dict[int, Any], message: str
) -> None:
    own = [groups.get(index, {}) for index in range(6)]
    path = save_enhanced(tmp_path / "a.dcm", FRAMES, places, own=own)
    with pytest.raises(InputError, match=message) as caught:
        read_volume(path)
    assert "a.dcm" in caught.value.found and caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("shared", "lacking"),
    [({"PixelMeasuresSequence": {}}, "Pixel Spacing"), ({"PlaneOrientationSequence": {}}, "Image Orientation")],
)
def test_what_no_frame_states_is_never_made_up(tmp_path: Path, shared: dict[str, Any], lacking: str) -> None:
    with pytest.raises(InputError, match=f"lacks {lacking}"):
        read_volume(save_enhanced(tmp_path / "a.dcm", FRAMES, PLACES, shared=shared))


def test_as_many_frames_are_described_as_there_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="states 6 frames and describes 5"):
        read_volume(save_enhanced(tmp_path / "a.dcm", FRAMES, PLACES[:5]))
    with pytest.raises(InputError, match="truncated or damaged"):
        read_volume(save_enhanced(tmp_path / "a.dcm", FRAMES, PLACES[:5], NumberOfFrames=5))


def test_several_frames_under_one_position_are_refused(tmp_path: Path) -> None:
    frames = FRAMES.astype("<u2").tobytes()
    path = save_dicom(tmp_path / "a.dcm", FRAMES[0], NumberOfFrames=6, PixelData=frames)
    with pytest.raises(InputError, match=r"frame 1 of .* lacks Image Position"):
        read_volume(path)


def test_a_series_of_files_with_several_frames_is_one_stack(tmp_path: Path) -> None:
    for name, chosen in (("a.dcm", [1, 3, 5]), ("b.dcm", [4, 0, 2])):
        save_enhanced(tmp_path / name, FRAMES[chosen], [PLACES[index] for index in chosen])
    assert_at_their_places(read_volume(tmp_path), FRAMES, PLACES)
    save_enhanced(tmp_path / "c.dcm", FRAMES[:1], [PLACES[2]])
    with pytest.raises(InputError, match=r"c\.dcm and frame 3 of b\.dcm of .* share a position"):
        read_volume(tmp_path)
