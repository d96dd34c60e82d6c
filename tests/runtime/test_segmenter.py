"""One scan through the runtime: what comes out, on every backend, against the networks written in numpy."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.runtime.scans import ct_scan, mr_scan, numpy_segmenter
from tests.runtime.tiny_bundle import NumpyBackend, golden_arrays, tiny_manifest, write_tiny, write_tiny_half
from verdiff.choices import BACKENDS
from verdiff.diffusion import background_and_labels, fuse_mean, noise_source, run_loop
from verdiff.errors import BackendError, BundleError, InputError, UnsuitableScanError
from verdiff.imaging import IntensityRule, Volume, intensity_bounds, normalise, plan_slices
from verdiff.runtime import STAGES, Segmenter

BACKEND = pytest.mark.parametrize("backend", BACKENDS)


@BACKEND
def test_backends_agree_with_the_numpy_reference(bundle_path: Path, backend: str) -> None:
    scan = mr_scan()
    expected = numpy_segmenter().segment(scan)
    found = Segmenter.load(bundle_path, backend=backend, threads=1).segment(scan)
    assert set(np.unique(expected.labels)) == {0, 1, 2, 7}
    assert np.mean(found.labels == expected.labels) >= 0.9999
    assert np.abs(found.uncertainty.astype(int) - expected.uncertainty).max() <= 1


def test_the_whole_path_is_the_documented_one() -> None:
    """The mask, written down again step by step from the design: slices, loop, mean, probabilities back, labels."""
    scan, manifest, backend = mr_scan(3), tiny_manifest(), NumpyBackend()
    plan = plan_slices(scan.geometry, view="sagittal", spacing_mm=1.0, multiple=4)
    bounds = intensity_bounds(scan.array, IntensityRule("percentile", 0.5, 99.5))
    labels = []
    for index, plane in enumerate(plan.extract(scan.array)):
        image = plan.to_model(normalise(plane[None], *bounds))
        prior, features = backend.prior(image)
        samples = []
        for sample in (0, 1):
            noise = noise_source(35, slices=[index], samples=[sample], shape=prior.shape[1:])
            table = manifest.table
            samples.append(run_loop(lambda x, t, p=prior, f=features: backend.denoise(x, t, p, f), table, prior, noise))
        probabilities = fuse_mean(np.stack(samples)).probabilities.astype(np.float16)
        labels.append(background_and_labels(plan.from_model(probabilities))[0])
    ids = np.array([0, 1, 2, 7], np.uint8)
    assert np.array_equal(numpy_segmenter().segment(scan).labels, plan.insert(ids[np.stack(labels)]))


def test_results_lie_in_the_scans_grid() -> None:
    scan = mr_scan()
    result = numpy_segmenter().segment(scan)
    for array in (result.labels, result.uncertainty):
        assert array.shape == scan.array.shape
        assert array.dtype == np.uint8
    assert result.geometry is scan.geometry
    assert result.uncertainty.max() > 0
    for name in ("vertebra", "disc", "canal"):
        probability = result.probabilities(name)
        assert probability.shape == scan.array.shape
        assert probability.dtype == np.float32
        assert 0 <= probability.min() <= probability.max() <= 1
    assert result.probabilities("disc")[result.labels == 2].min() > 0.5
    assert result.spread().max() > 0


def test_a_flipped_scan_gives_the_flipped_mask() -> None:
    scan = mr_scan()
    flipped = scan.array[:, ::-1].copy()
    rows = scan.array.shape[1]
    origin = scan.geometry.index_to_mm((0, rows - 1, 0))
    direction = tuple(-v if i % 3 == 1 else v for i, v in enumerate(scan.geometry.direction))
    geometry = replace(scan.geometry, origin_mm=tuple(float(v) for v in origin), direction=direction)
    segmenter = numpy_segmenter()
    labels = segmenter.segment(Volume(flipped, geometry)).labels
    assert np.array_equal(labels[:, ::-1], segmenter.segment(scan).labels)


def test_arrays_and_simpleitk_images_are_scans_too() -> None:
    import SimpleITK as sitk

    scan = mr_scan()
    image = sitk.GetImageFromArray(scan.array)
    image.SetSpacing(scan.geometry.spacing_mm)
    image.SetDirection(scan.geometry.direction)
    segmenter = numpy_segmenter()
    expected = segmenter.segment(scan).labels
    assert np.array_equal(segmenter.segment(image).labels, expected)
    given = (scan.array, scan.geometry.spacing_mm, scan.geometry.direction)
    assert np.array_equal(segmenter.segment(given).labels, expected)


def test_volumes_are_counted_in_millilitres() -> None:
    result = numpy_segmenter().segment(mr_scan(pixel=0.9, step=4.0))
    voxel_ml = 0.9 * 0.9 * 4.0 / 1000
    assert result.volumes_ml()["canal"] == pytest.approx(np.count_nonzero(result.labels == 7) * voxel_ml)
    assert not result.empty


def test_no_structure_is_a_named_outcome_not_an_error() -> None:
    class Blind(NumpyBackend):
        def denoise(self, x, timestep, prior, features):  # type: ignore[no-untyped-def]
            return np.full_like(x, -1)

    result = numpy_segmenter(Blind()).segment(mr_scan())
    assert result.empty
    assert not result.labels.any()
    assert set(result.volumes_ml().values()) == {0.0}


def test_provenance_is_json_and_says_what_made_the_mask(bundle_path: Path) -> None:
    segmenter = Segmenter.load(bundle_path, backend="onnxruntime", threads=1)
    result = segmenter.segment(mr_scan(), steps=2, samples=1, seed=9, sampler="dpmpp-2m")
    provenance = json.loads(json.dumps(result.provenance))
    assert provenance["model"]["id"] == "tiny-mr"
    assert provenance["model"]["files"] == segmenter.manifest.files
    assert set(segmenter.manifest.files) >= {"graphs/prior.fp32.onnx", "graphs/denoiser.fp32.onnx"}
    sampling = provenance["sampling"]
    assert (sampling["steps"], sampling["samples"], sampling["seed"]) == (2, 1, 9)
    assert sampling["sampler"] == "dpmpp-2m"
    assert provenance["reached"] == {"slices": 5, "slices_refined": 5, "samples": [1, 1], "steps": [2, 2]}
    assert provenance["backend"]["name"] == "onnxruntime"
    assert provenance["backend"]["threads"] == 1
    assert provenance["forced"] == []
    assert provenance["outcome"] == "complete" == result.outcome


def test_stage_times_add_up_to_the_call() -> None:
    timings = numpy_segmenter().segment(mr_scan()).timings
    stages = sum(timings[name] for name in STAGES)
    assert set(timings) == {*STAGES, "denoiser", "total"}
    assert 0 < timings["denoiser"] <= timings["loop"]
    assert 0.5 * timings["total"] < stages <= timings["total"]


def test_a_model_without_a_denoiser_answers_from_its_prior(single_pass_path: Path) -> None:
    scan = mr_scan()
    single = Segmenter.load(single_pass_path, backend="onnxruntime", threads=1).segment(scan)
    assert single.outcome == "complete"
    assert single.provenance["sampling"]["steps"] == 0
    prior = numpy_segmenter().segment(scan, prior_only=True)
    assert prior.outcome == "prior"
    assert np.mean(single.labels == prior.labels) >= 0.9999
    assert not np.array_equal(prior.labels, numpy_segmenter().segment(scan).labels)


def test_seed_steps_samples_and_fusion_change_the_mask() -> None:
    segmenter, scan = numpy_segmenter(), mr_scan()
    default = segmenter.segment(scan)
    for change in (
        {"seed": 1},
        {"steps": 1},
        {"samples": 1},
        {"sampler": "ddpm"},
        {"fusion": "steps"},
        {"fusion": "steps-published"},
    ):
        other = segmenter.segment(scan, **change)  # type: ignore[arg-type]
        assert not np.array_equal(other.probabilities("disc"), default.probabilities("disc")), change
        assert np.mean(other.labels == default.labels) > 0.9


def test_staple_is_the_consensus_of_the_samples_masks() -> None:
    segmenter, scan = numpy_segmenter(), mr_scan()
    mean = segmenter.segment(scan, samples=4)
    consensus = segmenter.segment(scan, samples=4, fusion="staple")
    assert consensus.provenance["sampling"]["fusion"] == "staple"
    assert np.mean(consensus.labels == mean.labels) > 0.9
    # Masks, not probabilities, are what it fuses: it is surer than their mean.
    assert consensus.uncertainty.mean() < mean.uncertainty.mean()
    alone = segmenter.segment(scan, samples=1, fusion="staple")
    assert np.array_equal(alone.labels, segmenter.segment(scan, samples=1).labels)


def test_a_scan_unlike_the_training_data_is_refused_unless_forced() -> None:
    segmenter = numpy_segmenter()
    with pytest.raises(UnsuitableScanError, match="CT scan by its intensities") as caught:
        segmenter.segment(ct_scan())
    assert "axial" in caught.value.found
    forced = segmenter.segment(ct_scan(), force=True)
    assert len(forced.provenance["forced"]) == 2
    assert forced.labels.shape == ct_scan().array.shape


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 0},
        {"steps": 1001},
        {"samples": 0},
        {"seed": -1},
        {"seed": 2**64},
        {"sampler": "euler"},
        {"fusion": "median"},
    ],
)
def test_options_out_of_range_are_named(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        numpy_segmenter().segment(mr_scan(), **options)  # type: ignore[arg-type]


@BACKEND
def test_the_self_test_passes_on_the_bundles_goldens(bundle_path: Path, backend: str) -> None:
    differences = Segmenter.load(bundle_path, backend=backend, threads=1).differences
    assert set(differences) == {"prior", "denoiser", "labels"}
    assert max(differences.values()) < 1e-4


@pytest.mark.parametrize("stage", ["prior", "x0hat_0", "labels"])
def test_the_self_test_refuses_networks_that_compute_something_else(tmp_path: Path, stage: str) -> None:
    golden = golden_arrays(tiny_manifest())
    golden[stage] = golden[stage][..., ::-1].copy()
    path = write_tiny(tmp_path / "other.verdiff", golden=golden)
    with pytest.raises(BackendError, match="self-test"):
        Segmenter.load(path, backend="onnxruntime", threads=1)
    assert Segmenter.load(path, backend="onnxruntime", threads=1, self_test=False).differences == {}


@pytest.mark.parametrize("name", ["image", "labels", "noise"])
def test_a_golden_without_an_array_of_the_self_test_is_a_damaged_bundle(tmp_path: Path, name: str) -> None:
    golden = golden_arrays(tiny_manifest())
    del golden[name]
    path = write_tiny(tmp_path / "lacking.verdiff", golden=golden)
    for precision in ("fp32", "auto"):
        with pytest.raises(BundleError, match=f"no array '{name}'"):
            Segmenter.load(path, precision=precision)
    assert Segmenter.load(path, self_test=False).differences == {}


@pytest.mark.parametrize(("drift", "taken"), [(None, False), (4e-3, False), (8e-3, True), (0.9, True)])
def test_the_self_test_allows_what_the_gate_measured_of_this_model(
    tmp_path: Path, drift: float | None, taken: bool
) -> None:
    """Of the denoiser 0.03 off on [-1, 1], which is 0.015 in probability; the prior keeps its own limit."""
    golden = golden_arrays(tiny_manifest())
    golden["x0hat_0"] = golden["x0hat_0"] + np.float32(0.03)
    stages = [{"mean": 1e-5, "largest": 1.0}, {"mean": drift, "largest": 1.0}]
    gates = {} if drift is None else {"fp16": {"drift": stages}}
    path = write_tiny_half(tmp_path / "half.verdiff", golden=golden, gates=gates)
    with nullcontext() if taken else pytest.raises(BackendError, match=r"the denoiser differs by 0\.03"):
        Segmenter.load(path, backend="onnxruntime", precision="fp16", threads=1)
    golden["prior"] = golden["prior"] + np.float32(0.06)
    path = write_tiny_half(tmp_path / "other.verdiff", golden=golden, gates=gates)
    with pytest.raises(BackendError, match=r"the prior differs by 0\.06"):
        Segmenter.load(path, backend="onnxruntime", precision="fp16", threads=1)


def test_no_record_allows_any_difference(tmp_path: Path) -> None:
    golden = golden_arrays(tiny_manifest())
    golden["x0hat_0"] = golden["x0hat_0"] + np.float32(0.06)
    stages = [{"mean": 1.0, "largest": 1.0}] * 2
    path = write_tiny_half(tmp_path / "half.verdiff", golden=golden, gates={"fp16": {"drift": stages}})
    with pytest.raises(BackendError, match=r"the denoiser differs by 0\.06"):
        Segmenter.load(path, backend="onnxruntime", precision="fp16", threads=1)


def test_a_changed_bundle_is_refused(bundle_path: Path, tmp_path: Path) -> None:
    data = bytearray(bundle_path.read_bytes())
    position = data.index(b"thresholds")
    data[position] ^= 1
    changed = tmp_path / "changed.verdiff"
    changed.write_bytes(bytes(data))
    with pytest.raises(BundleError):
        Segmenter.load(changed)


def test_a_network_that_gives_nan_is_named() -> None:
    class Broken(NumpyBackend):
        def denoise(self, x, timestep, prior, features):  # type: ignore[no-untyped-def]
            maps = super().denoise(x, timestep, prior, features)
            maps[0, 0, 0, 0] = np.nan
            return maps

    with pytest.raises(BackendError, match="NaN or infinity"):
        numpy_segmenter(Broken()).segment(mr_scan())


def test_progress_rises_to_one() -> None:
    seen: list[float] = []
    numpy_segmenter().segment(mr_scan(), progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert len(seen) > 5


def test_a_smoothed_mask_is_that_of_probabilities_averaged_over_neighbouring_slices() -> None:
    scan, segmenter = mr_scan(), numpy_segmenter()
    plain, smoothed = segmenter.segment(scan), segmenter.segment(scan, smooth_mm=4.0)
    each = plain.probabilities("disc")
    # The slices lie 4 mm apart: one and two standard deviations.
    near, far = np.exp(-1 / 2), np.exp(-2)
    expected = each[2] + near * (each[1] + each[3]) + far * (each[0] + each[4])
    np.testing.assert_allclose(smoothed.probabilities("disc")[2], expected / (1 + 2 * near + 2 * far), atol=1e-5)
    assert not np.array_equal(smoothed.labels, plain.labels)
    assert not np.array_equal(smoothed.uncertainty, plain.uncertainty)
    assert smoothed.provenance["smooth_mm"] == 4.0 and "smooth_mm" not in plain.provenance
    with pytest.raises(InputError, match="smooth_mm"):
        segmenter.segment(scan, smooth_mm=-1.0)


def test_a_single_slice_has_nothing_to_be_smoothed_with() -> None:
    scan = mr_scan(1)
    plain, smoothed = numpy_segmenter().segment(scan), numpy_segmenter().segment(scan, smooth_mm=5.0)
    assert np.array_equal(plain.labels, smoothed.labels) and np.array_equal(plain.uncertainty, smoothed.uncertainty)
