"""Vertebrae of a phantom whose vertebrae are known: found, parted, counted, named and measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.anatomy.phantom import BODY_MM, DISC, LABELS, PITCH_MM, VERTEBRA, overlap, spine
from verdiff.anatomy import find_vertebrae
from verdiff.errors import InputError
from verdiff.imaging import Geometry

BONE = {"vertebra": VERTEBRA}


def numbers(found: NDArray[np.uint8]) -> list[int]:
    """Ids of the vertebrae among the instances."""
    return [int(i) for i in np.unique(found) if 0 < i < 200 and i != 100]


@pytest.mark.parametrize("slices", [21, 7])
def test_every_vertebra_of_a_whole_spine_and_of_a_midline_stack_is_found(slices: int) -> None:
    made = spine(slices=slices)
    found = find_vertebrae(made.labels, made.geometry, LABELS)
    assert [vertebra.number for vertebra in found.vertebrae] == [1, 2, 3, 4, 5]
    assert all(vertebra.complete and vertebra.level is None for vertebra in found.vertebrae)
    assert min(overlap(found.instances, made.truth, number) for number in range(1, 6)) > 0.97
    assert found.named_by is None


def test_bodies_alone_need_neither_discs_nor_canal() -> None:
    made = spine()
    labels = np.where((made.labels == VERTEBRA) & (made.across_mm < 15), VERTEBRA, 0).astype(np.uint8)
    found = find_vertebrae(labels, made.geometry, BONE)
    truth = np.where(labels > 0, made.truth, 0)
    assert min(overlap(found.instances, truth, number) for number in range(1, 6)) > 0.99


def test_arches_keep_to_their_bodies_without_discs_and_canal() -> None:
    made = spine()
    found = find_vertebrae(np.where(made.labels == VERTEBRA, 1, 0), made.geometry, BONE)
    assert min(overlap(found.instances, made.truth, number) for number in range(1, 6)) > 0.97


def test_merged_vertebrae_are_parted() -> None:
    """Bridges in front of every disc, and processes that touch."""
    made = spine()
    inside = (made.along_mm > 0) & (made.along_mm < 4.8 * PITCH_MM)
    front = inside & (made.across_mm > -15) & (made.across_mm < -10)
    kissing = inside & (made.across_mm > 44) & (made.across_mm < 50)
    middle = np.abs(np.indices(made.labels.shape)[0] - 10) < 2
    made.labels[(front | (kissing & middle)) & (made.labels != 3)] = VERTEBRA
    found = find_vertebrae(made.labels, made.geometry, LABELS)
    assert numbers(found.instances) == [1, 2, 3, 4, 5]
    for number in range(1, 6):
        own = made.truth == number
        assert (found.instances[own] == number).mean() > 0.93


def test_a_vertebra_in_two_pieces_is_one() -> None:
    made = spine()
    within = made.along_mm - 2 * PITCH_MM
    made.labels[(within > 10) & (within < 14) & (made.across_mm < 16)] = 0
    found = find_vertebrae(made.labels, made.geometry, LABELS)
    assert numbers(found.instances) == [1, 2, 3, 4, 5]
    truth = np.where(made.labels == VERTEBRA, made.truth, 0)
    assert overlap(found.instances, truth, 3) > 0.95


def test_two_vertebrae_without_a_trace_between_them_are_parted_by_height_and_said_so() -> None:
    made = spine()
    fused = (made.along_mm > 2 * PITCH_MM) & (made.along_mm < 3.7 * PITCH_MM) & (np.abs(made.across_mm) < 15)
    made.labels[fused] = VERTEBRA
    found = find_vertebrae(made.labels, made.geometry, LABELS)
    assert numbers(found.instances) == [1, 2, 3, 4, 5]
    assert any("height alone" in remark for remark in found.remarks)
    fused_ones = [vertebra for vertebra in found.vertebrae if vertebra.number in (2, 3)]
    assert max(vertebra.separation for vertebra in fused_ones) < 0.3 < found.vertebrae[0].separation


def test_a_vertebra_that_the_mask_misses_is_counted() -> None:
    made = spine()
    made.labels[made.truth == 3] = 0
    found = find_vertebrae(made.labels, made.geometry, LABELS, lowest="L5")
    assert [vertebra.number for vertebra in found.vertebrae] == [1, 2, 4, 5]
    assert [vertebra.level for vertebra in found.vertebrae] == ["L5", "L4", "L2", "L1"]
    assert any("missing between L4 and L2" in remark for remark in found.remarks)


def test_a_leak_below_the_last_disc_does_not_shift_the_levels() -> None:
    made = spine()
    below = made.along_mm - 5 * PITCH_MM
    made.labels[(below > 0) & (below < 6) & (np.abs(made.across_mm) < 10)] = VERTEBRA
    found = find_vertebrae(made.labels, made.geometry, LABELS, lowest="L5")
    assert [vertebra.level for vertebra in found.vertebrae] == ["L5", "L4", "L3", "L2", "L1"]
    assert overlap(found.instances, made.truth, 1) > 0.95
    assert any("too small to be a vertebra" in remark for remark in found.remarks)


def test_a_vertebra_that_the_scan_cuts_off_is_partial() -> None:
    made = spine()
    rows = slice(round(20 / 2.0), None)
    geometry = replace(made.geometry, size=(made.geometry.size[0], made.labels[:, rows].shape[1], 21))
    found = find_vertebrae(made.labels[:, rows], geometry, LABELS)
    top = found.vertebrae[-1]
    assert (top.number, top.complete, top.id) == (5, False, 105)
    assert numbers(found.instances) == [1, 2, 3, 4, 105]
    assert any("cut off" in remark for remark in found.remarks)


def test_the_orientation_of_the_scan_does_not_matter() -> None:
    made = spine()
    first = find_vertebrae(made.labels, made.geometry, LABELS)
    # Array axes z, y, x to superior, posterior, left: the same voxels in the axes of an axial stack.
    x, y, z = made.geometry.size
    corner = made.geometry.index_to_mm([0, y - 1, 0])
    axial = Geometry((z, x, y), made.geometry.spacing_mm, tuple(corner))
    turned = made.labels.transpose(1, 2, 0)[::-1]
    second = find_vertebrae(turned, axial, LABELS)
    assert np.array_equal(second.instances, first.instances.transpose(1, 2, 0)[::-1])
    for one, other in zip(first.vertebrae, second.vertebrae, strict=True):
        assert np.allclose(one.centroid_mm, other.centroid_mm, atol=1e-6)


def test_measures_are_those_of_the_phantom() -> None:
    made = spine()
    found = find_vertebrae(made.labels, made.geometry, LABELS)
    for vertebra in found.vertebrae:
        own = made.truth == vertebra.number
        z, y, x = np.argwhere(own).mean(axis=0)
        assert vertebra.volume_ml == pytest.approx(own.sum() * 2.0**3 / 1000, rel=0.03)
        assert np.linalg.norm(vertebra.centroid_mm - made.geometry.index_to_mm([x, y, z])) < 1.0
        assert vertebra.height_mm == pytest.approx(BODY_MM, abs=3)
        assert vertebra.confidence is None
    heads_up = [vertebra.centroid_mm[2] for vertebra in found.vertebrae]
    assert heads_up == sorted(heads_up)


def test_confidence_falls_where_the_model_is_unsure() -> None:
    made = spine()
    doubt = np.zeros(made.labels.shape, np.uint8)
    doubt[made.truth == 4] = 128
    found = find_vertebrae(made.labels, made.geometry, LABELS, uncertainty=doubt)
    confidence = {vertebra.number: vertebra.confidence or 0.0 for vertebra in found.vertebrae}
    assert confidence[4] == pytest.approx(0.5, abs=0.05)
    assert min(value for number, value in confidence.items() if number != 4) > 0.9


def test_discs_and_canal_are_numbered_as_in_spider() -> None:
    made = spine()
    found = find_vertebrae(made.labels, made.geometry, LABELS)
    assert np.array_equal(found.instances == 100, made.labels == 3)
    for number in range(1, 6):
        place = made.along_mm - (5 - number) * PITCH_MM
        disc = (made.labels == DISC) & (place > BODY_MM) & (place < PITCH_MM)
        assert (found.instances[disc] == 200 + number).mean() > 0.99
    assert found.structures["disc-below-vertebra-01"] == 201


def test_the_models_own_levels_name_the_vertebrae() -> None:
    made = spine()
    names = {f"L{6 - number}": number for number in range(1, 6)}
    found = find_vertebrae(made.truth, made.geometry, names)
    assert [vertebra.level for vertebra in found.vertebrae] == ["L5", "L4", "L3", "L2", "L1"]
    assert found.named_by == "model"
    assert [vertebra.verse_id for vertebra in found.vertebrae] == [24, 23, 22, 21, 20]
    confused = np.where(made.truth == 4, 3, made.truth)
    mended = find_vertebrae(confused, made.geometry, names)
    assert [vertebra.level for vertebra in mended.vertebrae] == ["L5", "L4", "L3", "L2", "L1"]
    assert any("L3 more than once" in remark for remark in mended.remarks)


def test_a_sacrum_in_the_mask_is_an_anchor() -> None:
    made = spine()
    below = made.along_mm - 5 * PITCH_MM
    made.labels[(below > 0) & (below < 30) & (np.abs(made.across_mm) < 15)] = 4
    found = find_vertebrae(made.labels, made.geometry, {**LABELS, "sacrum": 4})
    assert found.named_by == "sacrum"
    assert [vertebra.level for vertebra in found.vertebrae] == ["L5", "L4", "L3", "L2", "L1"]


def test_a_film_is_counted_without_volumes() -> None:
    film = np.zeros((1, 420, 120), np.uint8)
    for index in range(10):
        shift = round(20 * np.sin(index / 3))
        film[0, 12 + 40 * index : 40 + 40 * index, 40 + shift : 85 + shift] = 1
    found = find_vertebrae(film, Geometry((120, 420, 1), (1.0, 1.0, 1.0)), BONE, lowest="L5")
    assert [vertebra.number for vertebra in found.vertebrae] == list(range(1, 11))
    assert found.vertebrae[-1].level == "T8"
    assert all(vertebra.volume_ml is None for vertebra in found.vertebrae)


def test_nothing_is_found_in_nothing() -> None:
    made = spine()
    found = find_vertebrae(np.zeros_like(made.labels), made.geometry, LABELS, lowest="L5")
    assert found.vertebrae == ()
    assert not found.instances.any()
    assert found.remarks == ("no vertebra in the mask",)


def test_specks_do_not_become_vertebrae() -> None:
    made = spine()
    generator = np.random.default_rng(5)
    at = tuple(generator.integers(0, n, 60) for n in made.labels.shape)
    made.labels[at] = VERTEBRA
    found = find_vertebrae(made.labels, made.geometry, LABELS)
    assert numbers(found.instances) == [1, 2, 3, 4, 5]


def test_bad_arguments_are_refused_by_name() -> None:
    made = spine()
    with pytest.raises(InputError, match="shape"):
        find_vertebrae(made.labels[1:], made.geometry, LABELS)
    with pytest.raises(InputError, match="uncertainty"):
        find_vertebrae(made.labels, made.geometry, LABELS, uncertainty=np.zeros((2, 2, 2), np.uint8))
    with pytest.raises(InputError, match="Q5"):
        find_vertebrae(made.labels, made.geometry, LABELS, lowest="Q5")
    with pytest.raises(InputError, match="vertebra"):
        find_vertebrae(made.labels, made.geometry, {"liver": 1})
