"""What is printed of an evaluation: short, in one unit, without a deviation of one case; the files have all of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from tests.evaluate.test_evaluate_command import LABELS, case, write
from verdiff.commands.evaluate import EvaluateOptions
from verdiff.commands.evaluate import run as run_command
from verdiff.errors import DataError
from verdiff.evaluate import several
from verdiff.evaluate.cases import named_cases
from verdiff.evaluate.evaluation import run
from verdiff.evaluate.terminal import MOST_REMARKS, MOST_ROWS
from verdiff.options import InferOptions

NAMES = tuple("abcdefghijklmnopqrstuvwxyz")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    for index, name in enumerate(NAMES):
        write(folder / "references" / f"{name}.nii.gz", case(0))
        write(folder / "good" / f"{name}_seg.nii.gz", case(0))
        write(folder / "poor" / f"{name}_seg.nii.gz", case(1 + index % 3))
    return folder


def printed(folders: Path, output: Path | None = None, model: str = "poor", **options: object) -> list[str]:
    said: list[str] = []
    run_command(
        str(folders / model),
        folders / "references",
        output,
        EvaluateOptions(labels="disc=1,canal=2", **options),  # type: ignore[arg-type]
        InferOptions(),
        say=said.append,
    )
    return said


def test_a_screen_is_enough_however_many_cases_there_are(folders: Path, tmp_path: Path) -> None:
    said = printed(folders, tmp_path / "out", instances="ids", compare_with=str(folders / "good"))
    assert len(said) < 24
    assert not [line for line in said if any(f"| {name} |" in line for name in NAMES)], "cases are for the files"
    page = (tmp_path / "out" / "scores.md").read_text("utf-8")
    assert all(f"| {name} |" in page for name in NAMES), "the file has every case"


def test_without_an_output_it_says_how_to_get_the_rest(folders: Path) -> None:
    assert any("-o FOLDER" in line for line in printed(folders))


def test_the_means_and_the_worst_case_are_there(folders: Path) -> None:
    said = printed(folders)
    (disc,) = [line for line in said if line.startswith("| disc |")]
    scores = run(folders / "poor", folders / "references", LABELS).table.summary("disc", "dice")
    assert f"{scores.mean:.4f} ± {scores.deviation:.4f}" in disc
    assert any("worst case: c" in line for line in said)


def test_one_case_has_neither_deviation_nor_worst_case_anywhere(folders: Path, tmp_path: Path) -> None:
    said = printed(folders, tmp_path / "out", cases="b", compare_with=str(folders / "good"))
    text = "\n".join(said) + (tmp_path / "out" / "scores.md").read_text("utf-8")
    assert "1 case;" in said[0] and "±" not in text and "worst case:" not in text
    stored = json.loads((tmp_path / "out" / "scores.json").read_text("utf-8"))
    assert stored["summary"]["disc"]["dice"]["deviation"] is None
    gap = stored["comparison"]["masks"]["disc"]["dice"]["difference"]
    assert (gap["cases"], gap["low"], gap["high"]) == (1, None, None)


@pytest.mark.parametrize("more", [{}, {"compare_with": "good"}, {"instances": "ids"}])
def test_every_share_is_a_fraction_and_nothing_is_in_percent(folders: Path, tmp_path: Path, more: dict) -> None:
    more = {key: str(folders / value) if key == "compare_with" else value for key, value in more.items()}
    said = printed(folders, tmp_path / "out", **more)
    page = (tmp_path / "out" / "scores.md").read_text("utf-8")
    bare = page.replace("95 % bootstrap", "")
    assert "%" not in "\n".join(said) + bare
    dice = [line for line in page.splitlines() if re.match(r"\| (poor|good|disc) \|", line)]
    first = [float(re.findall(r"[+-]?\d+\.\d+", line)[0]) for line in dice if "Dice" not in line.split("|")[2]]
    assert first and max(first) <= 1.0


def test_of_many_structures_the_first_and_the_mean_are_shown(tmp_path: Path) -> None:
    array = np.zeros((3, 12, 60), np.uint8)
    for label in range(1, 21):
        array[:, 2:6, 3 * label - 3 : 3 * label - 1] = label
    write(tmp_path / "a.nii.gz", array)
    labels = {f"s{label}": label for label in range(1, 21)}
    found = run(tmp_path / "a.nii.gz", tmp_path / "a.nii.gz", labels, distances=False).summary
    rows = [line for line in found if re.match(r"\| (s\d+|mean) \|", line)]
    assert len(rows) == MOST_ROWS and rows[-1].startswith("| mean |")
    assert "... and 9 more, in the files" in found


def test_of_many_remarks_the_first_are_shown_and_the_others_counted(folders: Path) -> None:
    found = run(folders / "poor", folders / "references", {"disc": 1}, distances=False).summary
    notes = [line for line in found if line.startswith("note: ")]
    assert len(notes) == MOST_REMARKS + 1
    assert f"{2 * len(NAMES) - MOST_REMARKS} more remarks" in notes[-1]


class TestCases:
    """`--cases`: which cases are scored."""

    def test_names_joined_by_commas(self, folders: Path, tmp_path: Path) -> None:
        printed(folders, tmp_path / "out", cases="c, a")
        assert list(json.loads((tmp_path / "out/scores.json").read_text("utf-8"))["cases"]) == ["c", "a"]

    @pytest.mark.parametrize(
        "text", ["a\nb\n", "a, b", "# these\n\na_seg.nii.gz  # first\nb_0000.nii.gz\r\n", "\ufeffa\nb"]
    )
    def test_a_file_of_names(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "cases.txt"
        path.write_text(text, "utf-8")
        assert named_cases(str(path)) == ["a", "b"]

    @pytest.mark.parametrize(("text", "told"), [("", "no case"), (" , ", "no case"), ("a,a", "a twice")])
    def test_no_name_and_a_name_twice_are_refused(self, text: str, told: str) -> None:
        with pytest.raises(DataError, match=told):
            named_cases(text)

    def test_a_list_that_is_not_there_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"nowhere\.txt cannot be read"):
            named_cases(str(tmp_path / "nowhere.txt"))

    def test_a_name_that_is_not_there_is_told_with_some_that_are(self, folders: Path) -> None:
        with pytest.raises(DataError, match="no prediction for zz") as caught:
            printed(folders, cases="a,zz")
        assert "a, b, c, d, e, ..." in caught.value.remedy

    @pytest.mark.parametrize("fold", [{"fold": 0}, {"splits": Path("splits_final.json")}])
    def test_cases_and_a_fold_are_not_both_taken(self, folders: Path, fold: dict) -> None:
        with pytest.raises(DataError, match="a fold too"):
            printed(folders, cases="a", **fold)


def test_of_a_comparison_the_table_and_its_metrics_are_printed_and_the_rest_is_in_the_file(
    folders: Path, tmp_path: Path
) -> None:
    for model in ("good", "poor"):
        run(folders / model, folders / "references", LABELS, tmp_path / model)
    found = several.run([str(tmp_path / "good"), str(tmp_path / "poor")], tmp_path / "table", metrics=("dice",))
    assert found.summary[2].startswith("| good | 1.0000 ± 0.0000 |")
    (disc,) = [line for line in found.summary if line.startswith("  disc ")]
    assert disc.startswith("  disc Dice +0.4904") and f"better in {len(NAMES)} and worse in 0 of {len(NAMES)}" in disc
    assert not [line for line in found.summary if "HD95" in line]
    assert "| disc | HD95 (mm) |" in (tmp_path / "table/comparison.md").read_text("utf-8")
