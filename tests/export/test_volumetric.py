"""A run on volumes becomes a bundle of schema 2 that its own checks pass and the runtime runs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from tests.runtime.scans import SAGITTAL
from tests.train.toy import toy_dataset
from verdiff.bundle import Bundle, open_bundle
from verdiff.errors import DataError, VerificationError
from verdiff.export.draft import Draft
from verdiff.export.exporting import run
from verdiff.export.volumetric import (
    verify_volume_bundle,
    volume_manifest,
    volume_phantom,
    window_mebibytes,
    windows_of_run,
)
from verdiff.imaging import Geometry, Volume, plan_slices
from verdiff.options import ExportOptions
from verdiff.runtime import Segmenter
from verdiff.runtime.backends import installed_backends
from verdiff.train.checkpoint import load_network
from verdiff.train.config import DataConfig, RunConfig, TrainingConfig
from verdiff.train.data.cases import VERIFICATION_SLICES
from verdiff.train.networks import PriorOutput, SegmentationModel
from verdiff.train.networks.safnet import SAFNetConfig
from verdiff.train.trainer import Trainer

PATCH = (4, 32, 16)


class TwoLayersPrior(nn.Module):
    """Image [N, 1, D, H, W] -> logits."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.SiLU(), nn.Conv3d(4, classes, 3, padding=1)
        )

    def forward(self, image: Tensor) -> PriorOutput:
        return PriorOutput(self.layers(image))


def two_layers(config: RunConfig, classes: int) -> SegmentationModel:
    """In the place of SAFNet, whose export takes many seconds: two convolutions with a norm between them."""
    net = SegmentationModel()
    net.classes, net.config, net.prior, net.denoiser = classes, config.network, TwoLayersPrior(classes), None
    return net


@pytest.fixture(scope="module", autouse=True)
def small_network() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("verdiff.train.checkpoint.build_network", two_layers)
        patch.setattr("verdiff.train.trainer.build_network", two_layers)
        yield


