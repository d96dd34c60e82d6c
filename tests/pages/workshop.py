"""A folder in which the pages' commands find what they name: scans, data sets, runs, bundles and scores, all small."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import onnx

from tests.bundle.keys import write_pair
from tests.interop.dicom.series import save_frames, save_oriented
from tests.runtime.tiny_bundle import write_tiny
from tests.runtime.tiny_volume import write_tiny_volume
from tests.train.data.downloads import write_spider, write_verse
from tests.train.toy import toy_case
from verdiff.bundle import graph_name, open_bundle, resolve_model, write_bundle
from verdiff.commands.sign import run as sign
from verdiff.evaluate.evaluation import run as evaluate
from verdiff.imaging import Geometry, Volume, read_volume, write_array

ROOT = Path(__file__).resolve().parents[2]
# Patients of fold 0, and one more that the pages name.
PATIENTS = tuple(f"spider{number:03d}" for number in (5, 22, 45, 98, 152, 166, 191, 41))
SAGITTAL = (0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
LABELS = {"vertebra": 1, "disc": 2}


def cropped(path: Path, output: Path, planes: slice) -> None:
    """A few sagittal planes of a real scan or mask."""
    volume = read_volume(path)
    array = volume.array[planes]
    z, y, x = array.shape
    here = volume.geometry
    origin = tuple(float(v) for v in here.index_to_mm([0, 0, planes.start]))
    grid = Geometry((x, y, z), here.spacing_mm, origin, here.direction)  # type: ignore[arg-type]
    write_array(array, Volume(array, grid), output)


def unoriented(scan: Path, output: Path) -> None:
    """A scan as an NRRD file that does not say where its axes run."""
    array = read_volume(scan).array.astype("<u2")
    z, y, x = array.shape
    header = f"NRRD0004\ntype: uint16\ndimension: 3\nsizes: {x} {y} {z}\nspacings: 1.5 1.5 1.5\n"
    output.write_bytes(f"{header}endian: little\nencoding: raw\n\n".encode() + array.tobytes())


def write_data_set(folder: Path, names: tuple[str, ...], *, ending: str = ".nii.gz", folds: int = 1) -> None:
    """An nnU-Net raw data set of toy patients, the first two of each fold validating."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for index, name in enumerate(names):
        case = toy_case(name, index)
        image = ((case.images.astype(np.float32) + 1) * 127).astype(np.uint8)
        z, y, x = image.shape
        grid = Geometry((x, y, z), (1.0, 1.0, 3.0), (0.0, 0.0, 0.0), SAGITTAL)
        write_array(image, Volume(image, grid), folder / "imagesTr" / f"{name}_0000{ending}")
        write_array(case.labels, Volume(case.labels, grid), folder / "labelsTr" / f"{name}{ending}")
    about = {
        "labels": {"background": 0, **LABELS},
        "file_ending": ending,
        "numTraining": len(names),
        "channel_names": {"0": "T2"},
    }
    (folder / "dataset.json").write_text(json.dumps(about), "utf-8")
    if folds:
        held = [list(names[2 * fold : 2 * fold + 2]) for fold in range(folds)]
        splits = [{"train": [name for name in names if name not in val], "val": val} for val in held]
        (folder / "splits_final.json").write_text(json.dumps(splits), "utf-8")


def half_precision(source: Path, output: Path) -> None:
    """The default model with FP16 graphs beside its own, as ``verdiff export --fp16`` writes it, without the gate."""
    from verdiff.export.precision import to_half

    bundle = open_bundle(source)
    files = {name: bundle.read(name) for name in bundle.manifest.files}
    for role in ("prior", "denoiser"):
        half = to_half(onnx.load_from_string(bundle.graph(role))).model
        files[graph_name(role, "fp16")] = half.SerializeToString(deterministic=True)
    write_bundle(output, bundle.manifest, files, as_zip=True)


