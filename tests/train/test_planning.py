"""nnU-Net's plan: the published planner's figures, and how a run gets them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.train.toy import toy_config, write_raw_dataset
from verdiff.errors import DataError
from verdiff.train.config import RunConfig, TrainingConfig
from verdiff.train.data.cases import write_cache
from verdiff.train.data.nnunet import read_raw
from verdiff.train.networks.nnunet import NnUNetConfig
from verdiff.train.planning import DECIDED, Fingerprint, make_plan, planned

# What ExperimentPlanner of nnunetv2 2.8.1 plans for K = 3: rows, columns, slices, cases, GB -> patch, batch, pools.
PUBLISHED = [
    ((320, 256, 18, 33, 8.0), (320, 256), 30, (6, 6)),
    ((320, 256, 18, 33, 1.0), (320, 256), 5, (6, 6)),
    ((305, 305, 39, 18, 8.0), (320, 320), 31, (6, 6)),
    ((750, 250, 1, 481, 8.0), (768, 256), 16, (7, 6)),
    ((880, 880, 15, 215, 8.0), (896, 896), 4, (7, 7)),
    ((880, 880, 15, 215, 0.5), (320, 256), 2, (6, 6)),
    ((2500, 1800, 1, 300, 8.0), (1536, 1024), 2, (8, 8)),
    ((40, 36, 3, 4, 8.0), (40, 40), 2, (3, 3)),
    ((97, 300, 5, 60, 2.0), (112, 320), 12, (4, 5)),
]


@pytest.mark.parametrize(("case", "patch", "batch", "pools"), PUBLISHED)
def test_the_plan_is_the_published_planners(
    case: tuple[int, int, int, int, float], patch: tuple[int, int], batch: int, pools: tuple[int, int]
) -> None:
    rows, cols, slices, cases, memory_gb = case
    plan = make_plan(Fingerprint(((slices, rows, cols),) * cases, None, 3), memory_gb)
    assert (plan.patch, plan.batch, plan.pools) == (patch, batch, pools)
    assert plan.widths == (32, 64, 128, 256, 512, 512, 512, 512, 512)[: max(pools) + 1]
    assert NnUNetConfig(widths=plan.widths, pools=plan.pools).multiple == 2 ** max(pools)


def test_scans_are_brought_to_the_median_spacing_before_their_size_is_taken() -> None:
    """The same 320 x 256 mm in pixels of 0.5 or 1 mm: the size in pixels follows the spacing that most scans have."""
    fine, coarse = ((20, 640, 512), (0.5, 0.5)), ((20, 320, 256), (1.0, 1.0))
    for scans, spacing, patch in (((fine, fine, coarse), 0.5, (640, 512)), ((fine, coarse, coarse), 1.0, (320, 256))):
        shapes, spacings = zip(*scans, strict=True)
        plan = make_plan(Fingerprint(shapes, spacings, 1))
        assert (plan.spacing_mm, plan.patch) == (spacing, patch)


def test_pixels_that_are_not_square_become_squares_of_the_same_area() -> None:
    assert make_plan(Fingerprint(((20, 200, 400),) * 3, ((2.0, 0.5),) * 3, 1)).spacing_mm == 1.0


@pytest.mark.parametrize(("rows", "memory_gb"), [(10, 8.0), (512, 0.001)])
def test_slices_too_small_or_memory_too_little_for_four_levels_are_refused(rows: int, memory_gb: float) -> None:
    with pytest.raises(DataError, match="at least 32 x 32"):
        make_plan(Fingerprint(((10, rows, 512),) * 9, None, 1), memory_gb)


def nnunet_config(**network: object) -> RunConfig:
    settings = NnUNetConfig(**network)  # type: ignore[arg-type]
    base = toy_config()
    return RunConfig("toy", "nnunet", data=dataclasses.replace(base.data, spacing_mm=2.0), network=settings)


def test_a_run_is_planned_from_its_scans_and_from_the_cache_made_of_them_alike(tmp_path: Path) -> None:
    raw = write_raw_dataset(tmp_path / "raw")
    config = planned(nnunet_config(), raw)
    # 40 x 36 pixels of 1 mm.
    assert config.data.spacing_mm == 1.0
    assert (config.training.crop, config.training.batch) == ((40, 40), 2)
    assert (config.network.pools, config.network.widths) == ((3, 3), (32, 64, 128, 256))
    write_cache(read_raw(raw, config.data), tmp_path / "cache")
    assert planned(nnunet_config(), tmp_path / "cache") == config
    assert planned(config, raw) == config


def test_what_a_plan_decides_is_not_taken_from_the_command_line_and_thrown_away(tmp_path: Path) -> None:
    raw = write_raw_dataset(tmp_path / "raw")
    for key in DECIDED:
        with pytest.raises(DataError) as caught:
            planned(nnunet_config(), raw, ["training.iterations=5", f"{key}=[64, 64]"])
        assert key in caught.value.found
        assert "network.planned=false" in caught.value.remedy
    assert planned(nnunet_config(), raw, ["training.iterations=5"]) == planned(nnunet_config(), raw)
    by_hand = nnunet_config(planned=False)
    assert planned(by_hand, raw, ["training.crop=[64, 64]"]) == by_hand


def test_pixels_taken_as_they_are_stay_so(tmp_path: Path) -> None:
    config = nnunet_config()
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, spacing_mm=None))
    assert planned(config, write_raw_dataset(tmp_path / "raw")).data.spacing_mm is None


def test_a_configuration_that_asks_for_no_plan_is_left_alone(tmp_path: Path) -> None:
    fixed = nnunet_config(planned=False)
    assert planned(fixed, tmp_path / "nowhere") is fixed
    assert planned(toy_config(), tmp_path / "nowhere") == toy_config()


def test_a_scan_that_cannot_be_read_is_named_before_anything_is_planned(tmp_path: Path) -> None:
    raw = write_raw_dataset(tmp_path / "raw")
    (raw / "imagesTr" / "toy1_0000.nii.gz").write_bytes(b"")
    with pytest.raises(DataError, match="case toy1"):
        planned(nnunet_config(), raw)


def test_a_plan_for_tall_films_is_trained_with_and_its_sides_have_multiples_of_their_own() -> None:
    plan = make_plan(Fingerprint(((1, 750, 250),) * 481, None, 1), memory_gb=0.5)
    assert plan.pools[0] > plan.pools[1]
    network = NnUNetConfig(planned=False, widths=plan.widths, pools=plan.pools)
    config = RunConfig(system="nnunet", network=network, training=TrainingConfig(crop=plan.patch))
    assert config.training.crop == plan.patch
    with pytest.raises(DataError, match="multiples of 64 and 32"):
        RunConfig(system="nnunet", network=network, training=TrainingConfig(crop=(plan.patch[0], 48)))
