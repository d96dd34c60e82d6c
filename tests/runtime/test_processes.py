"""A loaded model and its process: forks, pickles, the bundle's file, what the libraries do behind one's back."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from tests.runtime.scans import mr_scan
from tests.runtime.tiny_bundle import write_tiny
from verdiff.errors import BackendError
from verdiff.runtime import Segmenter, silent

BACKENDS = ("onnxruntime", "openvino")
PATIENCE_S = 60


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("leaving", ["os._exit", "sys.exit"])
@pytest.mark.parametrize("threads", [1, 2])
def test_after_a_fork_the_child_is_told_to_load_its_own_and_ends_in_order(
    backend: str, leaving: str, threads: int, bundle_path: Path
) -> None:
    """In a process of its own: the exit of a child is that of its whole interpreter."""
    program = (
        "import gc, os, signal, sys\n"
        "from tests.runtime.scans import mr_scan\n"
        "from verdiff.errors import BackendError\n"
        "from verdiff.runtime import Segmenter\n"
        "load = dict(backend=sys.argv[2], threads=int(sys.argv[3]))\n"
        "segmenter, scan = Segmenter.load(sys.argv[1], **load), mr_scan()\n"
        "labels = segmenter.segment(scan, prior_only=True).labels\n"
        "child = os.fork()\n"
        "if not child:\n"
        f"    signal.alarm({PATIENCE_S})\n"
        "    for call in (lambda: segmenter.segment(scan), lambda: next(segmenter.stream(scan))):\n"
        "        try:\n"
        "            call()\n"
        "        except BackendError as error:\n"
        "            assert 'load in the worker' in str(error)\n"
        "        else:\n"
        "            os._exit(1)\n"
        "    segmenter.close()\n"
        "    del segmenter\n"
        "    gc.collect()\n"
        "    own = Segmenter.load(sys.argv[1], **load)\n"
        "    assert (own.segment(scan, prior_only=True).labels == labels).all()\n"
        f"    {leaving}(7)\n"
        "_, status = os.waitpid(child, 0)\n"
        "assert (segmenter.segment(scan, prior_only=True).labels == labels).all()\n"
        "print('child', os.waitstatus_to_exitcode(status))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(bundle_path), backend, str(threads)], capture_output=True, text=True
    )
    assert done.stdout == "child 7\n", done.stderr


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_segmenter_is_not_pickled_and_says_to_load_one_in_each_process(backend: str, bundle_path: Path) -> None:
    segmenter = Segmenter.load(bundle_path, backend=backend, threads=2, self_test=False)
    for send in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(BackendError, match=r"Segmenter.*(\n.*)*load the Segmenter in each process"):
            send(segmenter)


def test_what_a_caller_holds_beside_it_is_pickled_and_equal(bundle_path: Path) -> None:
    segmenter = Segmenter.load(bundle_path, backend="onnxruntime", threads=2, self_test=False)
    result = segmenter.segment(mr_scan())
    again = pickle.loads(pickle.dumps(result))
    np.testing.assert_array_equal(again.labels, result.labels)
    np.testing.assert_array_equal(again.uncertainty, result.uncertainty)
    assert pickle.loads(pickle.dumps(segmenter.manifest)) == segmenter.manifest
    error = pickle.loads(pickle.dumps(BackendError("a", "b", "c")))
    assert (type(error), str(error)) == (BackendError, str(BackendError("a", "b", "c")))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("fate", ["deleted", "replaced", "overwritten", "left"])
@pytest.mark.parametrize("form", ["m.verdiff", "m"])
def test_a_loaded_model_needs_its_file_no_more(
    backend: str, fate: str, form: str, bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers(segmenter: Segmenter) -> list[np.ndarray]:
        scan = mr_scan()
        single = (scan.array[2:3], scan.geometry.spacing_mm, scan.geometry.direction)
        return [segmenter.segment(each, steps=1, samples=1, force=True).labels for each in (scan, single)]

    right = answers(Segmenter.load(bundle_path, backend=backend, threads=2))
    path = write_tiny(tmp_path / "here" / form)
    monkeypatch.chdir(path.parent)
    segmenter = Segmenter.load(form, backend=backend, threads=2)
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    if fate == "deleted":
        shutil.rmtree(path.parent)
    elif fate == "replaced":
        write_tiny(path, version="9.9.9", limits=("x" * 500,))
    elif fate == "overwritten":
        for file in files:
            file.write_bytes(b"somebody else's")
    else:
        monkeypatch.chdir(tmp_path)
    for found, expected in zip(answers(segmenter), right, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_importing_a_library_leaves_the_environment_and_the_modules_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    marker, seen = object(), {}

    def imported(name: str) -> str:
        seen[name] = (os.environ.get(silent.ORT_SWITCH), sys.modules.get(silent.OPENVINO_TELEMETRY, marker))
        return name

    monkeypatch.setattr(silent, "import_module", imported)
    for name in ("onnxruntime", "openvino"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setenv(silent.ORT_SWITCH, "0")
    monkeypatch.setitem(sys.modules, silent.OPENVINO_TELEMETRY, marker)
    monkeypatch.setitem(sys.modules, f"{silent.OPENVINO_TELEMETRY}.backend", marker)
    assert (silent.onnxruntime(), silent.openvino()) == ("onnxruntime", "openvino")
    assert seen == {"onnxruntime": ("1", marker), "openvino": ("0", None)}
    assert os.environ[silent.ORT_SWITCH] == "0"
    assert sys.modules[silent.OPENVINO_TELEMETRY] is marker
    assert sys.modules[f"{silent.OPENVINO_TELEMETRY}.backend"] is marker


WATCHED = """
import sys
seen = []
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request"):
        seen.append((event, str(arguments[1:])))
