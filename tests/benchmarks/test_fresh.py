"""A fresh process gives its result, its error or its end, and a peak that is its own."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

from verdiff.benchmarks.fresh import peak_bytes, run_fresh
from verdiff.errors import BackendError, InputError

HERE = "tests.benchmarks.test_fresh"


def double(number: int) -> int:
    print("noise on standard output does not get in the way")
    return 2 * number


def refuse(name: str) -> None:
    raise InputError(f"no {name}", "a file", "check the path")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hold(megabytes: int) -> int:
    return int(np.ones(megabytes << 20, np.uint8)[::4096].sum())


def test_the_result_comes_back():
    run = run_fresh(f"{HERE}:double", {"number": 21})
    assert run.result == 42


def test_a_named_error_comes_back_as_the_same_class():
    with pytest.raises(InputError) as caught:
        run_fresh(f"{HERE}:refuse", {"name": "scan"})
    assert (caught.value.found, caught.value.remedy) == ("no scan", "check the path")


def test_a_process_that_is_killed_is_an_error_that_says_so():
    with pytest.raises(BackendError, match="ended with code -9"):
        run_fresh(f"{HERE}:die", {})


def test_the_peak_is_the_fresh_process_s_own_however_large_its_parent():
    ballast = np.ones(400 << 20, np.uint8)
    small = run_fresh(f"{HERE}:hold", {"megabytes": 1}).peak_bytes
    large = run_fresh(f"{HERE}:hold", {"megabytes": 200}).peak_bytes
    assert ballast[-1] and small is not None and large is not None
    assert large - small == pytest.approx(199 << 20, rel=0.2)
    assert small < ballast.nbytes


def test_the_peak_is_read_from_the_process_s_status(tmp_path):
    (tmp_path / "status").write_text("Name:\tpython\nVmHWM:\t    2048 kB\nVmRSS:\t 1024 kB\n", "utf-8")
    assert peak_bytes(tmp_path / "status") == 2048 * 1024


def test_where_there_is_no_status_getrusage_answers(tmp_path):
    found = peak_bytes(tmp_path / "none")
    assert found is not None and found > 1 << 20


def variable(name: str) -> str | None:
    return os.environ.get(name)


def test_variables_are_set_beside_the_parent_s_own(monkeypatch):
    monkeypatch.setenv("VERDIFF_TEST_OWN", "kept")
    seen = [
        run_fresh(f"{HERE}:variable", {"name": name}, environment={"VERDIFF_TEST_NEW": "set"}).result
        for name in ("VERDIFF_TEST_OWN", "VERDIFF_TEST_NEW")
    ]
    assert seen == ["kept", "set"]
    assert "VERDIFF_TEST_NEW" not in os.environ
