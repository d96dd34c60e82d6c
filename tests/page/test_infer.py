"""``verdiff infer --report out.html``: when the page is written, what it says, and whom it names."""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from tests.anatomy.phantom import write_scan
from tests.interop.dicom.series import PATIENT, save_oriented
from tests.page.conftest import with_viewer
from tests.runtime.scans import mr_scan
from tests.runtime.tiny_bundle import write_tiny
from verdiff.cli import app
from verdiff.errors import SUCCESS, USAGE, BackendError, OutputError
from verdiff.files import made_by_verdiff
from verdiff.imaging import write_array

pytestmark = pytest.mark.usefixtures("no_viewer")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    window = {"kind": "window", "low": 0, "high": 1000}
    return write_tiny(tmp_path_factory.mktemp("model") / "tiny.verdiff", intensity=window, modality="CT")


def infer(*words: object, bundle: Path) -> Result:
    arguments = ("infer", *words, "--model", bundle, "--threads", 1, "--prior-only", "--force")
    return CliRunner().invoke(app, [str(word) for word in arguments])


def text_of(page: Path) -> str:
    return html.unescape(re.sub(r"<[^>]+>", " ", page.read_text("utf-8")))


def test_it_is_written_with_the_others_and_replaced_by_the_next_call(bundle: Path, tmp_path: Path) -> None:
    scan, page = write_scan(tmp_path / "scan.nii.gz"), tmp_path / "out.html"
    for _ in range(2):
        done = infer(scan, "--report", page, "--lowest", "L5", bundle=bundle)
        assert done.exit_code == SUCCESS, done.output
        assert f"wrote {page}" in done.output and made_by_verdiff(page)
    report = json.loads((tmp_path / "scan_seg.json").read_text("utf-8"))
    assert report["files"]["page"] == "out.html" and report["timings_s"]["page"] > 0
    said = text_of(page)
    for level in ("L5", "L4", "L3", "L2"):
        assert level in said
    for name, volume in report["volumes_ml"].items():
        assert re.search(rf"{name}\s+" + (f"{volume:.1f} ml" if volume else "none"), said)
    (reason,) = report["provenance"]["forced"]
    assert f"Forced past: {reason}" in said and "the model is for a CT scan" in reason
    assert report["provenance"]["model"]["manifest_sha256"] in said and report["provenance"]["command"] in said
    assert "not a medical device" in said.lower() and "A still picture" in said
    assert "<script" not in page.read_text("utf-8")
    page.write_text(page.read_text("utf-8") + " ")
    refused = infer(scan, "--report", page, bundle=bundle)
    assert refused.exit_code == OutputError.exit_code and "verdiff did not write it or it was changed" in refused.output


@pytest.mark.parametrize("name", ["out.json", "out.htm", "out.pdf", "report", ".html"])
def test_another_suffix_is_refused_by_name_while_parsing(name: str, bundle: Path, tmp_path: Path) -> None:
    done = infer(tmp_path / "not-there.nii.gz", "--report", tmp_path / name, bundle=bundle)
    assert done.exit_code == USAGE and ".html" in done.output


def test_its_folder_is_the_masks_or_above_or_below_it_or_the_call_is_refused(bundle: Path, tmp_path: Path) -> None:
    write_array(mr_scan().array, mr_scan(), tmp_path / "scan.nii.gz")
    scan = tmp_path / "scan.nii.gz"
    other = tmp_path / "other"
    other.mkdir()
    refused = infer(scan, "-o", f"{tmp_path}/masks/", "--report", other / "a.html", bundle=bundle)
    assert refused.exit_code == OutputError.exit_code and not (tmp_path / "masks").exists()
    dry = infer(scan, "-o", f"{tmp_path}/masks/", "--report", tmp_path / "a.html", "--dry-run", bundle=bundle)
    assert f"would write {tmp_path / 'a.html'}" in dry.output
    assert infer(scan, "-o", f"{tmp_path}/masks/", "--report", tmp_path / "a.html", bundle=bundle).exit_code == SUCCESS
    assert (tmp_path / "a.html").exists() and (tmp_path / "masks/scan_seg.json").exists()
    # Without --output all files go beside the page.
    assert infer(scan, "--report", other / "b.html", bundle=bundle).exit_code == SUCCESS
    assert {path.name for path in other.iterdir()} == {"b.html", "scan_seg.nii.gz", "scan_seg.json"}


