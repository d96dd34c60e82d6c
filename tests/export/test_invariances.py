"""Changes of a scan that are none of the spine: undone exactly, measured, recorded, and a gate if asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from verdiff.bundle import DEFAULT_MODEL, open_bundle, resolve_model
from verdiff.errors import VerificationError
from verdiff.export.invariances import CHANGES, LEAST_DICE, measure_invariances, require_invariant, stacks_of
from verdiff.export.precision.networks import PatientSlices
from verdiff.imaging import Volume, intensity_bounds, normalise, plan_slices, read_volume

SAMPLE = Path(__file__).parents[2] / "examples" / "mr_t2_sample.nii.gz"


def patients() -> list[PatientSlices]:
    manifest = open_bundle(resolve_model(DEFAULT_MODEL)).manifest
    volume = read_volume(SAMPLE)
    plan = plan_slices(volume.geometry, view="sagittal", spacing_mm=manifest.spacing_mm, multiple=manifest.multiple)
    bounds = intensity_bounds(volume.array, manifest.intensity)
    chosen = np.linspace(0, plan.slices - 1, 5).astype(int)[1:-1]
    planes = plan.to_model(normalise(plan.extract(volume.array)[chosen], *bounds))
    return [PatientSlices("sample", planes)]


@pytest.mark.parametrize("name", CHANGES)
def test_a_mask_that_follows_the_voxels_is_unchanged(name: str) -> None:
    manifest = open_bundle(resolve_model(DEFAULT_MODEL)).manifest
    (stack,) = stacks_of(patients(), manifest)

    def bright(volume: Volume) -> np.ndarray:
        low, high = float(volume.array.min()), float(volume.array.max())
        return ((volume.array - low) / (high - low) > 0.5).astype(np.uint8)

    mask = bright(stack)
    changed = CHANGES[name](stack, mask)
    before, after = changed.before(mask), changed.after(bright(changed.volume))
    assert before.shape == after.shape
    assert np.count_nonzero(before != after) <= before.size * (0.002 if name == "8 bits" else 0)


def test_the_stack_lies_as_the_models_view_has_it() -> None:
    manifest = open_bundle(resolve_model(DEFAULT_MODEL)).manifest
    (stack,) = stacks_of(patients(), manifest)
    plan = plan_slices(stack.geometry, view="sagittal", spacing_mm=manifest.spacing_mm, multiple=manifest.multiple)
    assert np.array_equal(plan.extract(stack.array), stack.array) and plan.permutation == (0, 1, 2)


def test_a_record_says_how_far_each_structure_moves_and_the_gate_refuses_by_it() -> None:
    bundle = open_bundle(resolve_model(DEFAULT_MODEL))
    told: list[str] = []
    record = measure_invariances(bundle, patients(), told.append)
    assert set(record["dice"]) == set(CHANGES) and len(told) == len(CHANGES)
    # These two are exact: no voxel, and no number that a voxel becomes, is another one.
    for exact in ("another orientation", "times 3, plus 100"):
        assert set(record["dice"][exact].values()) == {1.0}
    low = {name for name, dice in record["dice"].items() if min(dice.values()) < LEAST_DICE}
    assert set(record["below"]) == low
    with pytest.raises(VerificationError, match=r"zero margins 0\.9"):
        require_invariant({**record, "dice": {"zero margins": {"disc": 0.9}}, "below": ["zero margins"]})
    with pytest.raises(VerificationError, match="empty"):
        require_invariant({**record, "dice": {name: {} for name in CHANGES}, "below": []})
    require_invariant({**record, "below": []})
