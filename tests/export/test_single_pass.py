"""A model of one pass: its bundle has a prior and no denoiser, and is segmented with like any other."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from tests.train.toy import toy_config, toy_dataset, write_raw_dataset
from verdiff.batch import Asked
from verdiff.bundle import open_bundle
from verdiff.commands import infer
from verdiff.diffusion import background_and_labels
from verdiff.errors import EMPTY_MASK, SUCCESS, DataError, VerificationError
from verdiff.export import exporting as command
from verdiff.export.converting import Reference
from verdiff.export.draft import Draft
from verdiff.export.exporting import run
from verdiff.export.golden import phantom
from verdiff.export.precision.networks import PatientSlices
from verdiff.export.verify import verify_bundle
from verdiff.options import ExportOptions, InferOptions
from verdiff.runtime import Segmenter
from verdiff.train.checkpoint import load_network
from verdiff.train.config import RunConfig
from verdiff.train.distill import DistillationObjective, student_config
from verdiff.train.networks.unet import UNetConfig
from verdiff.train.trainer import Trainer


def single_pass_config() -> RunConfig:
    toy = toy_config(iterations=20, validate_every=20, loss_mse=0.0)
    return dataclasses.replace(toy, system="unet", network=UNetConfig((8, 8, 8, 8, 8)))


@pytest.fixture(scope="module")
def unet_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a small U-Net."""
    folder = tmp_path_factory.mktemp("single") / "run"
    for _ in Trainer(single_pass_config(), toy_dataset(), 0, folder, device="cpu").train():
        pass
    return folder


@pytest.fixture(scope="module")
def unet_bundle(unet_run: Path) -> Path:
    """Its bundle, with its checks passed."""
    path = unet_run.parent / "unet.verdiff"
    run(unet_run, ExportOptions(path), say=lambda line: None)
    return path


def test_the_bundle_has_no_denoiser_and_says_nothing_of_a_process(unet_bundle: Path) -> None:
    manifest = open_bundle(unet_bundle).manifest
    assert {name for name in manifest.files if name.startswith("graphs/")} == {
        "graphs/prior.fp32.onnx",
        "graphs/pipeline.fp32.onnx",
    }
    assert (manifest.process, manifest.table, manifest.features) == (None, None, ())
    assert (manifest.defaults.steps, manifest.defaults.samples) == (0, 0)
    assert manifest.training["system"] == "unet"


def test_a_segmenter_gives_the_networks_own_answer(unet_run: Path, unet_bundle: Path) -> None:
    case = toy_dataset().cases[0]
    segmenter = Segmenter.load(unet_bundle, threads=1)
    array = ((case.images.astype(np.float32) + 1) * 100).astype(np.int16)
    direction = (0, 0, -1, 1, 0, 0, 0, -1, 0)
    result = segmenter.segment((array, case.spacing_mm[::-1], direction), force=True)
    assert result.provenance["sampling"]["steps"] == 0
    assert result.labels.shape == array.shape and set(np.unique(result.labels)) <= {0, 1, 2}
    assert not segmenter.diffusion


def test_infer_says_that_one_pass_was_all(unet_bundle: Path, tmp_path: Path) -> None:
    data = write_raw_dataset(tmp_path / "data", cases=2)
    said: list[str] = []
    code = infer.run(
        data / "imagesTr" / "toy0_0000.nii.gz",
        tmp_path / "mask.nii.gz",
        Asked(InferOptions(model=str(unet_bundle), threads=1, force=True)),
        say=said.append,
    )
    assert code in (SUCCESS, EMPTY_MASK) and (tmp_path / "mask.nii.gz").is_file()
    assert "one pass" in "\n".join(said)


def test_the_pipeline_graph_takes_no_noise_and_labels_as_the_prior_does(unet_bundle: Path) -> None:
    bundle = open_bundle(unet_bundle)
    providers = ["CPUExecutionProvider"]
    pipeline = onnxruntime.InferenceSession(bundle.graph("pipeline"), providers=providers)
    assert [value.name for value in pipeline.get_inputs()] == ["slices", "bounds", "size"]
    unit = np.random.default_rng(0).uniform(-1, 1, (2, 32, 48)).astype(np.float32)
    feed = {"slices": 50 * unit, "bounds": np.array([-50, 50], np.float32), "size": np.array([32, 48], np.int64)}
    labels, probabilities, _ = pipeline.run(None, feed)
    prior = onnxruntime.InferenceSession(bundle.graph("prior"), providers=providers).run(None, {"image": unit[:, None]})
    expected = (prior[0] + 1) / 2
    assert np.abs(probabilities - expected).max() < 1e-4
    assert (labels != background_and_labels(expected)).mean() < 1e-3


def test_a_graph_that_computes_something_else_fails_its_checks(unet_run: Path, unet_bundle: Path) -> None:
    net, checkpoint = load_network(unet_run)
    with torch.no_grad():
        list(net.parameters())[-1].add_(0.5)
    image = toy_dataset().cases[0].images[:, None, :32, :32].astype(np.float32)
    with pytest.raises(VerificationError, match="prior differs"):
        verify_bundle(open_bundle(unet_bundle), net, checkpoint.config, None, image, lambda line: None)


def test_there_is_nothing_to_distil(unet_run: Path) -> None:
    net, checkpoint = load_network(unet_run)
    with pytest.raises(DataError, match="one pass"):
        DistillationObjective(net, student_config(checkpoint.config), next(net.parameters()).device)


def test_a_run_that_does_not_bear_half_precision_has_no_record_of_it_and_its_bundle_all_the_same(
    unet_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> Draft:
        raise VerificationError("fp16 changes the mask", "the same mask", "use FP32")

    draft, said = Draft.of(open_bundle(unet_bundle)), list[str]()
    patient = PatientSlices("p", phantom(32, 32)[:1])
    reference = Reference(draft, [dataclasses.replace(patient, name=f"p{index}") for index in range(6)])
    judged = command._with_record(draft, reference, lambda line: None)
    # A pixel more or less on a phantom of 32 x 32 decides which of the two passes.
    assert judged.manifest.gates and judged.files == draft.files
    monkeypatch.setattr(command, "add_judged", refused)
    assert command._with_record(draft, reference, said.append) == draft
    assert said == ["no FP16 on record: fp16 changes the mask", "no BF16 on record: fp16 changes the mask"]