@pytest.fixture(scope="module")
def volume_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training run on volumes."""
    config = RunConfig(
        model_id="toy-volume",
        system="safnet",
        data=DataConfig(spacing_mm=1.0, slice_spacing_mm=3.0, crop=0.75),
        network=SAFNetConfig(PATCH),
        training=TrainingConfig(iterations=2, validate_every=2, validate_slices=1, loss_dice=1.0, ema=0.5),
    )
    folder = tmp_path_factory.mktemp("runs") / "toy-volume"
    for _ in Trainer(config, toy_dataset(), 0, folder, device="cpu").train():
        pass
    return folder


@pytest.fixture(scope="module")
def exported(volume_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, list[str]]:
    """Its bundle, and what the export said."""
    path, said = tmp_path_factory.mktemp("bundles") / "toy.verdiff", []
    card = path.with_name("card.json")
    card.write_text(json.dumps({"version": "2.0.0", "metrics": {"dice": 0.5}}), "utf-8")
    run(volume_run, ExportOptions(path, card=card), say=said.append)
    return open_bundle(path), said


def test_the_manifest_says_how_the_model_sees_a_scan(exported: tuple[Bundle, list[str]]) -> None:
    manifest = exported[0].manifest
    assert manifest.schema_version == 2 and manifest.version == "2.0.0" and manifest.metrics == {"dice": 0.5}
    volume = manifest.volume.to_dict()
    assert 0 < volume.pop("window_mb") < 1
    assert volume == {"patch": list(PATCH), "spacing_mm": [3.0, 1.0, 1.0], "overlap": 0.5, "crop": 0.75}
    assert (manifest.defaults.steps, manifest.defaults.samples, manifest.table) == (0, 0, None)
    assert manifest.training["system"] == "safnet"


def test_every_installed_backend_was_checked_on_real_windows_and_the_golden(
    exported: tuple[Bundle, list[str]],
) -> None:
    passed = [line for line in exported[1] if line.startswith("passed")]
    for name in installed_backends():
        assert any(f"{name} prior" in line for line in passed) and any(f"{name} golden" in line for line in passed)


def test_the_graph_takes_any_number_of_windows_of_its_size_alone(exported: tuple[Bundle, list[str]]) -> None:
    model = onnx.load_from_string(exported[0].graph("prior"))
    shapes = [
        [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    ]
    assert shapes == [["N", 1, *PATCH], ["N", 2, *PATCH]]
    assert exported[0].precisions("prior") == ("fp32",) and not exported[0].has("pipeline")


def test_the_bundle_gives_what_pytorch_gives_through_the_segmenter(
    exported: tuple[Bundle, list[str]], volume_run: Path
) -> None:
    """On the model's own grid, one window large, the probabilities are the network's own."""
    net, _ = load_network(volume_run)
    texture = (200 + 100 * volume_phantom(PATCH)[0, 0]).astype(np.int16)
    geometry = Geometry((16, 32, 4), (1.0, 1.0, 3.0), (0.0, 0.0, 0.0), SAGITTAL)
    upright = plan_slices(geometry, view="sagittal", spacing_mm=None)
    segmenter = Segmenter.load(exported[0].path, threads=1)
    result = segmenter.segment(Volume(upright.insert(texture), geometry))
    # The model looks at the middle three quarters of the columns.
    low, high = np.percentile(texture, (0.5, 99.5))
    unit = np.clip(2 * (texture - low) / (high - low) - 1, -1, 1).astype(np.float32)
    window = np.full((1, 1, *PATCH), unit.min(), np.float32)
    window[0, 0, :, :, :12] = unit[:, :, 2:14]
    with torch.no_grad():
        expected = torch.sigmoid(net.prior(torch.from_numpy(window)).logits).numpy()[0]
    for channel, name in enumerate(("vertebra", "disc")):
        found = upright.extract(result.probabilities(name))
        np.testing.assert_allclose(found[:, :, 2:14], expected[channel, :, :, :12], atol=2e-3)
        assert not found[:, :, :2].any() and not found[:, :, 14:].any()


def test_a_graph_that_computes_something_else_is_not_written(
    exported: tuple[Bundle, list[str]], volume_run: Path
) -> None:
    net, _ = load_network(volume_run)
    with torch.no_grad():
        next(iter(net.parameters())).mul_(1.2)
    windows = windows_of_run(volume_run, PATCH)
    with Draft.of(exported[0]).opened() as bundle, pytest.raises(VerificationError, match="onnxruntime prior differs"):
        verify_volume_bundle(bundle, net, windows, say=lambda line: None)


@pytest.mark.parametrize("options", [{"precisions": ("fp16",)}, {"data": Path()}, {"scans": Path()}])
def test_what_is_judged_on_slices_is_refused_by_name(
    exported: tuple[Bundle, list[str]], options: dict[str, Any], tmp_path: Path
) -> None:
    name = next(iter(options.get("precisions", options)))
    output = tmp_path / "out.verdiff"
    wanted = {"precisions": ("fp16",), **options}
    with pytest.raises(DataError, match=f"--{name}.* which takes volumes"):
        run(exported[0].path, ExportOptions(output, **wanted), say=lambda line: None)
    assert not output.exists()


def test_a_run_without_its_windows_is_refused(volume_run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"no {VERIFICATION_SLICES}"):
        windows_of_run(tmp_path, PATCH)
    np.savez(tmp_path / VERIFICATION_SLICES, images=np.zeros((2, 32, 16), np.float16))
    with pytest.raises(DataError, match=r"\(2, 32, 16\)"):
        windows_of_run(tmp_path, PATCH)
    assert windows_of_run(volume_run, PATCH).shape[1:] == (1, *PATCH)


def test_a_configuration_without_a_grid_makes_no_bundle(volume_run: Path) -> None:
    _, checkpoint = load_network(volume_run)
    data = dataclasses.replace(checkpoint.config.data, slice_spacing_mm=None)
    config = dataclasses.replace(checkpoint.config, data=data)
    with pytest.raises(DataError, match="slice_spacing_mm = None"):
        volume_manifest(dataclasses.replace(checkpoint, config=config), {}, None, False)


def chain(side: int | str) -> onnx.ModelProto:
    """image -> a -> b -> prior, and image is read again at the end: three tensors of 4 side^3 bytes at once."""
    nodes = [
        helper.make_node("Relu", ["image"], ["a"]),
        helper.make_node("Add", ["a", "weights"], ["b"]),
        helper.make_node("Mul", ["b", "image"], ["prior"]),
    ]
    maps = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 1, side, 64, 64]) for n in ("image", "prior")]
    weights = [numpy_helper.from_array(np.ones(1 << 18, np.float32)[:1], "weights")]
    graph = helper.make_graph(nodes, "chain", maps[:1], maps[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_the_memory_of_a_window_is_that_of_the_tensors_needed_at_once() -> None:
    assert window_mebibytes(chain(64)) == pytest.approx(3.0, abs=0.05)
    assert window_mebibytes(chain("D")) is None
