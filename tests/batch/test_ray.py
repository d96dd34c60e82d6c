"""Many scans on a Ray cluster of two workers: one cluster for all tests, and whatever can happen to a worker."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.batch.command import infer, summary, times
from tests.batch.ray_workers import DIARY, GO_ON, Diarist
from tests.runtime.scans import mr_scan
from verdiff.batch import Asked, Batch, Row, WorkerPlan, cases_of, plan_batch, run_on_ray
from verdiff.batch.ray_cluster import devices_of, require_ray
from verdiff.bundle import open_bundle
from verdiff.errors import USAGE, BackendError, OutputError, ServiceError
from verdiff.imaging import write_array
from verdiff.options import InferOptions

ROOT = Path(__file__).resolve().parents[2]
# A machine that has much else to do may not start Ray's processes within the time that Ray gives them.
STARTS = 4


def needs_ray() -> None:
    """Skip where Ray is not installed; it is not imported, since it reads its environment when it is."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a cluster of two CPU threads is, which verdiff started in another process."""
    needs_ray()
    home = tmp_path_factory.mktemp("home")
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT)}
    for _ in range(STARTS):
        host = subprocess.Popen(
            [sys.executable, "-m", "tests.batch.ray_host"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert host.stdin is not None and host.stdout is not None
        if line := host.stdout.readline():
            break
        host.wait()
    else:
        pytest.skip("Ray does not start on this machine now")
    said = json.loads(line)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", said["mode"])
        patch.setenv("RAY_AUTH_TOKEN", said["token"])
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        yield said["address"]
    folder = Path(said["folder"])
    assert folder.is_dir()
    host.stdin.close()
    assert host.wait(60) == 0
    assert not any(each.exists() for each in (folder, *folder.parents[:2])), "Ray's folder is still there"
    assert list(home.iterdir()) == []


def make_scans(folder: Path, *names: str) -> Path:
    scans = folder / "scans"
    scans.mkdir()
    for name in names:
        write_array(mr_scan().array, mr_scan(), scans / f"{name}.nii.gz")
        if "spoilt" in name:
            scan = scans / f"{name}.nii.gz"
            scan.write_bytes(scan.read_bytes()[:2000])
    return scans


def planned(scans: Path, bundle: Path, **changes: Any) -> tuple[Batch, WorkerPlan]:
    options = InferOptions(bundle, threads=1, prior_only=True)
    sha256 = open_bundle(bundle).manifest_sha256
    batch = plan_batch(cases_of([scans]), scans.parent / "out", Asked(options), model_sha256=sha256)
    return batch, replace(WorkerPlan(options, sha256), **changes)


def files_of(*names: str) -> set[str]:
    return {f"{name}_seg{end}" for name in names for end in (".nii.gz", ".json")}


@dataclass(frozen=True)
class Story:
    rows: list[Row]
    notes: list[str]
    diary: list[tuple[str, str, int]]
    out: Path


@pytest.fixture(scope="module")
def story(address: str, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """A batch to whose workers everything happens, one of them killed from outside in the middle of a scan."""
    folder = tmp_path_factory.mktemp("story")
    names = ("a", "b-waits", "d-kills", "e-large", "f-spoilt", "g", "h")
    scans = make_scans(folder, *names)
    diary = folder / DIARY

    def lines() -> list[tuple[str, str, int]]:
        told = [line.split() for line in diary.read_text().splitlines()] if diary.exists() else []
        return [(name, what, int(pid)) for name, what, pid in told]

    def kill_the_one_that_waits() -> None:
        until = time.monotonic() + 120
        while time.monotonic() < until:
            for name, what, pid in lines():
                if name == "b-waits" and what == "begins":
                    with suppress(ProcessLookupError):  # Ray was first.
                        os.kill(pid, signal.SIGKILL)
                    (folder / GO_ON).touch()
                    return
            time.sleep(0.05)

    killer = threading.Thread(target=kill_the_one_that_waits)
    killer.start()
    batch, plan = planned(scans, bundle)
    rows: list[Row] = []
    notes: list[str] = []
    run_on_ray(batch, plan, address, on_case=rows.append, on_note=notes.append, kind=Diarist)
    killer.join()
    return Story(rows, notes, lines(), folder / "out")


def test_every_scan_has_one_row_whatever_became_of_its_workers(story: Story) -> None:
    assert Counter(row.case for row in story.rows) == Counter(list(summary(story.out)))
    assert {row.case: row.status for row in story.rows} == {
        **dict.fromkeys(("a", "b-waits", "g", "h"), "done"),
        **dict.fromkeys(("d-kills", "e-large", "f-spoilt"), "failed"),
    }
    assert {path.name for path in story.out.iterdir()} == files_of("a", "b-waits", "g", "h") | {"summary.csv"}


def test_a_worker_that_was_killed_half_way_is_replaced_and_its_scan_done(story: Story) -> None:
    begun = [pid for name, what, pid in story.diary if (name, what) == ("b-waits", "begins")]
    assert len(begun) >= 2 and begun[0] != begun[-1]
    assert any("a worker was lost" in note for note in story.notes)


def test_a_scan_that_kills_its_workers_is_given_up_and_told(story: Story) -> None:
    (row,) = [row for row in story.rows if row.case == "d-kills"]
    assert row.exit_code == ServiceError.exit_code and "3 workers were lost" in row.says and "to do: " in row.says
    # A worker can be gone before its line of the diary is on disk.
    assert sum(name == "d-kills" and what == "begins" for name, what, _ in story.diary) in (2, 3)


def test_a_scan_that_finds_no_memory_or_is_unreadable_costs_itself_alone(story: Story) -> None:
    says = {row.case: row.says for row in story.rows}
    assert "not enough memory" in says["e-large"] and "f-spoilt.nii.gz" in says["f-spoilt"]


def test_the_command_makes_the_files_of_the_local_run_and_goes_on_where_it_stopped(
    address: str, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_scans(tmp_path, "a", "b", "c")
    # Relative paths mean the same to workers, which run in another folder.
    monkeypatch.chdir(tmp_path)
    assert infer("scans", "-o", "here", bundle=bundle).exit_code == 0
    (tmp_path / "out").mkdir()
    for name in files_of("a"):
        os.link(tmp_path / "here" / name, tmp_path / "out" / name)
    result = infer("scans", "-o", "out", "--ray", address, bundle=bundle)
    assert result.exit_code == 0, result.output
    assert "1/3 a: done earlier" in result.stdout and "3 done" in result.stdout
    for name in "abc":
        assert (tmp_path / "out" / f"{name}_seg.nii.gz").read_bytes() == (
            tmp_path / "here" / f"{name}_seg.nii.gz"
        ).read_bytes()
    assert [summary(tmp_path / "out")[name]["when"] for name in "abc"] == ["earlier", "now", "now"]
    assert summary(tmp_path / "out")["b"]["scan"] == "scans/b.nii.gz"
    before = times(tmp_path / "out")
    assert infer("scans", "-o", "out", bundle=bundle).exit_code == 0 and times(tmp_path / "out") == before


def test_interrupted_it_writes_what_has_a_mask_and_goes_on_with_the_rest(
    address: str, bundle: Path, tmp_path: Path
) -> None:
    scans = make_scans(tmp_path, "a", "b", "c-waits", "d-waits", "e", "f")
    batch, plan = planned(scans, bundle)
    rows: list[Row] = []

    def interrupt(row: Row) -> None:
        rows.append(row)
        if len(rows) == 1:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_on_ray(batch, plan, address, on_case=interrupt, kind=Diarist)
    done = {row.case for row in rows}
    assert done and set(summary(tmp_path / "out")) == done and all(row.status == "done" for row in rows)
    before = times(tmp_path / "out")
    assert set(before) == files_of(*done)
    (tmp_path / GO_ON).touch()
    batch, plan = planned(scans, bundle)
    assert {row.case for row in batch.done} == done
    run_on_ray(batch, plan, address, on_case=rows.append, kind=Diarist)
    assert {row["status"] for row in summary(tmp_path / "out").values()} == {"done"}
    assert {name: when for name, when in times(tmp_path / "out").items() if name in before} == before


def test_a_worker_that_hangs_is_ended_and_what_a_dead_one_had_written_is_not_done_twice(
    address: str, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    batch, plan = planned(make_scans(tmp_path, "a-hangs", "b-dies-after"), bundle)
    notes: list[str] = []
    rows = run_on_ray(batch, plan, address, on_case=lambda row: None, on_note=notes.append, patience=5, kind=Diarist)
    assert sorted((row.case, row.status) for row in rows) == [("a-hangs", "done"), ("b-dies-after", "done")]
    assert any("for more than 5 s" in note for note in notes)
    begun = [line.split()[0] for line in (tmp_path / DIARY).read_text("utf-8").splitlines() if " begins " in line]
    assert min(Counter(begun).values()) >= 2
    # The row of the second try is read from the file of the first one, which alone says who wrote it.
    (row,) = [row for row in rows if row.case == "b-dies-after"]
    assert row.report is not None and "written_by" in row.report
    # Standard output is the caller's.
    assert capsys.readouterr().out == ""


def test_a_disk_that_is_full_ends_the_batch(address: str, bundle: Path, tmp_path: Path) -> None:
    batch, plan = planned(make_scans(tmp_path, "a-full", "b-waits", "c-waits", "d"), bundle)
    with pytest.raises(OutputError, match="the disk is full"):
        run_on_ray(batch, plan, address, on_case=lambda row: None, kind=Diarist)
    told = summary(tmp_path / "out")
    assert told.pop("a-full")["status"] == "failed" and "d" not in told
    assert {path.name for path in (tmp_path / "out").glob("*_seg*")} == files_of(*told)


def test_a_machine_with_another_verdiff_or_model_is_left_out_by_name(
    address: str, bundle: Path, tmp_path: Path
) -> None:
    scans = make_scans(tmp_path, "a")
    notes: list[str] = []
    for changes, error in (({"version": "0.0.1"}, "verdiff 0.0.1"), ({"model_sha256": "0" * 64}, "0000")):
        batch, plan = planned(scans, bundle, **changes)
        with pytest.raises(Exception, match=error) as told:
            run_on_ray(batch, plan, address, on_case=lambda row: None, on_note=notes.append)
        assert "on every machine" in str(told.value)
    assert len(notes) == 2 and all("left out" in note for note in notes)
    assert not (tmp_path / "out").exists()


def test_without_ray_one_message_says_what_to_install(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    result = infer(make_scans(tmp_path, "a"), "-o", tmp_path / "out", "--ray", "local", bundle=bundle)
    assert result.exit_code == BackendError.exit_code and "[ray]" in result.stderr
    assert result.stderr.count("found: ") == 1 and not (tmp_path / "out").exists()


def test_asking_whether_ray_is_there_does_not_import_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads its environment when it is imported, and the secret of a cluster of our own is not in it before."""
    needs_ray()
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    require_ray()
    assert "ray" not in sys.modules


def test_an_address_where_nobody_is_or_that_is_none_is_told_at_once(bundle: Path, tmp_path: Path) -> None:
    needs_ray()
    scans = make_scans(tmp_path, "a")
    nobody = infer(scans, "-o", tmp_path / "out", "--ray", "127.0.0.1:9", bundle=bundle)
    assert nobody.exit_code == ServiceError.exit_code and "no Ray cluster at 127.0.0.1:9" in nobody.stderr
    for words in (("--ray", "ray://head:10001"), ("--ray", "local", "--device", "cuda:1")):
        assert infer(scans, *words, bundle=bundle).exit_code == USAGE
    assert not (tmp_path / "out").exists()


def node(name: str, **resources: float) -> dict[str, Any]:
    return {"Alive": True, "NodeID": name, "NodeManagerHostname": name, "Resources": resources}


def test_a_device_is_a_processor_some_threads_or_a_gpu() -> None:
    nodes = [node("one", CPU=16.0, GPU=2.0), node("two", CPU=4.0), {**node("gone", CPU=64.0), "Alive": False}]
    assert [each.threads for each in devices_of(nodes, "cpu", None)] == [16, 4]
    eights = devices_of(nodes, "cpu", 8)
    assert [(each.node, each.resources["num_cpus"]) for each in eights] == [("one", 8), ("one", 8)]
    # In turn, so that few scans use every machine.
    assert [each.node for each in devices_of(nodes, "cpu", 4)][:3] == ["one", "two", "one"]
    gpus = devices_of(nodes, "cuda", None)
    assert [(each.node, each.threads, each.resources["num_gpus"]) for each in gpus] == [("one", None, 1)] * 2
    assert len({each.name for each in (*eights, *gpus)}) == 4
    with pytest.raises(BackendError, match="without a GPU"):
        devices_of(nodes[1:], "cuda", None)
