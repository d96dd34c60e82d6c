"""Several evaluations side by side: folds, data sets, and what does not fit together."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from verdiff.errors import DataError
from verdiff.evaluate.several import run
from verdiff.evaluate.stored import to_json
from verdiff.evaluate.tables import Results, Table


def store(
    folder: Path, values: dict[str, float], structures=("disc", "canal"), metrics=("dice", "iou"), policy="strict"
) -> Path:
    """An evaluation whose Dice a case is given, the same for all structures."""
    rows = {case: {name: {metric: dice for metric in metrics} for name in structures} for case, dice in values.items()}
    folder.mkdir(parents=True)
    (folder / "scores.json").write_text(to_json(Results(Table(rows, metrics), policy=policy)), "utf-8")
    return folder


@pytest.fixture
def folds(tmp_path) -> Path:
    for fold, cases in enumerate((("a", "b", "c"), ("d", "e", "f"))):
        for model, gain in (("ours", 0.1), ("theirs", 0.0)):
            store(tmp_path / model / f"{fold}", {case: 0.6 + 0.01 * ord(case) % 0.05 + gain for case in cases})
    return tmp_path


def sources(root: Path) -> list[str]:
    return [f"{model}/fold {fold}={root / model / str(fold)}" for model in ("ours", "theirs") for fold in (0, 1)]


def test_the_folds_of_a_cross_validation_are_compared_over_all_their_cases(folds):
    found = run(sources(folds), folds / "out", plots=True)
    dice = found.comparisons["theirs"]["all"]["masks"]["mean"]["dice"].comparison
    assert dice.difference.mean == pytest.approx(0.1)
    assert (dice.difference.cases, dice.better) == (6, 6)
    assert dice.p_value == pytest.approx(2 / 2**6)
    header = "| model | fold 0 Dice | fold 0 IoU | fold 1 Dice | fold 1 IoU | all Dice | all IoU |"
    assert found.markdown.splitlines()[0] == header
    assert {path.name for path in found.written} == {"comparison.md", "comparison.json", "boxes.png"}
    stored = json.loads((folds / "out" / "comparison.json").read_text("utf-8"))
    assert stored["comparison"]["theirs"]["all"]["masks"]["disc"]["dice"]["difference"]["cases"] == 6


def test_runs_on_the_same_cases_are_not_taken_together(tmp_path):
    for model, gain in (("ours", 0.1), ("theirs", 0.0)):
        for seed in (0, 1):
            store(tmp_path / model / f"{seed}", {"a": 0.7 + gain, "b": 0.6 + 0.01 * seed})
    found = run(
        [f"{model}/seed {seed}={tmp_path / model / str(seed)}" for model in ("ours", "theirs") for seed in (0, 1)]
    )
    assert set(found.comparisons["theirs"]) == {"seed 0", "seed 1"}
    assert "all Dice" not in found.markdown


def test_data_sets_with_other_structures_are_compared_one_by_one(tmp_path):
    for model, gain in (("ours", 0.1), ("theirs", 0.0)):
        store(tmp_path / model / "MR", {"a": 0.7 + gain, "b": 0.6 + gain})
        store(tmp_path / model / "XR", {"a": 0.5 + gain}, structures=("vertebra",))
    named = [f"{model}/{part}={tmp_path / model / part}" for model in ("ours", "theirs") for part in ("MR", "XR")]
    found = run(named)
    assert set(found.comparisons["theirs"]) == {"MR", "XR"}
    assert found.comparisons["theirs"]["XR"]["masks"]["vertebra"]["dice"].comparison.difference.cases == 1
    assert "| ours | 0.7500 ± 0.0707 |" in found.markdown
    assert "all Dice" not in found.markdown


def test_models_without_sets_are_named_by_their_folder_and_have_a_column_a_structure(folds):
    found = run([str(folds / "ours" / "0"), f"theirs={folds / 'theirs' / '0' / 'scores.json'}"], metrics=("dice",))
    assert found.markdown.startswith("| model | disc Dice | canal Dice | mean Dice |")
    assert list(found.models) == ["0", "theirs"]
    assert "Difference to theirs " in found.markdown


def test_undefined_cases_are_left_out_of_a_pair_and_named(tmp_path):
    ours = store(tmp_path / "ours", {"a": 0.9, "b": math.nan, "c": 0.8})
    theirs = store(tmp_path / "theirs", {"a": 0.8, "b": 0.7, "c": 0.7})
    found = run([str(ours), str(theirs)])
    row = found.comparisons["theirs"][""]["masks"]["disc"]["dice"]
    assert (row.left_out, row.comparison.difference.cases) == (("b",), 2)
    assert "- disc, Dice: undefined for either model in b." in found.markdown


def test_a_metric_undefined_everywhere_is_a_row_that_says_so(tmp_path):
    ours, theirs = store(tmp_path / "ours", {"a": math.nan}), store(tmp_path / "theirs", {"a": 0.7})
    assert "| disc | Dice | 0 | undefined |" in run([str(ours), str(theirs)]).markdown


@pytest.mark.parametrize(
    ("names", "match"),
    [
        ([], "no evaluation"),
        (["x=ours/0", "x=ours/1"], "twice"),
        (["=ours/0"], "nothing"),
        (["x/A=ours/0", "y/B=ours/1"], "the same sets"),
        (["x=ours/0", "y=ours/1"], "cases a, b, c in the first alone; cases d, e, f in the second alone"),
        (["x=ours/0", "y=nowhere"], "scores.json"),
    ],
)
def test_evaluations_that_do_not_fit_together_are_refused(folds, names, match):
    with pytest.raises(DataError, match=match):
        run([name.replace("=", f"={folds}/") for name in names], folds / "out")
    assert not (folds / "out").exists()


@pytest.mark.parametrize("metrics", [("hd95_mm",), ("beauty",), ()])
def test_a_metric_that_was_not_scored_is_refused(folds, metrics):
    with pytest.raises(DataError, match="dice, iou"):
        run(sources(folds), metrics=metrics)


def test_other_structures_are_refused_by_name(tmp_path, folds):
    other = store(tmp_path / "other", {"a": 0.5, "b": 0.5, "c": 0.5}, structures=("disc",))
    with pytest.raises(DataError, match="structures canal in the first alone"):
        run([f"x={folds / 'ours' / '0'}", f"y={other}"])


def test_scores_under_two_policies_are_not_compared(tmp_path):
    ours = store(tmp_path / "ours", {"a": 0.9})
    theirs = store(tmp_path / "theirs", {"a": 0.8}, policy="leave-absent-out")
    with pytest.raises(DataError, match="'strict', the other with 'leave-absent-out'"):
        run([str(ours), str(theirs)])


def test_a_source_that_is_not_there_is_said_in_plain_words(tmp_path):
    with pytest.raises(DataError, match="there is no file or folder") as caught:
        run([f"ours={tmp_path / 'nowhere'}"])
    assert "Error" not in str(caught.value.found)
