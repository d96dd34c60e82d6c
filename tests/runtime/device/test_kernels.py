"""The kernels against the host's mathematics: the CUDA C text itself, compiled for this processor and by NVRTC."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.gpu.stand_in import SOURCE as STAND_IN
from tests.gpu.stand_in import stand_in_segmenter
from tests.runtime.device.compiled_kernels import COMPILER, CompiledDriver, CompiledKernels, zeros
from tests.runtime.device.null_driver import GPU, KINDS, signatures
from tests.runtime.device.numpy_kernels import KERNELS
from tests.runtime.device.test_cuda_core import Bindings
from tests.runtime.scans import mr_scan, numpy_segmenter
from verdiff.diffusion import background_and_labels, fuse_mean, fuse_steps, fused_rows, philox_normal
from verdiff.diffusion.fusion import StepsVariant
from verdiff.imaging import Geometry, normalise, plan_slices
from verdiff.runtime.device.cuda_core import CudaCore, compile_cubin
from verdiff.runtime.device.driver import DeviceError
from verdiff.runtime.device.grids import grid_tables
from verdiff.runtime.device.kernels import NAMES, source

CLASSES = 3
Maps = NDArray[np.float32]

compiled_here = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> CompiledKernels:
    return CompiledKernels(tmp_path_factory.mktemp("kernels"), source(), {"CLASSES": str(CLASSES)})


def x0hat(*shape: int) -> Maps:
    """Masks on [-1, 1], some of them exactly at the ends and at 0."""
    values = np.random.default_rng(5).uniform(-1.3, 1.3, shape).clip(-1, 1)
    values[..., 0] = 0
    return np.ascontiguousarray(values, np.float32)


def test_every_kernel_is_declared_called_and_stood_in_for() -> None:
    found = signatures(source())
    assert set(found) == set(NAMES) == set(KERNELS)
    assert {kind for kinds in found.values() for kind in kinds if not kind.endswith("*")} <= set(KINDS)


@pytest.mark.parametrize("sm", ["75", "90", "120"])
def test_nvrtc_compiles_them_as_the_driver_asks_it_to(sm: str) -> None:
    core = pytest.importorskip("cuda.core")
    code = compile_cubin(core, source(), f"sm_{sm}", (("CLASSES", str(CLASSES)),))
    assert all(name.encode() in code for name in NAMES)
    assert b"tiny_step" in compile_cubin(core, STAND_IN, f"sm_{sm}", ())


def test_a_source_that_does_not_compile_is_named() -> None:
    core = pytest.importorskip("cuda.core")
    with pytest.raises(DeviceError, match="compile the kernels on cuda:0"):
        CudaCore(GPU, core, Bindings()).compile("int x = ;", ("x",), {})


@compiled_here
@pytest.mark.parametrize("size", [4096, 4097, 6])
def test_noise_is_the_hosts(kernels: CompiledKernels, size: int) -> None:
    batch, slices, samples, seed = 7, 2, 3, 2**45 + 17
    out = zeros(batch, size)
    words = (seed & 0xFFFFFFFF, seed >> 32, 4)
    kernels.run("philox_normal", batch * -(-size // 4), out, *words, 11, slices, 5, slices * samples, batch, size)
    expected = [
        philox_normal(seed, slice_index=11 + e % slices, sample=5 + e // slices, step=4, shape=(size,))
        for e in range(6)
    ]
    expected.append(expected[-1])
    different = out != np.stack(expected)
    # Mathematical libraries differ in the last bit of float64, which rounding hides but for one number in 10^8.
    assert different.mean() < 1e-4
    np.testing.assert_allclose(out, np.stack(expected), rtol=2e-7, atol=1e-12)


@compiled_here
def test_the_start_is_the_hosts_bit_for_bit(kernels: CompiledKernels) -> None:
    prior, noise, x = x0hat(1000), x0hat(1000)[::-1].copy(), zeros(1000)
    on = np.array([0.3, 0.71], np.float32)
    kernels.run("start", 1000, x, prior, noise, on, 1000)
    expected = on[0] * prior
    expected += on[1] * noise
    assert np.array_equal(x, expected)


@compiled_here
@pytest.mark.parametrize(("value", "flag"), [(1.0, 0), (np.nan, 1), (np.inf, 1), (-np.inf, 1), (3.4e38, 0)])
def test_only_numbers_that_are_not_finite_are_marked(kernels: CompiledKernels, value: float, flag: int) -> None:
    values, flags = x0hat(700), np.zeros(2, np.int32)
    values[699] = value
    kernels.run("mark_non_finite", 700, flags, values, 700)
    assert flags.tolist() == [flag, 0]


@compiled_here
@pytest.mark.parametrize("members", [1, 2, 5])
def test_the_mean_is_the_hosts(kernels: CompiledKernels, members: int) -> None:
    samples = x0hat(members, 2, CLASSES, 6, 50)
    p, u, s = zeros(2, CLASSES, 6, 50), zeros(2, 6, 50), zeros(2, 6, 50)
    kernels.run("fuse_mean", 600, p, u, s, samples, members, 2, 300)
    fused = fuse_mean(samples)
    assert np.array_equal(p, fused.probabilities)
    assert np.array_equal(s, fused.spread)
    np.testing.assert_allclose(u, fused.uncertainty, atol=1e-6)
    assert u.min() >= 0 and u.max() <= 1


@compiled_here
@pytest.mark.parametrize("variant", ["normalised", "published"])
@pytest.mark.parametrize(("rows", "members"), [(2, 1), (5, 3)])
def test_the_steps_fusion_is_the_hosts(
    kernels: CompiledKernels, rows: int, members: int, variant: StepsVariant
) -> None:
    """Rows lie further apart than their samples reach, as where fewer samples were drawn than there is room for."""
    kept = x0hat(rows, members + 2, 2, CLASSES, 6, 50)
    used = np.ascontiguousarray(kept[:, :members])
    for row in range(rows):
        kept[row].reshape(-1)[: used[row].size] = used[row].ravel()
    p, u, s = zeros(2, CLASSES, 6, 50), zeros(2, 6, 50), zeros(2, 6, 50)
    late = fused_rows(variant, rows)
    kernels.run(
        "fuse_steps", 600, p, u, s, kept, members, 2, 300, kept[0].size, late.start, rows, variant == "published"
    )
    fused = fuse_steps(used.swapaxes(0, 1), variant)
    np.testing.assert_allclose(p, fused.probabilities, atol=1e-6)
    np.testing.assert_allclose(u, fused.uncertainty, atol=3e-6)
    assert np.array_equal(s, fused.spread)


@compiled_here
@pytest.mark.parametrize(("rows", "cols", "pixel"), [(45, 38, 0.9), (30, 70, 0.4), (21, 20, 2.3)])
def test_the_way_to_the_model_and_back_is_the_hosts(
    kernels: CompiledKernels, rows: int, cols: int, pixel: float
) -> None:
    identity = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    geometry = Geometry((cols, rows, 2), (pixel, pixel, 4.0), (0.0, 0.0, 0.0), identity)
    plan = plan_slices(geometry, view="film", spacing_mm=1.0, multiple=4)
    ids = np.array([0, 1, 2, 7], np.uint8)
    tables = grid_tables(plan, ids)
    sizes = (2, rows, cols, plan.model_rows, plan.model_cols, plan.padded_rows, plan.padded_cols)

    planes = np.random.default_rng(1).uniform(-200, 1500, (2, rows, cols)).astype(np.float32)
    image = zeros(2, 1, plan.padded_rows, plan.padded_cols)
    way = [tables[f"to {axis}"] for axis in ("rows", "rows range", "cols", "cols range")]
    kernels.run("to_model", image.size, image, planes, *way, 0.0, np.float32(2 / 1200), *sizes)
    np.testing.assert_allclose(image, plan.to_model(normalise(planes, 0.0, 1200.0)), atol=2e-6)

    fused = np.random.default_rng(2).uniform(0, 1, (2, CLASSES, plan.padded_rows, plan.padded_cols)).astype(np.float32)
    doubt = np.ascontiguousarray(fused[:, 0])
    labels, p, u = zeros(2, rows, cols, dtype=np.uint8), zeros(2, CLASSES, rows, cols), zeros(2, rows, cols)
    way = [tables[f"from {axis}"] for axis in ("rows", "rows range", "cols", "cols range")]
    kernels.run("from_model", labels.size, labels, p, u, fused, doubt, tables["ids"], *way, *sizes)
    np.testing.assert_allclose(p, plan.from_model(fused), atol=2e-6)
    np.testing.assert_allclose(u, plan.from_model(doubt[:, None])[:, 0], atol=2e-6)
    assert np.array_equal(labels, ids[background_and_labels(p)])


@compiled_here
@pytest.mark.parametrize("options", [{}, {"fusion": "steps", "sampler": "ddpm", "samples": 3}])
def test_whole_masks_by_the_cuda_text_are_the_hosts(tmp_path: Path, options: dict[str, Any]) -> None:
    """With the stand-in networks of tests/gpu, so that what runs there is known to be right beforehand."""
    with stand_in_segmenter(CompiledDriver(tmp_path)) as segmenter:
        found = segmenter.segment(mr_scan(), **options)
    expected = numpy_segmenter().segment(mr_scan(), **options)
    assert np.mean(found.labels == expected.labels) > 0.999
    assert np.abs(found.uncertainty.astype(int) - expected.uncertainty).max() <= 1
