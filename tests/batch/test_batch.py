"""Many scans: what is done once, survived, gone on with, and refused before anything is computed."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk

from tests.batch.command import infer, summary, times
from tests.interop.dicom.series import save_oriented
from tests.runtime.scans import mr_scan
from verdiff.batch import Asked, Row, cases_of, plan_batch, run_batch
from verdiff.batch import scan as steps
from verdiff.batch import written as last_step
from verdiff.batch.held import NAME, held
from verdiff.batch.rows import row_of_report
from verdiff.errors import INTERRUPTED, SOME_FAILED, USAGE, InputError, OutputError
from verdiff.imaging import write_array
from verdiff.options import InferOptions
from verdiff.runtime import Segmenter

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in "abc":
        write_array(mr_scan().array, mr_scan(), folder / f"{name}.nii.gz")
    return folder


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[None]]:
    """Counts how often a model is loaded."""
    load, counted = Segmenter.load, []

    def counting(*arguments: Any, **options: Any) -> Segmenter:
        counted.append(None)
        return load(*arguments, **options)

    monkeypatch.setattr(Segmenter, "load", counting)
    yield counted


def spoil(scan: Path) -> None:
    scan.write_bytes(scan.read_bytes()[:2000])


def test_all_go_through_one_model_into_a_folder_that_is_made(
    scans: Path, bundle: Path, tmp_path: Path, loads: list[None]
) -> None:
    out = tmp_path / "new" / "out"
    result = infer(scans / "a.nii.gz", scans / "b.nii.gz", "-o", out, "--uncertainty", bundle=bundle)
    assert result.exit_code == 0, result.output
    assert len(loads) == 1
    made = {f"{name}_{what}" for name in "ab" for what in ("seg.nii.gz", "seg.json", "uncertainty.nii.gz")}
    assert {path.name for path in out.iterdir()} == made | {"summary.csv"}
    rows = summary(out)
    assert [rows[name]["status"] for name in "ab"] == ["done", "done"]
    report = json.loads((out / "a_seg.json").read_text("utf-8"))
    assert float(rows["a"]["vertebra_ml"]) == report["volumes_ml"]["vertebra"]
    assert "1/2 a: done in" in result.stdout and "2/2 b: done in" in result.stdout


def test_the_masks_are_those_of_each_scan_alone(scans: Path, bundle: Path, tmp_path: Path) -> None:
    assert infer(scans, "-o", tmp_path / "out", bundle=bundle).exit_code == 0
    assert infer(scans / "b.nii.gz", "-o", tmp_path / "b.nii.gz", bundle=bundle).exit_code == 0
    assert (tmp_path / "out" / "b_seg.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_without_a_folder_files_go_beside_each_scan_and_the_summary_above(scans: Path, bundle: Path) -> None:
    (scans / "deep").mkdir()
    os.rename(scans / "c.nii.gz", scans / "deep" / "a.nii.gz")
    assert infer(scans / "a.nii.gz", scans / "deep" / "a.nii.gz", bundle=bundle).exit_code == 0
    assert (scans / "deep" / "a_seg.nii.gz").exists() and (scans / "a_seg.nii.gz").exists()
    assert set(summary(scans)) == {"a", "deep/a"}


def test_what_is_done_is_not_done_again_unless_something_changed(
    scans: Path, bundle: Path, tmp_path: Path, loads: list[None]
) -> None:
    out = tmp_path / "out"
    infer(scans, "-o", out, bundle=bundle)
    before = times(out)
    again = infer(scans, "-o", out, bundle=bundle)
    assert again.exit_code == 0 and times(out) == before and len(loads) == 1
    assert {row["when"] for row in summary(out).values()} == {"earlier"}
    # Another scan in its place, with a time that is older than the report's.
    write_array(mr_scan().array + 1, mr_scan(), tmp_path / "other.nii.gz")
    os.utime(tmp_path / "other.nii.gz", (1, 1))
    os.replace(tmp_path / "other.nii.gz", scans / "b.nii.gz")
    infer(scans, "-o", out, bundle=bundle)
    changed = times(out)
    assert {name for name in before if changed[name] != before[name]} == {"b_seg.nii.gz", "b_seg.json"}
    # Other options, other files, and by the user's wish.
    for more in (("--seed", 3), ("--seed", 3, "--uncertainty"), ("--seed", 3, "--uncertainty", "--redo")):
        before = times(out)
        infer(scans, "-o", out, *more, bundle=bundle)
        assert all(times(out)[name] != before[name] for name in before)


def another(path: Path) -> Path:
    """A scan of another patient on the grid of the others, whose file is as long."""
    path.parent.mkdir(exist_ok=True)
    write_array(mr_scan().array[::-1].copy(), mr_scan(), path)
    return path


def kept_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every scan looks older than its report, as one does that was there before the batch began."""
    monkeypatch.setattr("verdiff.batch.planning.last_changed", lambda scan: 0)


