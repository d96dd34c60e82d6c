"""The list of other people's software, and the bills of materials, agree with what is installed and pinned."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.model.component import Component

from tests.bundle.factory import FILES, make_bundle
from tools import soup
from tools.packages import Package, normal, packages
from tools.sbom import as_json, bundle_bom, lean_bom

ROOT = Path(__file__).resolve().parents[1]
PINS = {
    normal(name): version
    for name, version in re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.M)
}


@pytest.fixture(scope="module")
def listed() -> list[Package]:
    return packages(soup.EXTRAS)


@pytest.fixture(scope="module")
def lean() -> dict[str, Any]:
    return dict(json.loads(as_json(lean_bom())))


def rows() -> dict[str, tuple[str, str]]:
    """Package -> version and licence, from the page."""
    made = soup.PAGE.read_text("utf-8").split(soup.BEGIN)[1].split(soup.END)[0]
    found = re.findall(r"^\| \[([^\]]+)\]\([^)]*\) \| (\S+) \| ([^|]+) \|", made, re.M)
    return {normal(name): (version, licence.strip()) for name, version, licence in found}


def test_the_page_lists_what_an_installation_brings(listed: list[Package]) -> None:
    assert list(rows()) == [each.key for each in listed], "write it again: python -m tools.soup"


def test_the_page_s_versions_are_the_pinned_ones() -> None:
    assert {name: version for name, (version, _) in rows().items()} == {name: PINS.get(name) for name in rows()}


def test_the_page_s_licences_are_the_packages_own(listed: list[Package]) -> None:
    assert {name: licence for name, (_, licence) in rows().items()} == {each.key: each.licence for each in listed}


def test_what_the_page_points_to_is_there() -> None:
    text = soup.PAGE.read_text("utf-8")
    named = re.findall(r"`(tests/[\w/.]+)`", text)
    assert named and [name for name in named if not (ROOT / name).exists()] == []


def test_the_lean_bill_names_the_engine_and_no_training_package(lean: dict[str, Any]) -> None:
    names = {each["name"] for each in lean["components"]}
    assert {"numpy", "simpleitk", "pillow", "typer", "onnxruntime"} <= names
    assert not names & {"torch", "onnx", "scipy", "pytest", "pip", "openvino"}
    assert all(each["purl"].startswith("pkg:pypi/") and each["licenses"] for each in lean["components"])


def test_everything_in_the_lean_bill_is_required_by_something(lean: dict[str, Any]) -> None:
    root = lean["metadata"]["component"]["bom-ref"]
    needs = {each["ref"]: each.get("dependsOn", []) for each in lean["dependencies"]}
    reached, left = set[str](), [root]
    while left:
        reached.update(found := [each for each in needs[left.pop()] if each not in reached])
        left += found
    assert reached == {each["bom-ref"] for each in lean["components"]}


def test_the_bill_of_a_bundle_has_every_file_with_its_hash(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "model.verdiff")
    told = json.loads(as_json(bundle_bom(bundle)))
    model = told["metadata"]["component"]
    assert (model["type"], model["name"], model["version"]) == ("machine-learning-model", "tiny-mr", "1.2.3")
    assert model["hashes"] == [{"alg": "SHA-256", "content": bundle.manifest_sha256}]
    files = {each["name"]: each["hashes"][0]["content"] for each in told["components"] if each["type"] == "file"}
    assert set(files) == set(FILES) and files == bundle.manifest.files
    (data,) = [each for each in told["components"] if each["type"] == "data"]
    assert {"name": "verdiff:licence", "value": "CC0-1.0"} in data["properties"]


def test_a_bill_that_breaks_the_schema_is_not_written() -> None:
    bom = lean_bom()
    bom.components.add(Component(name="x", version="1", mime_type="no type"))
    with pytest.raises(ValueError, match="no bill of CycloneDX"):
        as_json(bom)


def test_a_package_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="numpy is not installed here"):
        packages((), installed=tmp_path)


def test_a_licence_that_nobody_read_is_not_guessed(tmp_path: Path) -> None:
    for name in ("numpy", "SimpleITK", "pillow", "typer"):
        folder = tmp_path / f"{name}-1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\nLicense: my own\n", "utf-8")
    with pytest.raises(LookupError, match=r"numpy states the licence .*my own"):
        packages((), installed=tmp_path)