def test_of_several_scans_each_has_a_page_and_none_is_made_twice(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    for name in "ab":
        write_array(mr_scan().array, mr_scan(), tmp_path / "scans" / f"{name}.nii.gz")
    out = tmp_path / "out"
    for expected in ("done in", "done earlier"):
        done = infer(tmp_path / "scans", "-o", out, "--report", "look.html", bundle=bundle)
        assert done.exit_code == SUCCESS and done.output.count(expected) == 2, done.output
        assert sorted(path.name for path in out.glob("*.html")) == ["a_look.html", "b_look.html"]
    refused = infer(tmp_path / "scans", "-o", out, "--report", "pages/look.html", bundle=bundle)
    assert refused.exit_code == USAGE and "--report look.html" in " ".join(refused.output.split())


def test_a_name_with_markup_stays_a_name(bundle: Path, tmp_path: Path) -> None:
    name = '<img src=x onerror="alert(1)">&.nii.gz'
    write_array(mr_scan().array, mr_scan(), tmp_path / name)
    assert infer(tmp_path / name, "--report", tmp_path / "out.html", bundle=bundle).exit_code == SUCCESS
    page = (tmp_path / "out.html").read_text("utf-8")
    assert "<img src=x" not in page and html.escape(name) in page
    assert re.search(r"<title>(.*?)</title>", page)[1] == html.escape(f"{name} | verdiff")  # type: ignore[index]


def test_no_patient_is_named(bundle: Path, built: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_viewer(built, monkeypatch)
    scan = mr_scan()
    save_oriented(tmp_path / "SERIES", scan.array.astype(np.uint16), scan.geometry)
    within = infer(tmp_path / "SERIES", "--report", tmp_path / "SERIES/out.html", bundle=bundle)
    assert within.exit_code == OutputError.exit_code and "part of the series" in within.output
    done = infer(tmp_path / "SERIES", "--report", tmp_path / "out.html", bundle=bundle)
    assert done.exit_code == SUCCESS, done.output
    page = (tmp_path / "out.html").read_text("utf-8")
    held = re.findall(r'<script id="[\w-]+" type="application/octet-stream">(.*?)</script>', page)
    assert len(held) >= 3
    everything = page.encode() + b"".join(gzip.decompress(base64.b64decode(each)) for each in held)
    secrets = [str(value) for key, value in PATIENT.items() if key.startswith("Patient") and len(str(value)) > 3]
    assert secrets and not [each for each in secrets if each.encode() in everything]
    assert b"1.2.826" not in everything


def test_a_film_has_shares_and_no_surfaces(tmp_path: Path) -> None:
    bundle = write_tiny(tmp_path / "film.verdiff", modality="XR", view="film")
    grey = np.random.default_rng(1).integers(0, 255, (64, 48), dtype=np.uint8)
    grey[16:48, 12:36] = 250
    Image.fromarray(grey).save(tmp_path / "film.png")
    done = infer(tmp_path / "film.png", "--report", tmp_path / "out.html", bundle=bundle)
    assert done.exit_code == SUCCESS, done.output
    said = text_of(tmp_path / "out.html")
    assert "share of the film" in said and "48 x 64 pixels" in said and " ml" not in said.split("Time")[0]


def test_without_the_extra_anatomy_the_page_says_what_is_missing(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from verdiff.anatomy import libraries

    def missing(module: str) -> None:
        raise BackendError(f"vertebrae and surfaces without {module}", "the packages", "install them")

    monkeypatch.setattr(libraries, "library", missing)
    write_array(mr_scan().array, mr_scan(), tmp_path / "scan.nii.gz")
    assert infer(tmp_path / "scan.nii.gz", "--report", tmp_path / "out.html", bundle=bundle).exit_code == SUCCESS
    assert "Not looked for: vertebrae and surfaces without scipy. install them." in text_of(tmp_path / "out.html")
