"""What a user means by a model's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bundle.factory import make_bundle
from verdiff.bundle import names, resolve_model, shipped_models
from verdiff.bundle.names import model_file
from verdiff.errors import BundleError


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation that ships two models, and a working folder of its own."""
    folder, work = tmp_path / "models", tmp_path / "work"
    for path in (folder, work):
        path.mkdir()
    make_bundle(folder / "spine-mr.verdiff")
    make_bundle(folder / "spine-ct.verdiff")
    monkeypatch.setattr(names, "MODELS", folder)
    monkeypatch.chdir(work)
    return folder


def test_shipped_models_are_listed_by_name(models: Path) -> None:
    assert shipped_models() == {name: models / f"{name}.verdiff" for name in ("spine-ct", "spine-mr")}


def test_no_name_means_the_default_model(models: Path) -> None:
    assert resolve_model() == resolve_model("spine-mr") == models / "spine-mr.verdiff"


def test_a_path_is_itself_and_a_shipped_name_wins_over_a_file(models: Path) -> None:
    make_bundle(Path("spine-mr"))
    make_bundle(Path("mine.verdiff"))
    assert resolve_model("mine.verdiff") == Path("mine.verdiff")
    assert resolve_model("spine-mr") == models / "spine-mr.verdiff"
    assert resolve_model("./spine-mr") == resolve_model(Path("spine-mr")) == Path("spine-mr")


def test_what_is_named_is_a_file_where_no_shipped_model_has_that_name(models: Path) -> None:
    make_bundle(Path("spine-mr"))
    assert model_file("./spine-mr") == model_file(Path("spine-mr")) == Path("spine-mr")
    for name in (None, "spine-mr", "spine-xr", "x" * 300):
        assert model_file(name) is None


@pytest.mark.parametrize("name", ["x" * 300, "spine-xr", "missing/model.verdiff", "", Path("none")])
def test_an_unknown_name_lists_what_there_is(models: Path, name: str | Path) -> None:
    with pytest.raises(BundleError, match="spine-ct, spine-mr"):
        resolve_model(name)


def test_without_shipped_models_the_default_says_so(models: Path) -> None:
    for path in models.iterdir():
        path.unlink()
    Path("spine-mr").mkdir()
    with pytest.raises(BundleError, match="none in this installation"):
        resolve_model()
