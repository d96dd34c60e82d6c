"""``verdiff sign`` and the commands that hold a bundle against a hash or a key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import Result

from tests.bundle.keys import write_pair
from tests.command_line import verdiff
from tests.runtime.scans import mr_scan
from tests.runtime.tiny_bundle import write_tiny
from verdiff.bundle import open_bundle
from verdiff.errors import USAGE, InputError, OutputError, UntrustedBundleError
from verdiff.imaging import write_array


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_tiny(tmp_path / "tiny.verdiff")
    write_array(mr_scan().array, mr_scan(), tmp_path / "scan.nii.gz")
    for name in ("ours", "theirs"):
        write_pair(tmp_path, name)
    assert verdiff("sign", "tiny.verdiff", "--key", "ours.pem").exit_code == 0
    return tmp_path


def infer(*more: object) -> Result:
    return verdiff("infer", "scan.nii.gz", "--model", "tiny.verdiff", "--threads", 1, "--prior-only", *more)


def test_a_signed_and_pinned_model_segments_and_the_report_says_so(here: Path) -> None:
    pin = open_bundle("tiny.verdiff").manifest_sha256
    done = infer("--trusted-key", "ours.pub", "--expect-sha256", pin)
    assert done.exit_code == 0, done.output
    trusted = json.loads((here / "scan_seg.json").read_text())["provenance"]["model"]["trusted"]
    assert trusted["pinned_sha256"] == pin and len(trusted["signed_by"]) == 64


COMMANDS = (
    ("infer", "scan.nii.gz", "--model", "tiny.verdiff"),
    ("info", "tiny.verdiff"),
    ("build", "tiny.verdiff"),
    ("export", "tiny.verdiff", "--fp16", "-o", "half.verdiff"),
    ("bench", "volume", "--scan", "scan.nii.gz", "--model", "tiny.verdiff", "-o", "record"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize("given", [("--trusted-key", "theirs.pub"), ("--expect-sha256", "0" * 64)])
def test_a_model_that_is_not_trusted_is_refused_with_its_own_code(
    here: Path, command: tuple[str, ...], given: tuple[str, str]
) -> None:
    before = sorted(here.iterdir())
    done = verdiff(*command, *given)
    assert done.exit_code == UntrustedBundleError.exit_code == 16, done.output
    assert done.stderr.count("\n") == 3 and "tiny.verdiff" in done.stderr
    assert sorted(here.iterdir()) == before


def test_an_unsigned_model_is_refused(here: Path) -> None:
    (here / "tiny.verdiff.sig").unlink()
    done = infer("--trusted-key", "ours.pub")
    assert done.exit_code == UntrustedBundleError.exit_code and "not signed" in done.stderr


def test_a_bench_of_the_pinned_and_signed_model_runs(here: Path) -> None:
    pin = open_bundle("tiny.verdiff").manifest_sha256
    done = verdiff(*COMMANDS[-1], "--repeats", 1, "--threads", 1, "--trusted-key", "ours.pub", "--expect-sha256", pin)
    assert done.exit_code == 0, done.output
    record = json.loads((here / "record" / "volume.json").read_text())
    assert record["subject"]["bundle_sha256"] == pin


@pytest.mark.parametrize("case", ["list", "compare"])
def test_what_runs_no_model_takes_no_pin(here: Path, case: str) -> None:
    records = ("before.json", "after.json") if case == "compare" else ()
    assert verdiff("bench", case, *records, "--expect-sha256", "0" * 64).exit_code == USAGE


def test_info_says_who_signed(here: Path) -> None:
    facts = json.loads(verdiff("info", "tiny.verdiff", "--trusted-key", "ours.pub", "--json").stdout)
    assert facts["trusted"]["signed_by"] in verdiff("sign", "tiny.verdiff", "--key", "ours.pem", "--overwrite").output


def test_only_a_bundle_can_be_trusted(here: Path) -> None:
    assert verdiff("info", "scan.nii.gz", "--expect-sha256", "0" * 64).exit_code == InputError.exit_code


@pytest.mark.parametrize("command", [command[:2] for command in COMMANDS[:2]], ids=lambda command: command[0])
def test_half_a_hash_is_refused_while_the_line_is_parsed(here: Path, command: tuple[str, ...]) -> None:
    assert verdiff(*command, "--expect-sha256", "abc").exit_code == USAGE


def test_a_signature_never_goes_over_another_file(here: Path) -> None:
    again = verdiff("sign", "tiny.verdiff", "--key", "theirs.pem")
    assert again.exit_code == OutputError.exit_code and "tiny.verdiff.sig" in again.stderr
    for place in ("tiny.verdiff", "ours.pem"):
        before = (here / place).read_bytes()
        done = verdiff("sign", "tiny.verdiff", "--key", "ours.pem", "-o", place, "--overwrite")
        assert done.exit_code == OutputError.exit_code and (here / place).read_bytes() == before


def test_a_damaged_bundle_is_not_signed(here: Path) -> None:
    data = bytearray((here / "tiny.verdiff").read_bytes())
    data[len(data) // 2] ^= 1
    (here / "tiny.verdiff").write_bytes(data)
    done = verdiff("sign", "tiny.verdiff", "--key", "ours.pem", "-o", "new.sig")
    assert done.exit_code == 5 and not (here / "new.sig").exists()


def test_what_does_not_sign_is_named(here: Path) -> None:
    done = verdiff("sign", "tiny.verdiff", "--key", "ours.pub", "-o", "new.sig")
    assert done.exit_code == InputError.exit_code and "private key" in done.stderr
