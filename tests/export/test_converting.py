"""Adding FP16 to a bundle: judged on slices of six patients, or the very graphs whose gate is on record."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from verdiff.bundle import open_bundle, write_bundle
from verdiff.errors import BundleError, VerificationError
from verdiff.export import converting, exporting, slices
from verdiff.export.draft import Draft
from verdiff.export.precision.execution import GRAPH_FACTORIES, CpuGraph
from verdiff.export.precision.gate import LIMITS
from verdiff.options import ExportOptions
from verdiff.precisions import MaskLimits
from verdiff.runtime import Segmenter
from verdiff.runtime.auto_precision import permitted
from verdiff.runtime.processor import instruction_set

PATIENTS, SPARE = 6, 2


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sagittal volumes with two blocks each, the blocks elsewhere in every one."""
    folder = tmp_path_factory.mktemp("scans")
    for index in range(PATIENTS + SPARE):
        rng = np.random.default_rng(index)
        array = rng.normal(20, 3, (5, 40, 36)).astype(np.float32)
        top, left = rng.integers(3, 9, 2)
        array[:, top : top + 14, left : left + 18] += 60
        array[:, top + 16 : top + 22, left : left + 18] += 120
        image = sitk.GetImageFromArray(array)
        image.SetSpacing((1.0, 1.0, 3.0))
        image.SetDirection((0, 0, -1, 1, 0, 0, 0, -1, 0))
        sitk.WriteImage(image, folder / f"case{index}_0000.nii.gz")
    return folder


