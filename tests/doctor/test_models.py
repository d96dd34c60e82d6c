"""Bundles against their hashes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.tiny_bundle import write_tiny
from verdiff.bundle import open_bundle
from verdiff.doctor.models import check_models
from verdiff.doctor.report import BAD, GOOD, NOTE, Check
from verdiff.errors import BundleError
from verdiff.extras import install
from verdiff.options import TrustOptions


def named(checks: list[Check], name: str) -> Check:
    return next(check for check in checks if check.name == name)


def test_the_shipped_default_model_is_verified() -> None:
    check = named(check_models(), "model spine-mr")
    assert (check.state, "files verified" in check.found) == (GOOD, True)


def test_a_damaged_shipped_bundle_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def damaged(path: Path, **_: object) -> None:
        raise BundleError("the hash of graphs/prior.fp32.onnx is wrong", "the one in the manifest", "get it again")

    monkeypatch.setattr("verdiff.bundle.shipped_models", lambda: {"spine-mr": tmp_path / "spine-mr.verdiff"})
    monkeypatch.setattr("verdiff.bundle.open_bundle", damaged)
    check = named(check_models(), "model spine-mr")
    assert (check.state, "hash" in check.found) == (BAD, True)
    assert check.remedy == install(flags="--force-reinstall")


def test_a_missing_default_model_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verdiff.bundle.shipped_models", dict)
    assert named(check_models(), "model spine-mr").state == BAD


def test_a_named_bundle_is_checked_beside_the_shipped_ones(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "tiny.verdiff")
    check = named(check_models(str(path)), "model tiny.verdiff")
    assert (check.state, check.found) == (GOOD, "1.2.3 in fp32, 3 files verified")
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    path.write_bytes(damaged)
    assert named(check_models(str(path)), "model tiny.verdiff").state == BAD


def test_a_named_bundle_that_is_not_there_is_a_problem_with_a_remedy(tmp_path: Path) -> None:
    check = named(check_models(str(tmp_path / "nowhere.verdiff")), "model nowhere.verdiff")
    assert (check.state, check.remedy != "") == (BAD, True)
    assert check.state != NOTE


@pytest.mark.parametrize("name", ["x" * 300, "~nobody-of-that-name/spine.verdiff"])
def test_a_path_that_cannot_be_looked_for_is_a_problem(name: str) -> None:
    check = check_models(name)[-1]
    assert (check.state, check.remedy != "") == (BAD, True)


def test_a_shipped_name_is_not_checked_twice() -> None:
    assert [check.name for check in check_models("spine-mr")].count("model spine-mr") == 1


def test_a_pin_holds_for_the_model_that_is_named_and_for_the_default_model_otherwise(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "tiny.verdiff")
    right, wrong = TrustOptions(sha256=open_bundle(path).manifest_sha256), TrustOptions(sha256="0" * 64)
    assert named(check_models(str(path), right), "model tiny.verdiff").state == GOOD
    refused = named(check_models(str(path), wrong), "model tiny.verdiff")
    assert refused.state == BAD and right.sha256 is not None and right.sha256 in refused.found
    assert named(check_models(str(path), wrong), "model spine-mr").state == GOOD
    assert named(check_models(None, wrong), "model spine-mr").state == BAD
