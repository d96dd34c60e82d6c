"""What states the position of its slices forms a volume in any order, or is refused with the slice and the reason."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.imaging.make import rotation
from verdiff.errors import InputError
from verdiff.imaging.stack import Plane, single, stack


def planes(count: int = 6, step: float = 3.0, turn: np.ndarray | None = None, digits: int = 6) -> list[Plane]:
    """Evenly spaced slices in one box, their positions and cosines rounded as DICOM's decimal strings are."""
    turn = np.eye(3) if turn is None else turn
    origin = np.array([12.5, -40.25, 101.0])
    return [
        Plane(
            f"{index:03d}.dcm",
            (40, 30),
            (0.5, 0.75),
            tuple(np.round(origin + index * step * turn[:, 2], digits).tolist()),
            tuple(np.round(turn[:, :2].T.ravel(), digits).tolist()),
        )
        for index in range(count)
    ]


angle = st.floats(-0.7, 0.7)


@given(st.permutations(range(6)), st.tuples(angle, angle, angle), st.floats(0.6, 6.0))
def test_the_order_of_the_files_does_not_matter_and_every_position_is_the_computed_one(
    order: list[int], angles: tuple[float, float, float], step: float
) -> None:
    stated = planes(step=step, turn=rotation(angles))
    found, geometry, notes = stack([stated[index] for index in order], "series")
    assert [order[index] for index in found] == list(range(6)) and notes == ()
    for index, plane in enumerate(stated):
        np.testing.assert_allclose(geometry.index_to_mm([0, 0, index]), plane.position, atol=0.01)
    assert geometry.spacing_mm == pytest.approx((0.75, 0.5, step), abs=1e-5)


def moved(index: int, *by: float) -> Callable[[list[Plane]], None]:
    def change(stated: list[Plane]) -> None:
        there = np.add(stated[index].position, by)
        stated[index] = replace(stated[index], position=tuple(there.tolist()))

    return change


def with_values(index: int, **values: object) -> Callable[[list[Plane]], None]:
    def change(stated: list[Plane]) -> None:
        stated[index] = replace(stated[index], **values)  # type: ignore[arg-type]

    return change


def without(*indices: int) -> Callable[[list[Plane]], None]:
    def change(stated: list[Plane]) -> None:
        stated[:] = [plane for index, plane in enumerate(stated) if index not in indices]

    return change


def growing(stated: list[Plane]) -> None:
    for index in range(len(stated)):
        moved(index, 0, 0, 0.02 * index * index)(stated)


def tilted(degrees: float) -> Callable[[list[Plane]], None]:
    def change(stated: list[Plane]) -> None:
        for index in range(len(stated)):
            moved(index, 0, index * 3.0 * math.tan(math.radians(degrees)), 0)(stated)

    return change


def interleaved(stated: list[Plane]) -> None:
    stated += [replace(plane, name=f"echo2-{plane.name}") for plane in stated]