@pytest.fixture(scope="module")
def converted(toy_bundle: Path, scans: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The toy bundle with FP16 graphs, and what was said on the way."""
    path, said = tmp_path_factory.mktemp("fp16") / "toy-fp16.verdiff", []
    exporting.run(toy_bundle, ExportOptions(path, ("fp16",), scans), say=said.append)
    return path, said


@pytest.fixture
def recorded(converted: tuple[Path, list[str]], toy_bundle: Path, tmp_path: Path) -> Iterator[Path]:
    """The FP32 bundle with the record of the gate and no FP16 graph, as the default model ships."""
    gates = open_bundle(converted[0]).manifest.gates
    draft = Draft.of(open_bundle(toy_bundle))
    path = tmp_path / "recorded.verdiff"
    write_bundle(path, replace(draft.manifest, gates=gates), draft.files)
    yield path


def test_a_bundle_gets_four_more_graphs_and_keeps_its_own(converted: tuple[Path, list[str]], toy_bundle: Path) -> None:
    before, after = open_bundle(toy_bundle), open_bundle(converted[0])
    assert set(after.manifest.files) - set(before.manifest.files) == {
        f"graphs/{role}.fp16.onnx" for role in ("prior", "denoiser", "pipeline", "pipeline-unrolled")
    }
    assert all(after.read(name) == before.read(name) for name in before.manifest.files)


def test_the_gate_is_reported_and_recorded(converted: tuple[Path, list[str]]) -> None:
    path, said = converted
    record = open_bundle(path).manifest.gates["fp16"]
    assert record["patients"] == PATIENTS and record["slices"] == PATIENTS * slices.SLICES_A_PATIENT
    assert set(record["mean_dice"]) == {"vertebra", "disc"}
    assert set(record["backends"]) == {"onnxruntime", "openvino"}
    assert record["graphs"].keys() == {"prior", "denoiser"}
    assert any("whole loop on 18 slices of 6 patients" in line for line in said)
    assert any("nodes in fp16" in line and "normalisation statistics" in line for line in said)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_the_runtime_runs_it_in_fp16(converted: tuple[Path, list[str]], scans: Path, backend: str) -> None:
    scan = sitk.ReadImage(scans / "case0_0000.nii.gz")
    whole = Segmenter.load(converted[0], backend=backend).segment(scan, force=True)
    half = Segmenter.load(converted[0], backend=backend, precision="fp16").segment(scan, force=True)
    assert half.provenance["backend"]["precision"] == "fp16"
    assert (whole.labels == half.labels).mean() > 0.995


def test_the_same_bundle_gives_the_same_bytes(
    converted: tuple[Path, list[str]], toy_bundle: Path, scans: Path, tmp_path: Path
) -> None:
    exporting.run(toy_bundle, ExportOptions(tmp_path / "again.verdiff", ("fp16",), scans), say=lambda line: None)
    assert (tmp_path / "again.verdiff").read_bytes() == converted[0].read_bytes()


def test_with_its_gate_on_record_a_bundle_converts_without_scans(
    recorded: Path, converted: tuple[Path, list[str]], tmp_path: Path
) -> None:
    said: list[str] = []
    exporting.run(recorded, ExportOptions(tmp_path / "out.verdiff", ("fp16",)), say=said.append)
    ours, theirs = open_bundle(tmp_path / "out.verdiff"), open_bundle(converted[0])
    assert ours.manifest.files == theirs.manifest.files
    assert any("gate on record" in line and "6 patients" in line for line in said)


def test_a_conversion_other_than_the_one_on_record_is_refused(recorded: Path, tmp_path: Path) -> None:
    draft = Draft.of(open_bundle(recorded))
    record = draft.manifest.gates["fp16"]
    other = draft.with_gate("fp16", {**record, "graphs": {**record["graphs"], "prior": "0" * 64}})
    other.write(tmp_path / "other.verdiff")
    with pytest.raises(VerificationError, match="the prior converts to a graph"):
        exporting.run(
            tmp_path / "other.verdiff", ExportOptions(tmp_path / "out.verdiff", ("fp16",)), say=lambda line: None
        )
    assert not (tmp_path / "out.verdiff").exists()


def test_without_record_and_without_scans_nothing_is_written(toy_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="carries no record") as refusal:
        exporting.run(toy_bundle, ExportOptions(tmp_path / "out.verdiff", ("fp16",)), say=lambda line: None)
    assert "--scans" in refusal.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_five_patients_are_too_few(toy_bundle: Path, scans: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(scans.iterdir())[:5]:
        (few / path.name).symlink_to(path)
    with pytest.raises(VerificationError, match="scans of 5 patients"):
        exporting.run(toy_bundle, ExportOptions(tmp_path / "o.verdiff", ("fp16",), few), say=lambda line: None)


def test_a_run_is_exported_with_fp16_at_once(toy_run: Path, scans: Path, tmp_path: Path) -> None:
    exporting.run(toy_run, ExportOptions(tmp_path / "o.verdiff", ("fp16",), scans), say=lambda line: None)
    assert open_bundle(tmp_path / "o.verdiff").has("prior", "fp16")


@pytest.fixture(scope="module")
def in_int8(toy_bundle: Path, scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy bundle with INT8 graphs; its barely trained networks would keep most layers in FP32 under real limits."""
    path = tmp_path_factory.mktemp("int8") / "toy.verdiff"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(LIMITS, "int8", MaskLimits(0.8, 0.6, 5.0))
        exporting.run(toy_bundle, ExportOptions(path, ("int8",), scans), say=lambda line: None)
    return path


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_int8_is_calibrated_judged_and_run_on_processors(in_int8: Path, scans: Path, backend: str) -> None:
    bundle = open_bundle(in_int8)
    assert set(bundle.manifest.gates) == {"int8-trt", "int8-ov"}
    assert bundle.precisions("denoiser") == ("fp32", "int8-ov", "int8-trt")
    scan = sitk.ReadImage(scans / "case0_0000.nii.gz")
    whole, steps = (
        Segmenter.load(in_int8, backend=backend, precision=precision).segment(scan, force=True)
        for precision in ("fp32", "int8")
    )
    assert steps.provenance["backend"]["precision"] == "int8"
    assert (whole.labels == steps.labels).mean() > 0.95


def test_the_gate_s_record_says_what_judged_which_graphs(in_int8: Path) -> None:
    bundle = open_bundle(in_int8)
    for name, backends in (("int8-ov", {"onnxruntime", "openvino"}), ("int8-trt", {"onnxruntime"})):
        record = bundle.manifest.gates[name]
        files = {role: bundle.manifest.files[f"graphs/{role}.{name}.onnx"] for role in ("prior", "denoiser")}
        assert record["saturation_free"] is (name == "int8-ov")
        assert set(record["backends"]) == backends
        for backend, judged in record["backends"].items():
            assert judged["graphs"] == record["graphs"] == files
            assert judged["instructions"] == instruction_set() and judged["version"] == version(backend)


def test_auto_may_take_what_was_exported_and_judged_here(in_int8: Path) -> None:
    allowed, refused = permitted(open_bundle(in_int8), ("onnxruntime", "openvino"), instruction_set())
    assert {("onnxruntime", "int8"), ("openvino", "int8")} < set(allowed) and refused == []


@pytest.mark.parametrize("form", ["int8-ov", "int8-trt"])
def test_each_form_of_int8_comes_alone_too(toy_bundle: Path, scans: Path, tmp_path: Path, form: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(LIMITS, "int8", MaskLimits(0.8, 0.6, 5.0))
        options = ExportOptions(tmp_path / "toy.verdiff", (form,), scans)
        exporting.run(toy_bundle, options, say=lambda line: None)
    assert open_bundle(tmp_path / "toy.verdiff").precisions("prior") == ("fp32", form)


def test_what_a_processor_s_own_kernels_change_is_refused(
    toy_bundle: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LIMITS, "int8", MaskLimits(0.8, 0.6, 5.0))
    monkeypatch.setitem(GRAPH_FACTORIES, "openvino", Deaf)
    with pytest.raises(VerificationError, match="int8-ov on openvino changes the mask"):
        exporting.run(toy_bundle, ExportOptions(tmp_path / "toy.verdiff", ("int8-ov",), scans), say=lambda line: None)
    assert list(tmp_path.iterdir()) == []


class Deaf(CpuGraph):
    """A backend that finds nothing, whatever it is shown."""

    def run(self, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        first, *rest = super().run(feed)
        return [np.full_like(first, -1), *rest]


def test_bf16_is_judged_where_the_processor_computes_it(
    toy_bundle: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LIMITS, "bf16", MaskLimits(0.8, 0.6, 5.0))
    monkeypatch.setattr(converting, "computes_bf16", lambda: True)
    path = tmp_path / "toy.verdiff"
    exporting.run(toy_bundle, ExportOptions(path, ("bf16",), scans), say=lambda line: None)
    bundle = open_bundle(path)
    judged = bundle.manifest.gates["bf16"]["backends"]["openvino"]
    assert judged["graphs"] == {role: bundle.manifest.files[f"graphs/{role}.fp32.onnx"] for role in judged["graphs"]}
    assert ("openvino", "bf16") in permitted(bundle, ("openvino",), instruction_set())[0]
    monkeypatch.setattr(converting, "computes_bf16", lambda: False)
    exporting.run(toy_bundle, ExportOptions(path, ("bf16",), scans), say=lambda line: None)
    assert open_bundle(path).manifest.gates["bf16"]["backends"] == {}


def test_int8_needs_scans_beside_the_gate_s_to_calibrate_on(toy_bundle: Path, scans: Path, tmp_path: Path) -> None:
    just, output = tmp_path / "six", tmp_path / "o.verdiff"
    just.mkdir()
    for path in sorted(scans.iterdir())[:PATIENTS]:
        (just / path.name).symlink_to(path)
    with pytest.raises(VerificationError, match="no scans to calibrate"):
        exporting.run(toy_bundle, ExportOptions(output, ("int8",), just), say=lambda line: None)
    assert not output.exists()
    with pytest.raises(VerificationError, match="no slices to judge int8 on"):
        exporting.run(toy_bundle, ExportOptions(tmp_path / "o.verdiff", ("int8",)), say=lambda line: None)


def test_int8_of_matrix_products_is_refused_before_anything_is_computed(
    toy_bundle: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(converting, "LEAST_REACHED", 1.01)
    with pytest.raises(VerificationError, match=r"\d+% of whose prior's weights are in convolutions") as caught:
        exporting.run(toy_bundle, ExportOptions(tmp_path / "o.verdiff", ("fp16", "int8"), scans), say=said.append)
    assert caught.value.remedy == "convert it with --fp16"
    assert said == [] and list(tmp_path.iterdir()) == []


def test_converting_a_bundle_loads_no_torch() -> None:
    code = "import sys, verdiff.export.exporting; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_new_release_has_its_own_version(tmp_path: Path) -> None:
    from verdiff.bundle import open_bundle
    from verdiff.export.exporting import run
    from verdiff.options import ExportOptions

    written = run(None, ExportOptions(tmp_path / "new.verdiff", ("fp16",), release="9.8.7"), say=lambda _: None)
    assert open_bundle(written).manifest.version == "9.8.7"


def forged(recorded: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The bundle with its record changed by someone, who also writes its checksum anew."""
    draft = Draft.of(open_bundle(recorded))
    record = change(json.loads(json.dumps(draft.manifest.gates["fp16"].to_dict())))
    path = recorded.with_name("forged.verdiff")
    write_bundle(path, replace(draft.manifest, gates={"fp16": record}), draft.files)
    return path


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"patients": 1}, r"1 patients \(at least 6\)"),
        ({"mean_dice": {"vertebra": 1.0, "disc": 0.5}}, r"mean_dice of disc 0\.5"),
        ({"worst_dice": {"vertebra": 0.9, "disc": 1.0}}, r"worst_dice of vertebra 0\.9"),
        ({"worst_dice": {"vertebra": 7, "disc": 1.0}}, r"worst_dice of vertebra 7 \(from 0\.998 to 1\)"),
        ({"hd95_mm": {"vertebra": 0.0, "disc": 4.0}}, r"hd95_mm of disc 4 \(at most 0\.1\)"),
        ({"limits": {"mean_dice": 0, "worst_dice": 0, "hd95_mm": 99}, "patients": 5}, "5 patients"),
    ],
)
def test_a_record_of_a_gate_that_was_not_passed_converts_nothing(
    recorded: Path, tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    path, output = forged(recorded, lambda record: {**record, **changes}), tmp_path / "out.verdiff"
    with pytest.raises(VerificationError, match=f"on record was not passed: .*{named}"):
        exporting.run(path, ExportOptions(output, ("fp16",)), say=lambda line: None)
    assert not output.exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda record: {},
        lambda record: [],
        lambda record: None,
        lambda record: "passed",
        *(lambda record, key=key: {k: v for k, v in record.items() if k != key} for key in ("graphs", "islands")),
        *(
            lambda record, key=key, value=value: {**record, key: value}
            for key in ("graphs", "islands", "patients", "slices", "mean_dice", "worst_dice", "hd95_mm", "backends")
            for value in (None, "six", [1], {"prior": 3, "vertebra": "x", "onnxruntime": 1}, True)
        ),
    ],
)
def test_a_damaged_record_is_named(recorded: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(BundleError, match=r"gates\.fp16"):
        options = ExportOptions(tmp_path / "out.verdiff", ("fp16",))
        exporting.run(forged(recorded, change), options, say=lambda line: None)


def test_patients_in_whom_nothing_is_found_are_no_proof(toy_bundle: Path, scans: Path, tmp_path: Path) -> None:
    dark = tmp_path / "dark"
    dark.mkdir()
    for path in sorted(scans.iterdir()):
        (dark / path.name).symlink_to(path)
    empty = sitk.ReadImage(scans / "case2_0000.nii.gz")
    flat = sitk.GetImageFromArray(np.linspace(0, 1, 5 * 40 * 36, dtype=np.float32).reshape(5, 40, 36) ** 64)
    flat.CopyInformation(empty)
    (dark / "case2_0000.nii.gz").unlink()
    sitk.WriteImage(flat, dark / "case2_0000.nii.gz")
    with pytest.raises(VerificationError, match="no structure at all in case2"):
        exporting.run(toy_bundle, ExportOptions(tmp_path / "o.verdiff", ("fp16",), dark), say=lambda line: None)
    assert not (tmp_path / "o.verdiff").exists()


def test_the_record_says_how_many_patients_training_may_have_seen(converted: tuple[Path, list[str]]) -> None:
    assert open_bundle(converted[0]).manifest.gates["fp16"]["patients_perhaps_trained_on"] == PATIENTS
    assert any("may have been trained on case0" in line for line in converted[1])