sys.addaudithook(watch)
from typer.testing import CliRunner
from verdiff.cli import app
scan, bundle, out = sys.argv[1:]
infer = ["infer", scan, "--model", bundle, "--threads", "2", "--prior-only", "--uncertainty", "--preview"]
commands = [[*infer, "--backend", name, "-o", f"{out}/{name}/"] for name in ("onnxruntime", "openvino")]
commands += [[*infer, "--stats", "--instances", "--mesh", "-o", f"{out}/anatomy/"], ["info", scan], ["info", bundle]]
commands += [["models"], ["doctor"], ["build", "--list"], ["bench", "list"], ["data", "list"]]
masks = [f"{out}/onnxruntime/scan_seg.nii.gz", f"{out}/openvino/scan_seg.nii.gz"]
commands += [["evaluate", *masks, "--labels", "vertebra=1", "--no-distances", "-o", f"{out}/scores/"]]
commands += [["compare", f"a={out}/scores", "--metrics", "dice"]]
for command in commands:
    result = CliRunner().invoke(app, command)
    assert result.exit_code in ((0, 1) if command == ["doctor"] else (0,)), (command, result.output)
print(seen)
"""


def test_no_command_writes_below_home_or_looks_for_another_machine(bundle_path: Path, tmp_path: Path) -> None:
    """Where strace is there, what the libraries' own threads do is seen too."""
    from verdiff.imaging import write_array

    home, scan = tmp_path / "home", tmp_path / "scan.nii.gz"
    home.mkdir()
    write_array(mr_scan().array, mr_scan(), scan)
    switches = ("ORT_DISABLE_TELEMETRY", "CI", "GITHUB_ACTIONS", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR")
    environment = {name: value for name, value in os.environ.items() if name not in switches}
    command = [sys.executable, "-c", WATCHED, str(scan), str(bundle_path), str(tmp_path / "out")]
    record = tmp_path / "calls"
    strace = shutil.which("strace")
    if strace and subprocess.run([strace, "-o", os.devnull, "true"], capture_output=True).returncode == 0:
        command = [
            strace,
            "-f",
            "-qq",
            "-e",
            "trace=connect,sendto,sendmsg,sendmmsg,openat",
            "-o",
            str(record),
            *command,
        ]
    done = subprocess.run(command, env={**environment, "HOME": str(home)}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
    assert [path for path in home.rglob("*") if not path.is_dir()] == []
    calls = record.read_text("utf-8", "replace").splitlines() if record.exists() else []
    assert [line for line in calls if "AF_INET" in line or "resolv.conf" in line] == []


def test_freeing_a_segmenter_in_the_process_that_loaded_it_leaves_nothing_known_of_it(bundle_path: Path) -> None:
    from verdiff.runtime.processes import _LOADED

    gc.collect()  # of what other tests left
    before = len(_LOADED)
    segmenter = Segmenter.load(bundle_path, backend="onnxruntime", threads=1, self_test=False)
    assert len(_LOADED) == before + 1
    del segmenter
    gc.collect()
    assert len(_LOADED) == before


def test_a_library_s_refusal_in_a_fork_is_not_a_signal(bundle_path: Path) -> None:
    """The check is of the process, so it holds for whoever calls in the child, in any thread."""
    segmenter = Segmenter.load(bundle_path, backend="onnxruntime", threads=1, self_test=False)
    with warnings.catch_warnings():
        # Python 3.12 warns of forks beside threads, which is what this is about.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        signal.alarm(PATIENCE_S)
        try:
            with segmenter:
                segmenter.on_device(1, 2, 3, (1.0, 1.0))
        except BackendError as error:
            os._exit(3 if "forked" in str(error) else 4)
        os._exit(5)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