def write_series(folder: Path) -> None:
    """The scan as a DICOM series, the same zipped, and as one file of many frames."""
    scan = read_volume(folder / "scan.nii.gz")
    grey = scan.array.astype(np.uint16)
    save_oriented(folder / "SERIES", grey, scan.geometry)
    shutil.make_archive(str(folder / "study"), "zip", folder / "SERIES")
    save_frames(folder / "enhanced.dcm", grey, scan.geometry, list(range(len(grey))))


def make_workshop(folder: Path) -> Path:
    """Fill a folder with everything that a printed command reads."""
    examples, data = ROOT / "examples", folder / "data"
    cropped(examples / "mr_t2_sample.nii.gz", folder / "scan.nii.gz", slice(28, 40))
    cropped(examples / "mr_t2_sample_expert.nii.gz", folder / "expert.nii.gz", slice(28, 40))
    unoriented(folder / "scan.nii.gz", folder / "scan.nrrd")
    (folder / "scans").mkdir()
    shutil.copy(folder / "scan.nii.gz", folder / "scans" / "p001.nii.gz")
    (folder / "cases.csv").write_text("scan,name,lowest\nscans/p001.nii.gz,p001,L5\n", "utf-8")
    write_series(folder)
    shutil.copytree(examples, folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "docs/models").mkdir(parents=True)
    for card in (ROOT / "docs/models").glob("*.json"):
        shutil.copy(card, folder / "docs/models" / card.name)
    for name in ("verdiff/models", "out", "runs"):
        (folder / name).mkdir(parents=True)
    for name in ("Dataset101_SpineMR", "Dataset102_SpineMR3D"):
        write_data_set(data / name, PATIENTS)
    write_data_set(data / "Dataset106_SpineT2Slices", ("spider301t2_s05", "spider302t2_s12"), folds=0)
    write_data_set(data / "Dataset107_SpineT1T2Vertebra", ("spider303t1_s05", "spider304t2_s12"), folds=0)
    shutil.copytree(data / "Dataset101_SpineMR", folder / "Dataset101_SpineMR")
    write_data_set(folder / "Dataset104_SpineCT", PATIENTS[:4], folds=0)
    write_spider(folder / "downloads/spider")
    write_verse(folder / "downloads/verse")
    (folder / "masks").mkdir()
    for mask in (data / "Dataset101_SpineMR/labelsTr").iterdir():
        shutil.copy(mask, folder / "masks" / mask.name.replace(".nii.gz", "_seg.nii.gz"))
    shutil.copy(resolve_model(), folder / "spine-mr.verdiff")
    shutil.copy(resolve_model(), folder / "spine.verdiff")
    half_precision(resolve_model(), folder / "spine-mr-fp16.verdiff")
    private, _ = write_pair(folder, "key")
    sign(str(folder / "spine-mr.verdiff"), private, say=lambda line: None)
    write_tiny(folder / "fcn.verdiff", denoiser=False)
    write_tiny(folder / "spinesegdiff.verdiff")
    write_tiny_volume(folder / "safnet.verdiff")
    _scores(folder, data)
    return folder


def _scores(folder: Path, data: Path) -> None:
    """Evaluations of the masks, whole and by folds that share no case."""
    truth = data / "Dataset101_SpineMR"
    for name in ("ours", "theirs", "nnunet", "unet"):
        evaluate(folder / "masks", truth, LABELS, folder / "scores" / name, distances=False)
    for name, cases in (("a", PATIENTS[:2]), ("b", PATIENTS[2:4]), ("c", PATIENTS[:2]), ("d", PATIENTS[2:4])):
        evaluate(folder / "masks", truth, LABELS, folder / name, distances=False, cases=cases)


def fresh(template: Path, folder: Path) -> Path:
    """The workshop again, its files linked: what a command writes appears under a new name and replaces none."""
    return Path(shutil.copytree(template, folder, copy_function=os.link))
