"""``verdiff export`` refuses what cannot end well before it computes anything, and says what it wrote."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.train.toy import write_raw_dataset
from verdiff.bundle import Manifest, open_bundle, resolve_model, write_bundle
from verdiff.errors import BackendError, DataError, OutputError, VerdiffError, VerificationError
from verdiff.export import exporting as command
from verdiff.export import refusals
from verdiff.export.draft import Draft
from verdiff.options import ExportOptions

FP16 = ("fp16",)


@pytest.fixture(autouse=True)
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any network that is run, and any run that is loaded, is work begun."""

    def worked(*_: object, **__: object) -> None:
        raise AssertionError("work begun")

    for name in ("Reference", "add_judged", "add_on_record", "slices_of_scans", "_with_frontier", "_of_run"):
        monkeypatch.setattr(command, name, worked)


def refused(kind: type[VerdiffError], match: str, source: Path | str | None = None, **options: Any) -> VerdiffError:
    with pytest.raises(kind, match=match) as refusal:
        command.run(source, ExportOptions(**{"precisions": FP16, **options}), say=lambda line: None)
    assert all((refusal.value.found, refusal.value.expected, refusal.value.remedy))
    return refusal.value


@pytest.fixture
def unfinished(tmp_path: Path) -> Path:
    """What looks like a run."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "best.pt").touch()
    return run


def test_a_shipped_name_wins_over_a_run_of_that_name(
    unfinished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    unfinished.rename("spine-mr")
    refused(DataError, "the bundle spine-mr and nothing to add to it", "spine-mr", precisions=())
    with pytest.raises(AssertionError, match="work begun"):
        command.run("./spine-mr", ExportOptions(), say=lambda line: None)


def test_a_place_that_cannot_hold_a_bundle_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "letter.txt").touch()
    (tmp_path / "folder.verdiff").mkdir()
    assert "x.verdiff" in refused(OutputError, r"-o x\.json", output=Path("x.json")).remedy
    assert "model.verdiff" in refused(OutputError, "not a bundle", output=Path(".")).remedy
    refused(OutputError, "a file at letter.txt", output=Path("letter.txt"))
    refused(OutputError, r"a folder at folder\.verdiff", output=Path("folder.verdiff"))
    refused(OutputError, "cannot be written", output=Path("letter.txt/x.verdiff"))
    if os.path.isdir("/proc"):
        refused(OutputError, "/proc cannot be written", output=Path("/proc/x.verdiff"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.verdiff", "letter.txt"]


def test_the_default_name_is_looked_at_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spine-mr-fp16.verdiff").mkdir()
    refused(OutputError, "a folder at spine-mr-fp16.verdiff")


@pytest.mark.parametrize("release", ["banana", "1.2", "01.2.3", "1.2.3 ", ""])
def test_a_version_that_is_none_is_refused_with_one_that_is(release: str, unfinished: Path) -> None:
    for source in (None, unfinished):
        assert "1.0.0" in refused(DataError, f"--release {release}", source, release=release).expected


@pytest.mark.parametrize("release", ["0.3.1", "1.0.0-rc.1", "2.0.0+abc"])
def test_a_version_that_passes_is_one_that_a_manifest_takes(release: str) -> None:
    refusals._require_version(release)
    manifest: Manifest = open_bundle(resolve_model(None)).manifest
    assert replace(manifest, version=release).version == release


def test_data_without_labelled_scans_of_the_fold_is_refused_at_once(tmp_path: Path, unfinished: Path) -> None:
    data = write_raw_dataset(tmp_path / "data")
    (tmp_path / "empty").mkdir()
    for source in (None, unfinished):
        refused(DataError, "no usable dataset.json", source, data=tmp_path / "empty")
        refused(DataError, "splits_final.json, fold 7", source, data=data, fold=7)
    (data / "labelsTr" / "toy0.nii.gz").unlink()
    refused(DataError, r"lacks labelsTr/toy0\.nii\.gz", data=data)


def test_engines_without_tensorrt_are_refused_at_once(monkeypatch: pytest.MonkeyPatch, unfinished: Path) -> None:
    from verdiff.engines.build import command as engines

    monkeypatch.setattr(engines, "installed_flavours", lambda: ())
    for source in (None, unfinished):
        refused(BackendError, "neither TensorRT nor TensorRT-RTX", source, engine=True)


def test_a_run_with_too_few_scans_or_none_to_calibrate_on_is_refused_before_it_is_loaded(
    unfinished: Path, tmp_path: Path
) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    refused(DataError, "no scans in", unfinished, scans=scans)
    (scans / "a.nii.gz").touch()
    refused(VerificationError, "scans of 1 patients", unfinished, scans=scans)
    refused(VerificationError, "no scans to calibrate INT8 on", unfinished, precisions=("fp16", "int8"))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("--card", {"card": Path("card.json")}),
        ("--weights", {"weights": "last.pt"}),
        ("--weights", {"weights": "best.pt"}),
        ("--float32-weights", {"float32_weights": True}),
        ("--scans with a bundle and no precision", {"precisions": (), "data": Path("d"), "scans": Path("s")}),
        ("--fold without --data", {"fold": 0}),
        ("--every without --data", {"every": 1}),
    ],
)
def test_an_option_that_would_be_ignored_is_refused_by_name(name: str, options: dict[str, Any]) -> None:
    refused(DataError, name, **options)


def test_options_of_data_are_refused_with_a_run_without_data_too(unfinished: Path) -> None:
    refused(DataError, "--fold and --every without --data", unfinished, fold=1, every=2)


def test_engines_of_graphs_for_processors_are_refused() -> None:
    assert (
        "--int8-trt" in refused(DataError, "--engine with --int8-ov alone", precisions=("int8-ov",), engine=True).remedy
    )


def test_engines_of_a_bundle_as_it_is_are_what_build_makes() -> None:
    assert "verdiff build spine-mr" in refused(DataError, "nothing to add", precisions=(), engine=True).remedy
    assert "verdiff build" not in refused(DataError, "nothing to add", precisions=()).remedy


def test_a_bundle_that_carries_int8_already_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    found = refused(DataError, "carries int8-ov graphs already", precisions=("int8-ov",))
    assert "--precision int8" in found.remedy and "--scans" in found.remedy
    # No FP16 is converted first, for nothing.
    refused(VerificationError, r"no slices to judge int8 on, .* \(it carries int8-ov\)", precisions=("fp16", "int8"))


def test_what_is_said_to_be_written_is_what_the_bundle_holds(
    toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = (
        Draft.of(open_bundle(toy_bundle)).with_graphs("bf16", {"prior": b"b"}).with_graphs("int8-ov", {"prior": b"i"})
    )
    source = tmp_path / "source.verdiff"
    write_bundle(source, replace(draft.manifest, gates={"fp16": {}}), draft.files)
    monkeypatch.setattr(command, "add_on_record", lambda draft, name, say: draft.with_graphs(name, {"prior": b"h"}))
    said: list[str] = []
    command.run(source, ExportOptions(tmp_path / "out.verdiff", FP16), say=said.append)
    assert said[-1].endswith("files, fp32, bf16, fp16, int8-ov")