def test_another_patients_scan_of_the_same_name_is_not_done(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_times(monkeypatch)
    out, others = tmp_path / "out", [another(tmp_path / "others" / f"{name}.nii") for name in "xy"]
    patients = [tmp_path / name / "t2.nii" for name in "pq"]
    patients[0].parent.mkdir()
    write_array(mr_scan().array, mr_scan(), patients[0])
    another(patients[1])
    assert patients[0].stat().st_size == patients[1].stat().st_size
    for patient, other, when in zip(
        (*patients, patients[1]), (*others, others[1]), ("now", "now", "earlier"), strict=True
    ):
        assert infer(patient, other, "-o", out, bundle=bundle).exit_code == 0
        assert summary(out)["t2"]["when"] == when and summary(out)["t2"]["scan"] == str(patient)


def test_a_link_that_leads_to_another_scan_now_is_not_done(
    scans: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_times(monkeypatch)
    out, link = tmp_path / "out", tmp_path / "current.nii.gz"
    for scan in (scans / "a.nii.gz", another(tmp_path / "other" / "b.nii.gz")):
        link.unlink(missing_ok=True)
        link.symlink_to(scan)
        assert infer(link, scans / "c.nii.gz", "-o", out, bundle=bundle).exit_code == 0
        assert summary(out)["current"]["when"] == "now"
    assert summary(out)["c"]["when"] == "earlier"


def test_a_series_that_lost_a_slice_is_not_done(
    scans: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_times(monkeypatch)
    out, series = tmp_path / "out", tmp_path / "series"
    save_oriented(series, mr_scan().array, mr_scan().geometry)
    (series / ".hidden").write_text("of no account")
    for when in ("now", "earlier", "now"):
        assert infer(series, scans / "a.nii.gz", "-o", out, bundle=bundle).exit_code == 0
        assert summary(out)["series"]["when"] == when
        if when == "earlier":
            next(series.glob("*_0")).unlink()
        (series / ".hidden").unlink(missing_ok=True)


@pytest.mark.parametrize("ending", [".nhdr", ".mhd"])
def test_voxels_in_a_file_of_their_own_are_part_of_the_scan(
    ending: str, scans: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_times(monkeypatch)
    out, header = tmp_path / "out", tmp_path / f"t1{ending}"
    for array in (mr_scan().array, mr_scan().array[::-1].copy()):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(mr_scan().geometry.spacing_mm)
        image.SetDirection(mr_scan().geometry.direction)
        sitk.WriteImage(image, str(header))
        assert infer(header, scans / "a.nii.gz", "-o", out, bundle=bundle).exit_code == 0
        assert summary(out)["t1"]["when"] == "now"
    assert summary(out)["a"]["when"] == "earlier"


def test_a_series_named_by_dots_is_known_as_done(
    scans: Path, bundle: Path, tmp_path: Path, loads: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_oriented(tmp_path / "series", mr_scan().array, mr_scan().geometry)
    (tmp_path / "series" / "inner").mkdir()
    for folder, word in (("series", "."), ("series/inner", "..")):
        monkeypatch.chdir(tmp_path / folder)
        out = tmp_path / f"out{len(word)}"
        assert infer(scans / "a.nii.gz", Path(word), "-o", out, bundle=bundle).exit_code == 0
        before = len(loads)
        assert infer(scans / "a.nii.gz", Path(word), "-o", out, bundle=bundle).exit_code == 0
        assert {row["when"] for row in summary(out).values()} == {"earlier"} and len(loads) == before


def test_a_mask_that_an_expert_corrected_is_done_and_never_replaced(scans: Path, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    infer(scans, "-o", out, bundle=bundle)
    write_array(mr_scan().array.astype("u1") * 0, mr_scan(), out / "a_seg.nii.gz")
    corrected = (out / "a_seg.nii.gz").read_bytes()
    assert infer(scans, "-o", out, bundle=bundle).exit_code == 0
    refused = infer(scans, "-o", out, "--seed", 3, bundle=bundle)
    assert refused.exit_code == OutputError.exit_code and "a_seg.nii.gz" in refused.stderr
    assert (out / "a_seg.nii.gz").read_bytes() == corrected


def test_the_seconds_of_a_row_are_those_of_every_step() -> None:
    # What the run's own steps take is in its total.
    timings = {"read": 1, "resample": 2, "total": 4, "anatomy": 8, "margins": 16, "page": 32, "write": 64}
    report = {"provenance": {}, "timings_s": timings, "outcome": "complete", "files": {"mask": "m"}, "volumes_ml": {}}
    assert row_of_report("a", "a.nii.gz", report).seconds == sum(timings.values()) - timings["resample"]


def test_a_bad_scan_costs_itself_alone(scans: Path, bundle: Path, tmp_path: Path) -> None:
    spoil(scans / "a.nii.gz")
    result = infer(scans, "-o", tmp_path / "out", bundle=bundle)
    assert result.exit_code == SOME_FAILED
    rows = summary(tmp_path / "out")
    assert [rows[name]["status"] for name in "abc"] == ["failed", "done", "done"]
    assert rows["a"]["exit_code"] == "3" and "a.nii.gz" in rows["a"]["says"] and "to do: " in rows["a"]["says"]
    assert sum(line.startswith(("1/3 ", "2/3 ", "3/3 ")) for line in result.stdout.splitlines()) == 3
    write_array(mr_scan().array, mr_scan(), scans / "a.nii.gz")
    assert infer(scans, "-o", tmp_path / "out", bundle=bundle).exit_code == 0
    assert [summary(tmp_path / "out")[name]["when"] for name in "abc"] == ["now", "earlier", "earlier"]


@pytest.mark.parametrize("error", [MemoryError(), ZeroDivisionError("a defect")])
def test_what_has_no_name_or_no_memory_costs_its_scan_alone(
    error: Exception, scans: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment, calls = Segmenter.segment, []

    def failing(*arguments: Any, **options: Any) -> Any:
        calls.append(None)
        if len(calls) == 2:
            raise error
        return segment(*arguments, **options)

    monkeypatch.setattr(Segmenter, "segment", failing)
    assert infer(scans, "-o", tmp_path / "out", bundle=bundle).exit_code == SOME_FAILED
    assert [row["status"] for row in summary(tmp_path / "out").values()] == ["done", "failed", "done"]


def test_the_next_scan_is_read_and_the_last_one_written_while_one_is_segmented(
    scans: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The middle scan is segmented only once the first is being written and the last has been read."""
    segment, read, write = Segmenter.segment, steps.read_volume, last_step.write_result
    last_read, first_in_work, go_on = threading.Event(), threading.Event(), threading.Event()
    calls: list[bool] = []

    def reading(path: Path, **options: Any) -> Any:
        volume = read(path, **options)
        if path.name == "c.nii.gz":
            last_read.set()
        return volume

    def writing(*arguments: Any, **options: Any) -> None:
        first_in_work.set()
        assert go_on.wait(30)
        write(*arguments, **options)

    def segmenting(*arguments: Any, **options: Any) -> Any:
        if len(calls) == 1:
            calls.append(last_read.wait(30) and first_in_work.wait(30))
            go_on.set()
        else:
            calls.append(True)
        return segment(*arguments, **options)

    monkeypatch.setattr(steps, "read_volume", reading)
    monkeypatch.setattr(last_step, "write_result", writing)
    monkeypatch.setattr(Segmenter, "segment", segmenting)
    assert infer(scans, "-o", tmp_path / "out", bundle=bundle).exit_code == 0
    assert calls == [True, True, True]


def run_some(scans: Path, out: Path, bundle: Path, on_case: Any) -> list[Row]:
    options = InferOptions(bundle, threads=1, prior_only=True)
    with Segmenter.load(bundle, threads=1) as segmenter:
        sha256 = segmenter.model["manifest_sha256"]
        batch = plan_batch(cases_of([scans]), out, Asked(options), model_sha256=sha256)
        return run_batch(batch, lambda: segmenter, on_case=on_case)


def test_interrupted_it_keeps_what_was_segmented_and_goes_on_with_the_rest(
    scans: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, segment, calls = tmp_path / "out", Segmenter.segment, []

    def interrupted(*arguments: Any, **options: Any) -> Any:
        calls.append(None)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return segment(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Segmenter, "segment", interrupted)
        result = infer(scans, "-o", out, bundle=bundle)
    assert result.exit_code == INTERRUPTED and "2 of 3 scans have ended" in result.stderr
    assert {path.name for path in out.iterdir()} == {
        *("a_seg.nii.gz", "a_seg.json", "b_seg.nii.gz", "b_seg.json", "summary.csv")
    }
    assert set(summary(out)) == {"a", "b"}
    assert infer(scans, "-o", out, bundle=bundle).exit_code == 0
    assert [row["when"] for row in summary(out).values()] == ["earlier", "earlier", "now"]


def test_killed_it_goes_on_where_it_stopped_and_leaves_nothing_half_written(
    scans: Path, bundle: Path, tmp_path: Path
) -> None:
    """A process that waits for ever in its second scan is killed."""
    out = tmp_path / "out"
    code = (
        "import sys, time\n"
        "from verdiff.cli import app\n"
        "from verdiff.runtime import Segmenter\n"
        "segment, calls = Segmenter.segment, []\n"
        "def stuck(*a, **k):\n"
        "    calls.append(0)\n"
        "    if len(calls) == 2:\n"
        "        time.sleep(600)\n"
        "    return segment(*a, **k)\n"
        "Segmenter.segment = stuck\n"
        "app(sys.argv[1:])\n"
    )
    words = ["infer", scans, "-o", out, "--model", bundle, "--threads", 1, "--prior-only"]
    with subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)], cwd=ROOT, stdout=subprocess.DEVNULL
    ) as killed:
        until = time.monotonic() + 60
        while not (out / "a_seg.json").exists() and time.monotonic() < until:
            time.sleep(0.05)
        second = infer(scans, "-o", out, bundle=bundle)
        killed.send_signal(signal.SIGKILL)
    assert second.exit_code == OutputError.exit_code and "another batch is writing into" in second.stderr
    before = times(out)
    result = infer(scans, "-o", out, bundle=bundle)
    assert result.exit_code == 0, result.output
    assert {name: time for name, time in times(out).items() if name.startswith("a_")} == {
        name: time for name, time in before.items() if name.startswith("a_")
    }
    assert {path.name for path in out.iterdir()} == {
        f"{name}_seg{end}" for name in "abc" for end in (".nii.gz", ".json")
    } | {"summary.csv"}


def test_a_disk_that_is_full_ends_the_batch(
    scans: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, full = last_step.write_result, []

    def writing(*arguments: Any, **options: Any) -> None:
        full.append(None)
        if len(full) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(*arguments, **options)

    monkeypatch.setattr(last_step, "write_result", writing)
    rows: list[Row] = []
    with pytest.raises(OutputError, match="No space left"):
        run_some(scans, tmp_path / "out", bundle, rows.append)
    assert [(row.case, row.status) for row in rows] == [("a", "done"), ("b", "failed")]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a_seg.nii.gz", "a_seg.json", "summary.csv"}


def test_a_folder_is_held_by_one_batch_and_free_after_it(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(OutputError, match="another batch"), held(tmp_path):
        pass
    assert not (tmp_path / NAME).exists()
    (tmp_path / NAME).mkdir()  # as a batch that was killed leaves it
    with held(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_everything_that_is_wrong_with_a_manifest_is_told_before_a_model_is_loaded(
    scans: Path, bundle: Path, tmp_path: Path, loads: list[None]
) -> None:
    (scans / "empty.nii.gz").touch()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "taken_seg.nii.gz").write_text("a mask of the user's", "utf-8")
    manifest = tmp_path / "cases.csv"
    lines = ("a.nii.gz,", "gone.nii.gz,", "a.nii.gz,other", "b.nii.gz,a", "empty.nii.gz,", "c.nii.gz,taken")
    manifest.write_text("scan,name\n" + "".join(f"scans/{line}\n" for line in lines), "utf-8")
    result = infer("--manifest", manifest, "-o", tmp_path / "out", bundle=bundle)
    assert result.exit_code == InputError.exit_code and loads == []
    for told in (
        "5 scans that cannot be done",
        "line 3: there is no file or folder",
        "line 4:",
        "would both write",
        "empty.nii.gz is empty",
        "taken_seg.nii.gz is there, and verdiff did not write it",
    ):
        assert told in result.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["taken_seg.nii.gz"]
    gone_on = infer("--manifest", manifest, "-o", tmp_path / "out", "--leave-out-bad", bundle=bundle)
    assert gone_on.exit_code == SOME_FAILED and len(loads) == 1
    assert sum(row["status"] == "done" for row in summary(tmp_path / "out").values()) == 1


def test_a_place_that_is_another_scan_of_the_batch_is_never_taken(scans: Path, bundle: Path) -> None:
    os.rename(scans / "b.nii.gz", scans / "a_seg.nii.gz")
    before = (scans / "a_seg.nii.gz").read_bytes()
    result = infer(scans, "--overwrite", bundle=bundle)
    assert result.exit_code == OutputError.exit_code and "is a scan of this batch" in result.stderr
    assert (scans / "a_seg.nii.gz").read_bytes() == before


def test_a_scan_that_is_left_out_for_its_name_has_a_row_beside_its_namesake_s(
    scans: Path, bundle: Path, tmp_path: Path
) -> None:
    (scans / "deep").mkdir()
    write_array(mr_scan().array, mr_scan(), scans / "deep" / "a.nii.gz")
    infer(scans / "c.nii.gz", "-o", tmp_path / "out", bundle=bundle)
    both = (scans / "a.nii.gz", scans / "deep" / "a.nii.gz")
    # The second call finds both rows of the first.
    for when in ("now", "earlier"):
        assert infer(*both, "-o", tmp_path / "out", "--leave-out-bad", bundle=bundle).exit_code == SOME_FAILED
        with (tmp_path / "out" / "summary.csv").open(newline="") as file:
            rows = {row["scan"]: (row["status"], row["when"]) for row in csv.DictReader(file) if row["case"] == "a"}
        assert rows == {str(both[0]): ("done", when), str(both[1]): ("failed", "now")}


def test_a_summary_that_is_the_users_is_not_replaced(scans: Path, bundle: Path, loads: list[None]) -> None:
    (scans / "summary.csv").write_text("mine\n", "utf-8")
    result = infer(scans, bundle=bundle)
    assert result.exit_code == OutputError.exit_code and loads == []
    assert (scans / "summary.csv").read_text("utf-8") == "mine\n"


def test_the_summary_keeps_what_other_calls_did(scans: Path, bundle: Path, tmp_path: Path) -> None:
    infer(scans / "a.nii.gz", scans / "b.nii.gz", "-o", tmp_path / "out", bundle=bundle)
    infer(scans / "c*", "-o", tmp_path / "out", bundle=bundle)
    assert {name: row["when"] for name, row in summary(tmp_path / "out").items()} == {
        "a": "earlier",
        "b": "earlier",
        "c": "now",
    }


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(
    scans: Path, bundle: Path, tmp_path: Path, loads: list[None]
) -> None:
    out = tmp_path / "out"
    result = infer(scans, "-o", out, "--dry-run", bundle=bundle)
    assert result.exit_code == 0 and loads == [None] and not out.exists()
    assert result.stdout.count("would segment") == 3
    one = infer(scans / "a.nii.gz", "--dry-run", "--quiet", bundle=bundle)
    # The model is loaded to know that it can be, and nothing is segmented.
    assert one.exit_code == 0 and loads == [None, None]
    assert one.stdout.splitlines() == [f"would write {scans / name}" for name in ("a_seg.nii.gz", "a_seg.json")]


def test_json_is_the_report_of_one_scan_or_a_line_a_case(scans: Path, bundle: Path, tmp_path: Path) -> None:
    one = infer(scans / "a.nii.gz", "-o", f"{tmp_path}/one/", "--json", bundle=bundle)
    written = json.loads((tmp_path / "one" / "a_seg.json").read_text("utf-8"))
    written.pop("written_by")
    assert json.loads(one.stdout) == written
    spoil(scans / "a.nii.gz")
    several = infer(scans, "-o", tmp_path / "out", "--json", bundle=bundle)
    cases = [json.loads(line) for line in several.stdout.splitlines()]
    assert [(case["case"], case["status"], case["report"] is None) for case in cases] == [
        ("a", "failed", True),
        ("b", "done", False),
        ("c", "done", False),
    ]


@pytest.mark.parametrize("option", ["--reference", "--dicom-seg", "--rtstruct"])
def test_what_is_of_one_scan_is_refused_with_several(option: str, scans: Path, bundle: Path) -> None:
    result = infer(scans, option, scans / "a.nii.gz", bundle=bundle)
    assert result.exit_code == USAGE and option in result.stderr


def test_a_lowest_vertebra_is_each_scans_own(scans: Path, bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    manifest = tmp_path / "cases.csv"
    manifest.write_text("scan,lowest\nscans/a.nii.gz,L5\nscans/b.nii.gz,L4\n", "utf-8")
    result = infer("--manifest", manifest, "-o", tmp_path / "out", "--stats", "--force", bundle=bundle)
    assert result.exit_code == 0, result.output
    lowest = {
        name: json.loads((tmp_path / "out" / f"{name}_vertebrae.json").read_text("utf-8"))["vertebrae"][0]["level"]
        for name in "ab"
    }
    assert lowest == {"a": "L5", "b": "L4"}
    # Where nothing is named it is no reason to refuse the list.
    assert infer("--manifest", manifest, "-o", tmp_path / "masks", bundle=bundle).exit_code == 0