REFUSED = [
    pytest.param(moved(2, 12, 0, 0), r"slice 002\.dcm of series is shifted by 12\.00 mm", id="one beside the others"),
    pytest.param(moved(0, 0, -0.3, 0), r"slice 000\.dcm .* shifted by 0\.30 mm", id="the first beside the others"),
    pytest.param(moved(5, 0, 0.2, 0), r"slice 005\.dcm .* shifted by 0\.20 mm", id="the last beside the others"),
    pytest.param(moved(3, 0, 0, 0.4), r"mm apart where the others are 3\.00", id="one up"),
    pytest.param(moved(5, 0, 0, 0.2), r"004\.dcm and 005\.dcm .* 3\.20 mm apart", id="the last step longer"),
    pytest.param(without(2), r"001\.dcm and 003\.dcm of series are 6\.00 mm apart", id="a gap"),
    pytest.param(without(2, 3), r"001\.dcm and 004\.dcm of series are 9\.00 mm apart", id="a wider gap"),
    pytest.param(growing, "mm apart where the others are", id="growing steps"),
    pytest.param(interleaved, "share a position, as 5 more do", id="two echoes"),
    pytest.param(moved(2, 0, 0, -2.995), r"001\.dcm and 002\.dcm .* share a position", id="almost one position"),
    pytest.param(tilted(15), r"tilted gantry.*15\.00 degrees", id="a tilted gantry"),
    pytest.param(tilted(0.1), r"tilted gantry.*0\.10 degrees", id="a slightly tilted gantry"),
    pytest.param(with_values(3, size=(30, 40)), r"003\.dcm of series differ in size", id="another size"),
    pytest.param(with_values(3, pixel_spacing=(0.5, 0.76)), r"003\.dcm .* differ in pixel spacing", id="a spacing"),
    pytest.param(with_values(3, orientation=(0, 1, 0, 1, 0, 0)), "differ in orientation", id="another plane"),
    pytest.param(
        with_values(3, orientation=(math.cos(0.01), math.sin(0.01), 0, -math.sin(0.01), math.cos(0.01), 0)),
        "differ in orientation",
        id="turned in its plane",
    ),
    pytest.param(with_values(3, orientation=(-1, 0, 0, 0, 1, 0)), "differ in orientation", id="mirrored"),
    pytest.param(with_values(3, position=()), r"003\.dcm of series .* lacks Image Position", id="no position"),
    pytest.param(with_values(3, orientation=()), "lacks Image Orientation", id="no orientation"),
    pytest.param(with_values(3, pixel_spacing=()), "lacks Pixel Spacing", id="no spacing"),
    pytest.param(with_values(3, pixel_spacing=(0.0, 0.5)), "pixel spacing of 0 x 0.5", id="zero spacing"),
    pytest.param(with_values(3, position=(0, math.nan, 0)), "has the position 0, nan, 0", id="no number"),
    pytest.param(with_values(3, orientation=(1, 0, 0, 1, 0, 0)), "directions at right angles", id="two axes alike"),
    pytest.param(with_values(3, orientation=(0,) * 6), "directions at right angles", id="no direction"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
@pytest.mark.parametrize("reversed_", [False, True])
def test_slices_that_form_no_volume_are_refused_with_slice_and_reason(
    change: Callable[[list[Plane]], None], message: str, reversed_: bool
) -> None:
    stated = planes()
    change(stated)
    with pytest.raises(InputError, match=message):
        stack(stated[::-1] if reversed_ else stated, "series")


@pytest.mark.parametrize(
    "change",
    [
        with_values(3, pixel_spacing=(0.500001, 0.75)),
        with_values(3, orientation=(1, 1e-6, 0, -1e-6, 1, 0)),
        moved(3, 0, 0, 0.005),
        moved(3, 0.004, 0.004, 0),
        tilted(0.01),
    ],
)
def test_what_rounding_leaves_is_read(change: Callable[[list[Plane]], None]) -> None:
    stated = planes()
    change(stated)
    _, geometry, _ = stack(stated, "series")
    for index, plane in enumerate(stated):
        np.testing.assert_allclose(geometry.index_to_mm([0, 0, index]), plane.position, atol=0.031)


def test_a_slice_alone_has_its_thickness_or_is_kept_near_a_cube() -> None:
    plane = planes(1)[0]
    assert single(replace(plane, thickness=4.0)).spacing_mm == (0.75, 0.5, 4.0)
    assert single(plane).spacing_mm[2] == pytest.approx(math.sqrt(0.375))


def rounded(
    step: float, count: int = 12, decimals: int = 1, angles: tuple[float, float, float] = (0, 0, 0)
) -> list[Plane]:
    """A sound stack whose writer rounds positions."""
    sound = planes(count, step=step, turn=rotation(angles))
    return [
        replace(plane, position=tuple(np.round(plane.position, decimals).tolist()), decimals=decimals)
        for plane in sound
    ]


@given(st.tuples(angle, angle, angle), st.floats(0.6, 6.0), st.integers(2, 40), st.sampled_from([1, 2]))
def test_positions_that_a_writer_rounds_to_a_tenth_or_a_hundredth_are_read_with_a_note(
    angles: tuple[float, float, float], step: float, count: int, decimals: int
) -> None:
    _, geometry, notes = stack(rounded(step, count, decimals, angles), "series")
    for index, plane in enumerate(planes(count, step=step, turn=rotation(angles))):
        np.testing.assert_allclose(geometry.index_to_mm([0, 0, index]), plane.position, atol=0.2)
    assert geometry.spacing_mm[2] == pytest.approx(step, abs=0.2 / (count - 1) + 1e-3)
    assert all(f"rounded ({decimals} decimals)" in note for note in notes)


@pytest.mark.parametrize("count", [2, 3, 5, 12])
@pytest.mark.parametrize(("decimals", "across"), [(1, 0.1), (2, 0.01)])
def test_a_short_stack_whose_rounding_looks_like_a_tilt_lies_along_its_normal(
    count: int, decimals: int, across: float
) -> None:
    stated = [replace(plane, decimals=decimals) for plane in planes(count, step=4.4)]
    moved(count - 1, across, across, 0)(stated)
    _, geometry, notes = stack(stated, "series")
    np.testing.assert_allclose(geometry.matrix[:, 2], [0, 0, 1], atol=1e-9)
    assert len(notes) == (decimals == 1)


@pytest.mark.parametrize("count", [2, 3, 5, 20])
@pytest.mark.parametrize("degrees", [1, 15])
@pytest.mark.parametrize("decimals", [None, 2, 6])
def test_a_tilted_gantry_is_no_rounding_however_few_slices_there_are(
    count: int, degrees: float, decimals: int | None
) -> None:
    stated = [replace(plane, decimals=decimals) for plane in planes(count)]
    tilted(degrees)(stated)
    with pytest.raises(InputError, match="tilted gantry"):
        stack(stated, "series")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without(5), "mm apart where"),
        (growing, "mm apart where"),
        (moved(6, 0, 0, 0.3), "mm apart where"),
        (moved(6, 0.3, 0, 0), "shifted by"),
    ],
)
def test_rounding_excuses_no_gap_no_growing_step_and_no_shift(
    change: Callable[[list[Plane]], None], message: str
) -> None:
    stated = rounded(3.37)
    stack(stated, "series")
    change(stated)
    with pytest.raises(InputError, match=message):
        stack(stated, "series")


def test_positions_with_more_decimals_or_of_unknown_decimals_are_held_to_them() -> None:
    uneven = rounded(3.37)
    assert stack(uneven, "series")[2]
    for decimals in (2, None):
        with pytest.raises(InputError, match="mm apart where"):
            stack([replace(plane, decimals=decimals) for plane in uneven], "series")
