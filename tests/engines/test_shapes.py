"""The buckets of a model, and what the profile of an engine takes."""

from __future__ import annotations

import pytest

from tests.bundle.factory import make_manifest
from tests.bundle.test_objects import volume_manifest
from tests.engines.make import profile
from verdiff.engines import Bucket, ProfileShape, TensorRange, buckets
from verdiff.errors import BackendError


def test_the_usual_fields_of_view_are_padded_to_the_model_s_multiple() -> None:
    found = buckets(make_manifest(spacing_mm=0.94, multiple=16))
    assert [bucket.size for bucket in found] == ["192x192", "320x256", "432x320", "512x512"]
    assert all(bucket.rows % 16 == bucket.cols % 16 == 0 for bucket in found)


@pytest.mark.parametrize("spacing_mm", [0.1, 0.5, 2.0])
def test_no_bucket_has_more_pixels_than_the_model_takes(spacing_mm: float) -> None:
    manifest = make_manifest(spacing_mm=spacing_mm, max_pixels=256 * 256)
    found = buckets(manifest)
    assert found
    assert all(bucket.rows * bucket.cols <= manifest.max_pixels for bucket in found)


def test_larger_slices_are_called_in_smaller_batches() -> None:
    found = buckets(make_manifest(spacing_mm=0.94))
    largest = [bucket.batch_max for bucket in found]
    assert largest == sorted(largest, reverse=True)
    assert all(bucket.rows * bucket.cols * bucket.batch_max <= 2 << 20 for bucket in found)
    assert all(bucket.batch_min == 1 for bucket in found)


def test_sizes_and_batch_of_one_s_own() -> None:
    found = buckets(make_manifest(multiple=16), sizes=[(64, 48), (32, 32), (64, 48)], batch=3)
    assert found == (Bucket(32, 32, 1, 3, 3), Bucket(64, 48, 1, 3, 3))


@pytest.mark.parametrize("size", [(100, 64), (64, 100), (2048, 1024)])
def test_a_size_the_model_cannot_take_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(BackendError, match=f"{size[0]} x {size[1]} pixels"):
        buckets(make_manifest(multiple=16, max_pixels=1 << 20), sizes=[size])


def test_a_model_that_takes_volumes_has_no_engines() -> None:
    with pytest.raises(BackendError, match="takes volumes"):
        buckets(volume_manifest())


@pytest.mark.parametrize("values", [(0, 8, 1, 1, 1), (8, 8, 0, 1, 1), (8, 8, 2, 1, 4), (8, 8, 1, 5, 4)])
def test_a_bucket_that_is_none_is_refused(values: tuple[int, ...]) -> None:
    with pytest.raises(BackendError):
        Bucket(*values)


def test_a_profile_holds_shapes_within_its_ranges_only() -> None:
    one = ProfileShape(
        (
            TensorRange("x", (1, 3, 16, 16), (8, 3, 64, 48), (8, 3, 64, 48)),
            TensorRange("timestep", (1,), (8,), (8,)),
        )
    )
    assert one.holds({"x": (4, 3, 64, 48), "timestep": (4,), "row": (5,)})
    assert one.holds({"x": (1, 3, 16, 48), "timestep": (1,)})
    assert not one.holds({"x": (9, 3, 64, 48), "timestep": (8,)})
    assert not one.holds({"x": (4, 3, 64, 64), "timestep": (4,)})
    assert not one.holds({"x": (4, 3, 8, 48), "timestep": (4,)})
    assert not one.holds({"x": (4, 3, 64), "timestep": (4,)})
    assert not one.holds({"x": (4, 3, 64, 48)})
    assert one.bucket == Bucket(64, 48, 1, 8, 8)
    assert profile(32, 16).bucket == Bucket(32, 16, 1, 8, 8)
