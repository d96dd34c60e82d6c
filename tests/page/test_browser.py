"""A report's page in headless Chromium, opened from a file: what is seen, and that nothing is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.anatomy.phantom import write_scan
from tests.bundle.test_margins import record
from tests.page.conftest import Visit
from tests.runtime.tiny_bundle import write_tiny
from verdiff.cli import app
from verdiff.errors import SUCCESS

# Markup that would run, were it not shown as text.
NAME = '<img src=x onerror="alert(1)"><script>alert(2)<b>.nii.gz'
pytestmark = pytest.mark.usefixtures("viewer")


def report(folder: Path, scan: Path, *more: str, film: bool = False, margins: dict[str, Any] | None = None) -> Path:
    """The page of a scan that the tiny model is forced to segment."""
    kind: dict[str, Any] = {"modality": "XR", "view": "film"} if film else {"modality": "CT"}
    window = {"kind": "window", "low": 0, "high": 1000}
    bundle = write_tiny(folder / "tiny.verdiff", intensity=window, margins=margins or {}, **kind)
    page = folder / "out.html"
    words = ["infer", scan, "--report", page, "--model", bundle, "--threads", 1, "--prior-only", "--force"]
    done = CliRunner().invoke(app, [str(word) for word in [*words, "--lowest", "L5", *more]])
    assert done.exit_code == SUCCESS, done.output
    return page


def pixels(folder: Path, name: str) -> np.ndarray:
    return np.asarray(Image.open(folder / "seen" / f"{name}.png").convert("RGB")).astype(int)


def changed(folder: Path, before: str, after: str) -> float:
    """Share of the pixels that two pictures differ in."""
    one, other = pixels(folder, before), pixels(folder, after)
    return float((np.abs(one - other).max(axis=-1) > 12).mean())


def coloured(picture: np.ndarray) -> float:
    """Share of the pixels that are no grey."""
    return float((np.ptp(picture, axis=-1) > 25).mean())


def test_it_shows_scan_mask_surfaces_and_every_warning_and_asks_for_nothing(visit: Visit, tmp_path: Path) -> None:
    page = report(tmp_path, write_scan(tmp_path / NAME))
    seen = visit(page)
    told = json.loads((tmp_path / f"{NAME.removesuffix('.nii.gz')}_seg.json").read_text("utf-8"))
    assert seen["complaints"] == [] and seen["state"] == "shown"
    assert seen["heading"] == NAME and seen["title"] == f"{NAME} | verdiff"
    provenance = told["provenance"]
    expected = [f"Forced past: {reason}" for reason in provenance["forced"]]
    expected += [f"{each['text']} ({each['name']})" for each in provenance["warnings"]]
    assert expected and seen["bands"][: len(expected)] == expected
    cut = told["cut_by_field_of_view"]
    assert cut and seen["bands"][len(expected)].startswith("The field of view cuts ")
    for row, (name, volume) in zip(seen["structures"], told["volumes_ml"].items(), strict=True):
        sides = f"cut by the field of view ({', '.join(cut[name])})" if name in cut else ""
        assert row == [name, f"{volume:.1f} ml" if volume else "none", sides]
    assert [row[0] for row in seen["vertebrae"]] == ["L5", "L4", "L3", "L2"] == seen["turned"]
    assert set(seen["marks"]) == {"L5", "L4", "L3", "L2"}
    assert [line.split("\n")[0] for line in seen["legend"]] == ["vertebra", "disc", "canal"]
    stages = {row[0]: row[1] for row in seen["times"]}
    assert stages["prior"] == f"{told['timings_s']['prior']:.2f} s"
    assert provenance["model"]["manifest_sha256"] in seen["provenance"]
    assert seen["still"] == [] and " mm" in seen["readout"][0]
    assert coloured(pixels(tmp_path, "slices")) > 0.05 and coloured(pixels(tmp_path, "surfaces")) > 0.05
    assert pixels(tmp_path, "scan").std() > 15 and coloured(pixels(tmp_path, "scan")) < 0.01
    for before, after in (
        ("slices", "uncertainty"),
        ("surfaces", "turned"),
        ("scan", "sagittal"),
    ):
        assert changed(tmp_path, before, after) > 0.005, (before, after)
    assert seen["scrolled"] != seen["readout"][0] and changed(tmp_path, "sagittal", "scrolled") > 0.001


def test_a_no_go_surface_is_turned_and_drawn_on_the_slices_when_it_is_pressed(visit: Visit, tmp_path: Path) -> None:
    margins = record([1.0, 2.0, 4.0])
    margins["structures"] = {"vertebra": margins["structures"]["canal"]}
    seen = visit(report(tmp_path, write_scan(tmp_path / "scan.nii.gz"), "--mesh", margins=margins))
    assert seen["complaints"] == [] and seen["state"] == "shown"
    ((name, outer, _),) = seen["noGo"]
    # The scan was forced, so nothing is promised, and the page says so where the promise would stand.
    assert name == "vertebra" and outer == "4.00 mm outwards\nnothing is promised"
    assert seen["named"] == ["vertebra-outer: 4.00 mm outwards, nothing is promised"]
    for before, after in (("turned", "veiled"), ("slices", "cut")):
        assert changed(tmp_path, before, after) > 0.002, (before, after)


def test_without_webgl_it_shows_a_still_picture_and_says_so(visit: Visit, tmp_path: Path) -> None:
    seen = visit(report(tmp_path, write_scan(tmp_path / "scan.nii.gz")), "still")
    assert seen["state"] == "still" and seen["still"] == ["A still picture: this browser has no WebGL 2."]
    assert seen["legend"] == [] and len(seen["vertebrae"]) == 4 and seen["bands"]
    assert coloured(pixels(tmp_path, "page")) > 0.02


def test_a_film_is_shown_flat(visit: Visit, tmp_path: Path) -> None:
    grey = np.tile(np.linspace(20, 120, 48), (64, 1)).astype(np.uint8)
    grey[6:22, 8:24] = 250
    Image.fromarray(grey).save(tmp_path / "film.png")
    seen = visit(report(tmp_path, tmp_path / "film.png", film=True))
    assert seen["complaints"] == [] and seen["state"] == "shown" and seen["turned"] == []
    scan = pixels(tmp_path, "scan")
    bright = np.argwhere(scan.mean(axis=-1) > 200).mean(axis=0) / scan.shape[:2]
    # The bright patch is up and to the left, as in the film.
    assert bright[0] < 0.4 and bright[1] < 0.48
