"""Tests that need a program of Debian's run where it is, and are skipped by its name where it is not."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests import peers


def test_a_test_with_its_programs_runs() -> None:
    assert peers.needs("sh").args == (False,)


def test_a_test_without_its_programs_is_skipped_by_their_names() -> None:
    mark = peers.needs("sh", "no-such-peer", "/no/such/plugin.so")
    assert mark.args == (True,)
    assert mark.kwargs["reason"] == "no-such-peer, /no/such/plugin.so not installed: make peers"


def test_a_namesake_in_the_virtual_environment_is_no_peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, system = tmp_path / "own", tmp_path / "system"
    for folder in (own, system):
        folder.mkdir()
        (folder / "a-peer").write_text("#!/bin/sh\n")
        (folder / "a-peer").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(own / "python"))
    monkeypatch.setenv("PATH", os.pathsep.join([str(own), str(system)]))
    assert peers.program("a-peer") == str(system / "a-peer")


def test_one_line_names_all_that_is_missing() -> None:
    reasons = [f"Skipped: a, b {peers.REMEDY}", f"Skipped: b {peers.REMEDY}", "Skipped: needs a GPU"]
    assert peers.skipped_line(reasons) == "2 tests skipped for want of a, b: make peers installs them"
    assert peers.skipped_line(["Skipped: needs a GPU"]) is None
