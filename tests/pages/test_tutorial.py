"""The tutorial from its first command to its last, in one folder: eight small patients, a training of seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pages.printed import FENCE, ROOT, SHELL, TUTORIAL, How, shell_lines
from tests.pages.running import in_folder
from tests.pages.workshop import cropped, write_data_set
from verdiff.bundle import open_bundle
from verdiff.errors import IMPLAUSIBLE, SUCCESS, BackendError, VerdiffError
from verdiff.imaging import read_volume

PATIENTS = tuple(f"p{number:02d}" for number in range(1, 9))
SMALL = (
    "--set training.iterations=120 --set training.validate_every=120 --set training.validate_slices=1 "
    "--set 'training.crop=[32, 32]' --set training.warmup=5 --set training.learning_rate=5e-3 "
    "--set 'network.prior_widths=[8, 8, 16]' --set 'network.denoiser_widths=[8, 8]' --set network.fusion_width=8"
)
# By the beginning of the command; what is not here is run as printed and ends with 0.
HOW = {
    "verdiff doctor": How(codes=(SUCCESS, VerdiffError.exit_code)),
    "verdiff train": How("it trains for an hour: a small network learns the small patients in seconds", SMALL),
    "verdiff infer my-spine": How(codes=(SUCCESS, IMPLAUSIBLE)),
    "verdiff bench volume": How("it measures several rounds: one goes the same way", "--repeats 1"),
    "verdiff bench gpu": How("it needs a GPU; without one it says so", codes=(SUCCESS, BackendError.exit_code)),
}


def steps() -> list[tuple[str, str]]:
    """What the page has a reader do, in its order: ``("verdiff", command)`` or ``("python", program)``."""
    found: list[tuple[str, str]] = []
    for language, body in FENCE.findall((ROOT / TUTORIAL).read_text("utf-8")):
        if language in SHELL:
            found += [("verdiff", line) for line in shell_lines(f"```sh\n{body}```\n") if line.startswith("verdiff ")]
        elif language == "python":
            found.append((language, body))
    return found


def how(command: str) -> How:
    """How a command of the page is run."""
    return next((entry for beginning, entry in HOW.items() if command.startswith(beginning)), How())


def make_folder(folder: Path) -> None:
    """A checkout's sample and the reader's patients, with the page's own ``dataset.json``."""
    (folder / "examples").mkdir()
    sample = "examples/mr_t2_sample.nii.gz"
    cropped(ROOT / sample, folder / sample, slice(32, 36))
    write_data_set(folder / "my-spine", PATIENTS, folds=0)
    (described,) = [body for name, body in FENCE.findall((ROOT / TUTORIAL).read_text("utf-8")) if name == "json"]
    (folder / "my-spine/dataset.json").write_text(described, "utf-8")


def test_every_step_of_the_tutorial_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_folder(tmp_path)
    for kind, what in steps():
        if kind == "python":
            exec(compile(what, TUTORIAL, "exec"), {})
            assert capsys.readouterr().out.startswith("p01 complete")
        else:
            code, output = in_folder(tmp_path, what, how(what), monkeypatch)
            assert code in how(what).codes, f"{what}\n{output}"
    assert open_bundle(tmp_path / "my-spine-fp16.verdiff").precisions("denoiser") == ("fp32", "fp16")
    assert read_volume(tmp_path / "p02_mask.nii.gz").array.any(), "the model has learnt nothing"


def test_no_entry_is_left_of_a_step_that_is_gone() -> None:
    assert [beginning for beginning in HOW if not any(what.startswith(beginning) for _, what in steps())] == []
