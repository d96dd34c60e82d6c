"""The pages of evaluations: warnings, figures, box plots, the worst cases first."""

from __future__ import annotations

import html
import math
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.evaluate.test_evaluate_command import case, write
from tests.evaluate.test_several import store
from verdiff.cli import app
from verdiff.errors import SUCCESS, USAGE, BackendError, OutputError
from verdiff.evaluate import page as pages
from verdiff.evaluate import several
from verdiff.evaluate.page import boxes_png, scores_page, worst_first
from verdiff.evaluate.report import Targets, write_report
from verdiff.evaluate.tables import Results, Table
from verdiff.files import made_by_verdiff

METRICS = ("dice", "hd95_mm")


def table() -> Table:
    dice = {"good": (0.9, 0.8), "poor": (0.4, 0.0), "fair": (0.7, 0.7), "empty <b>": (math.nan, math.nan)}
    values = {
        case: {name: {"dice": one, "hd95_mm": 10 * (1 - one)} for name, one in zip(("disc", "canal"), row, strict=True)}
        for case, row in dice.items()
    }
    facts = {"poor": {"disc": {}, "canal": {"presence": "in the reference only (missed)"}}}
    return Table(values, METRICS, facts, notes=("id 9 was not scored.",))


def rows_of(page: str) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", page[page.index("<tbody>") :])
    return [
        [html.unescape(re.sub("<[^>]+>", "", cell)) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in rows
    ]


def test_the_worst_case_stands_first_with_its_structures_and_what_is_the_matter() -> None:
    found = rows_of(worst_first(table()))
    assert [row[0] for row in found] == ["poor", "fair", "good", "empty <b>"]
    assert found[0] == ["poor", "0.2000", "", "0.4000", "0.0000", "8.00", "canal is in the reference only (missed)"]
    assert found[3][1:5] == ["undefined", "", "undefined", "undefined"]


def test_a_page_shows_warnings_figures_and_boxes_and_escapes_names(tmp_path: Path) -> None:
    scores = Results(table())
    written = write_report(("masks & more", scores), None, Targets.of(None, page=tmp_path / "look.html"), about={})
    assert written.written == (tmp_path / "look.html",) and made_by_verdiff(tmp_path / "look.html")
    page = (tmp_path / "look.html").read_text("utf-8")
    assert "Scores of masks &amp; more" in page and "empty &lt;b&gt;" in page and "empty <b>" not in page
    assert page.index("<h2>Warnings") < page.index("<h2>Structures") < page.index("<img") < page.index("<h2>Cases")
    for remark in table().remarks():
        assert html.escape(remark) in page
    assert "<script" not in page and re.findall("https?:", page) == []


def test_many_warnings_are_folded_and_none_is_lost() -> None:
    remarks = [f"remark {index}." for index in range(30)]
    page = scores_page("masks", Results(table()), remarks=remarks, compared="", png=None)
    assert "<summary>22 more</summary>" in page and [each for each in remarks if f"<li>{each}</li>" not in page] == []


def test_without_matplotlib_the_page_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise BackendError("box plots without matplotlib", "matplotlib", "install it")

    monkeypatch.setattr(pages, "box_plots", missing)
    png = boxes_png({"masks": table()})
    assert png is None
    assert "matplotlib is not installed" in scores_page("masks", Results(table()), remarks=(), compared="", png=png)


def test_a_comparison_s_page_has_the_table_the_boxes_and_the_cases_that_lose_most(tmp_path: Path) -> None:
    store(tmp_path / "ours", {"a": 0.9, "b": 0.5, "c": 0.8})
    store(tmp_path / "theirs", {"a": 0.8, "b": 0.7, "c": 0.8})
    look = tmp_path / "table" / "look.html"
    found = several.run([f"{name}={tmp_path / name}" for name in ("ours", "theirs")], tmp_path / "table", page=look)
    assert look in found.written and {each.name for each in found.written} >= {"comparison.md", "comparison.json"}
    page = look.read_text("utf-8")
    assert "ours minus theirs" in page and "<img" in page
    cases = rows_of(page[page.index("Cases, the worst for ours first") :])
    assert cases == [
        ["b", "0.5000", "0.7000", "-0.2000"],
        ["c", "0.8000", "0.8000", "+0.0000"],
        ["a", "0.9000", "0.8000", "+0.1000"],
    ]


def test_sets_with_other_structures_have_a_page_without_boxes(tmp_path: Path) -> None:
    for model, gain in (("ours", 0.1), ("theirs", 0.0)):
        store(tmp_path / model / "MR", {"a": 0.7 + gain, "b": 0.6 + gain})
        store(tmp_path / model / "XR", {"a": 0.5 + gain}, structures=("vertebra",))
    named = [f"{model}/{part}={tmp_path / model / part}" for model in ("ours", "theirs") for part in ("MR", "XR")]
    several.run(named, page=tmp_path / "look.html")
    page = (tmp_path / "look.html").read_text("utf-8")
    assert "<img" not in page and "other structures" in page and "ours minus theirs, XR" in page


def test_a_page_apart_from_the_other_files_is_refused_before_anything_is_scored(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with pytest.raises(OutputError, match="one folder for all files"):
        Targets.of(tmp_path / "a", page=tmp_path / "b" / "look.html")
    targets = Targets.of(tmp_path / "a" / "new", page=tmp_path / "a" / "look.html")
    assert targets.plan is not None and targets.plan.folder == tmp_path / "a"


def test_the_commands_write_their_pages_beside_the_other_files_or_alone(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / "references" / f"{name}.nii.gz", case(0))
        write(tmp_path / "masks" / f"{name}_seg.nii.gz", case(1))
    given = ["evaluate", tmp_path / "masks", tmp_path / "references", "--labels", "disc=1,canal=2"]
    for output in ([], ["-o", tmp_path / "scores"]):
        done = CliRunner().invoke(app, [str(word) for word in [*given, *output, "--report", tmp_path / "look.html"]])
        assert done.exit_code == SUCCESS and f"wrote {tmp_path / 'look.html'}" in done.output.replace("\n", "")
    assert (tmp_path / "scores" / "scores.json").exists()
    both = [f"one={tmp_path / 'scores'}", f"two={tmp_path / 'scores'}"]
    done = CliRunner().invoke(app, ["compare", *both, "--report", str(tmp_path / "both.html")])
    assert done.exit_code == SUCCESS and made_by_verdiff(tmp_path / "both.html")
    refused = CliRunner().invoke(app, ["compare", *both, "--report", str(tmp_path / "both.pdf")])
    assert refused.exit_code == USAGE and "does not end in .html" in refused.output
