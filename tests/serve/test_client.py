"""A worker behind its client: masks, partial ones, deadlines, and what becomes of a worker that does not behave."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.runtime.scans import mr_scan
from tests.runtime.tiny_bundle import write_tiny
from verdiff.errors import BackendError, BudgetError, BundleError, InputError, ServiceError, UnsuitableScanError
from verdiff.imaging import Volume
from verdiff.imaging.identity import Identity, SourceFrame
from verdiff.runtime import Cancelled, Segmenter
from verdiff.serve import Client, Job
from verdiff.serve import client as client_module
from verdiff.serve.channel import Channel

# Enough work that a worker is in the middle of it whenever a test looks.
LONG = {"steps": 500, "samples": 200}


def eventually(true: Callable[[], bool]) -> None:
    """Wait for something that is about to be so."""
    for _ in range(3000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it never came about")


def under_way(client: Client, scan: Volume | None = None, **more: object) -> Job:
    """A long job that the worker has begun: the prior's mask is there."""
    job = client.submit(mr_scan(20) if scan is None else scan, **LONG, **more)  # type: ignore[arg-type]
    next(iter(job))
    return job


@pytest.mark.parametrize(("named", "file"), [("spine-mr", False), ("./spine-mr", True), (Path("spine-mr"), True)])
def test_the_worker_is_told_a_shipped_name_as_it_is_and_of_a_file_the_whole_path(
    named: str | Path, file: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("spine-mr").touch()
    told: list[Mapping[str, object]] = []

    class Supervisor:
        def __init__(self, options: Mapping[str, object], *_: object) -> None:
            told.append(options)

        def start(self) -> None:
            pass

    monkeypatch.setattr(client_module, "Supervisor", Supervisor)
    Client(named)
    assert told == [{"model": str(tmp_path / "spine-mr") if file else "spine-mr"}]


def test_the_masks_are_those_of_the_segmenter_bit_for_bit_the_priors_first(client: Client, bundle: Path) -> None:
    scan, ours = mr_scan(), Segmenter.load(bundle, threads=1)
    expected = list(ours.stream(scan, samples=3, seed=5))
    job = client.submit(scan, samples=3, seed=5, uncertainty=True)
    replies = list(job)
    assert [reply.outcome for reply in replies] == [each.outcome for each in expected]
    assert replies[0].outcome == "prior" and replies[-1].outcome == "complete"
    for reply, each in zip(replies, expected, strict=True):
        assert np.array_equal(reply.labels, each.labels)
        assert reply.uncertainty is not None and np.array_equal(reply.uncertainty, each.uncertainty)
        assert reply.geometry == scan.geometry
        assert reply.volumes_ml == each.volumes_ml()
        assert reply.provenance["sampling"] == each.provenance["sampling"]
    assert job.result() is replies[-1] and job.state == "done"


def test_whose_scan_it_is_comes_back_with_the_mask_and_never_goes_to_the_worker(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = Identity("1.2.3", "1.2.4", "1.2.5", "MR", "HFS", (SourceFrame("1.1", "1.2.6.1"),) * 5)
    scan, sent = replace(mr_scan(), identity=identity), []
    send = Channel.send
    monkeypatch.setattr(
        Channel, "send", lambda self, message, *blocks: (sent.append(message), send(self, message, *blocks))
    )
    reply = client.submit(scan).result()
    assert reply.identity is identity
    assert reply.provenance["scan"]["dicom"] == identity.described()
    assert sent and "1.2.3" not in json.dumps(sent)


def test_it_says_what_it_loaded(client: Client, bundle: Path) -> None:
    ours = Segmenter.load(bundle, threads=1)
    assert client.model["id"] == "tiny-mr"
    assert client.model["manifest_sha256"] == ours.model["manifest_sha256"]
    assert client.model["labels"] == {"vertebra": 1, "disc": 2, "canal": 7}
    assert client.worker_pid != os.getpid()


def test_surfaces_come_with_the_end_and_enclose_the_mask(client: Client) -> None:
    job = client.submit(mr_scan(), surfaces=True)
    volumes = job.result().volumes_ml
    assert set(job.surfaces) == {name for name, volume in volumes.items() if volume}
    for name, surface in job.surfaces.items():
        assert surface.volume_ml == pytest.approx(volumes[name], rel=0.5)


def test_a_film_has_no_surfaces_and_is_no_error(client: Client) -> None:
    job = client.submit(mr_scan(1), surfaces=True, force=True)
    assert job.result().labels.shape[0] == 1
    assert job.surfaces == {}


def test_errors_keep_their_kind_and_their_three_parts(client: Client) -> None:
    with pytest.raises(UnsuitableScanError) as caught:
        client.submit(mr_scan(pixel=4.0)).result()
    assert caught.value.found and caught.value.expected and caught.value.remedy
    with pytest.raises(InputError, match="constant"):
        scan = mr_scan()
        client.submit(Volume(np.zeros_like(scan.array), scan.geometry))


@pytest.mark.parametrize(
    "options",
    [{"stepps": 3}, {"budget_ms": 5}, {"cancel": True}, {"steps": [3]}, {"steps": 0}, {"sampler": "guessing"}],
)
def test_an_option_that_a_job_does_not_have_is_refused_at_once(client: Client, options: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        client.submit(mr_scan(), **options)  # type: ignore[arg-type]


def test_a_job_that_is_cancelled_gives_the_mask_it_has(client: Client) -> None:
    job = under_way(client)
    job.cancel()
    result = job.result()
    assert result.outcome == "cancelled" and not result.empty
    assert client.submit(mr_scan()).result().outcome == "complete"


def test_a_job_that_is_cancelled_while_it_waits_says_so(client: Client) -> None:
    first, second = under_way(client), client.submit(mr_scan())
    second.cancel()
    with pytest.raises(Cancelled, match="waited"):
        second.result()
    assert not first.over
    first.cancel()
    assert first.result().outcome == "cancelled"


def test_a_deadline_ends_a_job_with_the_best_mask_by_then(client: Client) -> None:
    result = client.submit(mr_scan(20), deadline_ms=2500, **LONG).result()
    assert result.outcome in ("budget", "cancelled", "prior") and not result.empty


def test_a_deadline_in_the_next_century_is_as_good_as_none(client: Client) -> None:
    first = under_way(client)
    late = client.submit(mr_scan(), deadline_ms=1e308)
    first.cancel()
    assert late.result().outcome == "complete"


def test_a_deadline_that_passes_while_the_job_waits_is_a_budget_error(client: Client) -> None:
    first = under_way(client)
    with pytest.raises(BudgetError, match="waited"):
        client.submit(mr_scan(), deadline_ms=50).result()
    first.cancel()
    first.result()


def test_a_worker_that_hangs_is_killed_and_another_one_takes_the_jobs_that_wait(short_tempered: Client) -> None:
    job, old = under_way(short_tempered), short_tempered.worker_pid
    assert old is not None
    waiting = short_tempered.submit(mr_scan())
    os.kill(old, signal.SIGSTOP)
    job.cancel()
    with pytest.raises(ServiceError, match="SIGKILL"):
        job.result()
    assert waiting.result().outcome == "complete"
    assert short_tempered.worker_pid != old
    with pytest.raises(ProcessLookupError):
        os.kill(old, 0)


def test_a_job_that_outlives_its_deadline_in_a_hung_worker_is_ended_by_the_watchdog(short_tempered: Client) -> None:
    job = under_way(short_tempered, deadline_ms=3000)
    os.kill(short_tempered.worker_pid or 0, signal.SIGSTOP)
    with pytest.raises(ServiceError):
        job.result()
    assert short_tempered.submit(mr_scan()).result().outcome == "complete"


def test_a_worker_that_is_killed_costs_the_job_it_had(short_tempered: Client) -> None:
    job, old = under_way(short_tempered), short_tempered.worker_pid
    os.kill(old or 0, signal.SIGKILL)
    with pytest.raises(ServiceError, match="SIGKILL"):
        job.result()
    assert short_tempered.submit(mr_scan()).result().outcome == "complete"


def test_too_many_jobs_are_refused(short_tempered: Client) -> None:
    first = under_way(short_tempered)
    others = [short_tempered.submit(mr_scan()) for _ in range(2)]
    with pytest.raises(ServiceError, match="2 jobs are waiting"):
        short_tempered.submit(mr_scan())
    first.cancel()
    assert [other.result().outcome for other in others] == ["complete", "complete"]


def test_a_model_that_cannot_be_loaded_is_refused_by_the_constructor(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        Client(tmp_path / "none.verdiff")
    with pytest.raises(BackendError, match="threads"):
        Client(threads=[1])
    with pytest.raises(BackendError, match="colour"):
        Client(colour="green")
    with pytest.raises(BackendError):
        Client(device="cuda:7")


def test_an_interpreter_that_is_none_is_named(bundle: Path) -> None:
    with pytest.raises(ServiceError, match="does not start"):
        Client(bundle, python="/nowhere/python")
    with pytest.raises(ServiceError, match="while it loaded"):
        Client(bundle, python="/bin/true")


def test_a_bundle_that_is_gone_at_a_restart_fails_until_it_is_back(tmp_path: Path) -> None:
    from verdiff.serve import Limits

    path = write_tiny(tmp_path / "tiny.verdiff")
    with Client(path, threads=1, limits=Limits(pause_s=0.2)) as client:
        path.rename(tmp_path / "away")
        os.kill(client.worker_pid or 0, signal.SIGKILL)
        eventually(lambda: client.state == "failed")
        with pytest.raises(ServiceError, match="no worker"):
            client.submit(mr_scan())
        (tmp_path / "away").rename(path)
        eventually(lambda: client.state == "ready")
        assert client.submit(mr_scan()).result().outcome == "complete"


def test_a_host_may_keep_its_masks_and_no_file_is_kept_open_for_them(client: Client) -> None:
    opened = len(os.listdir("/proc/self/fd"))
    kept = [client.submit(mr_scan(2)).result() for _ in range(20)]
    assert len(os.listdir("/proc/self/fd")) <= opened
    assert all(np.array_equal(each.labels, kept[0].labels) for each in kept)


FAILING = """#!{python}
import os, sys
sys.argv[:] = sys.argv[3:]  # python -P -m, as the supervisor starts it
from verdiff.runtime import Segmenter
from verdiff.serve import worker
real = Segmenter.stream
def stream(self, scan, **options):
    for result in real(self, scan, **options):
        yield result
        {mistake}
Segmenter.stream = stream
worker.main()
"""


def failing(folder: Path, mistake: str) -> str:
    """An interpreter whose worker makes a mistake after each prior."""
    path = folder / "python"
    path.write_text(FAILING.format(python=sys.executable, mistake=mistake))
    path.chmod(0o755)
    return str(path)


def test_a_scan_that_fails_in_the_middle_has_its_priors_mask_and_an_error_and_the_worker_goes_on(
    bundle: Path, tmp_path: Path
) -> None:
    with Client(bundle, threads=1, python=failing(tmp_path, "raise ZeroDivisionError('of all things')")) as client:
        worker = client.worker_pid
        for _ in range(2):
            job, seen = client.submit(mr_scan()), []
            with pytest.raises(ServiceError, match="ZeroDivisionError: of all things"):
                for reply in job:
                    seen.append(reply.outcome)
            assert seen == ["prior"] and job.state == "failed"
        assert client.worker_pid == worker


def test_a_worker_that_crashes_in_native_code_costs_the_job_it_had(bundle: Path, tmp_path: Path) -> None:
    with Client(bundle, threads=1, python=failing(tmp_path, "os.abort()")) as client:
        worker = client.worker_pid
        with pytest.raises(ServiceError, match="SIGABRT"):
            client.submit(mr_scan()).result()
        eventually(lambda: client.state == "ready")
        assert client.worker_pid != worker


def test_memory_that_is_not_there_is_refused_by_name(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    opened = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(BudgetError, match="No space left"):
        client.submit(mr_scan())
    assert len(os.listdir("/proc/self/fd")) == opened


def test_a_callback_that_fails_harms_no_job(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("the host's own mistake")

    assert client.submit(mr_scan(), on_reply=fail, on_end=fail).result().outcome == "complete"
    assert "the host's own mistake" in caplog.text
    assert client.submit(mr_scan()).result().outcome == "complete"


def test_callbacks_come_in_order(client: Client) -> None:
    seen: list[str] = []
    ended = threading.Event()

    def end(job: Job) -> None:
        seen.append(job.state)
        ended.set()

    client.submit(mr_scan(), on_reply=lambda reply: seen.append(reply.outcome), on_end=end)
    assert ended.wait(60)
    assert seen[0] == "prior" and seen[-2:] == ["complete", "done"]


def test_closing_ends_the_worker_and_tells_every_job(bundle: Path) -> None:
    client = Client(bundle, threads=1)
    running, waiting, worker = under_way(client), client.submit(mr_scan()), client.worker_pid
    client.close()
    client.close()
    for job in (running, waiting):
        with pytest.raises(ServiceError, match="shutting down"):
            job.result()
    with pytest.raises(ServiceError, match="shutting down"):
        client.submit(mr_scan())
    with pytest.raises(ProcessLookupError):
        os.kill(worker or 0, 0)
    assert client.state == "closed"


def test_a_host_with_thousands_of_open_files_is_served(bundle: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip(f"only {hard} files may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    many = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        with Client(bundle, threads=1) as client:
            assert client.submit(mr_scan()).result().outcome == "complete"
    finally:
        for each in many:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_fork_is_told_to_make_its_own(client: Client) -> None:
    child = os.fork()
    if not child:
        try:
            client.submit(mr_scan())
        except ServiceError as error:
            os._exit(0 if "forked" in str(error) else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


HOST = """
import os, signal, sys
from verdiff.serve import Client
client = Client(sys.argv[1], threads=1)
print(client.worker_pid, flush=True)
sys.stdin.read()
"""


def test_a_worker_does_not_outlive_its_host_and_a_script_needs_no_guard(bundle: Path) -> None:
    """The host has no ``if __name__ == "__main__"``, and is killed without a chance to end its worker."""
    host = subprocess.Popen(
        [sys.executable, "-c", HOST, bundle], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert host.stdout is not None and host.stdin is not None
    worker = int(host.stdout.readline())
    assert alive(worker)
    host.kill()
    host.wait()
    host.stdin.close()
    host.stdout.close()
    eventually(lambda: not alive(worker))


def alive(process: int) -> bool:
    """Whether a process is there and no zombie; its parent is gone, so another one reaps it."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def resident(process: int) -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_many_requests_in_a_row_take_no_more_memory_and_no_more_files(client: Client) -> None:
    scan = mr_scan(2, 24, 20)

    def a_few(number: int) -> None:
        for _ in range(number):
            client.submit(scan, prior_only=True).result()

    processes = (os.getpid(), client.worker_pid or 0)

    def files() -> list[int]:
        return [len(os.listdir(f"/proc/{process}/fd")) for process in processes]

    a_few(100)
    before = [resident(process) for process in processes], files()
    a_few(1000)
    after = [resident(process) for process in processes], files()
    assert after[1] == before[1]
    assert all(new - old < 4 << 20 for new, old in zip(after[0], before[0], strict=True)), (before, after)
