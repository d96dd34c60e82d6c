"""The frame of pages: text stays text, tables are Markdown's, nothing but the page's own scripts may run."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from pathlib import Path

import pytest

from tests.benchmarks.test_record import record  # noqa: F401
from verdiff.benchmarks.record import Record
from verdiff.benchmarks.record_page import record_page
from verdiff.benchmarks.recording import record_stem, record_suffixes, write_record
from verdiff.errors import OutputError
from verdiff.files import made_by_verdiff
from verdiff.markdown import markdown_table
from verdiff.page.frame import whole_page
from verdiff.page.html import element
from verdiff.page.markdown import html_of

EVIL = '<script>alert("x")</script> & "quoted" \udcff'


def cells_of(page: str) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", page)
    return [[html.unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in rows]


def test_text_is_escaped_and_markup_is_kept() -> None:
    made = element("p", EVIL, element("b", "bold"), title=EVIL.replace("\udcff", ""))
    assert "<script" not in made and made.endswith("<b>bold</b></p>")
    assert "\\udcff" in made
    assert "&quot;x&quot;" in made.split(">")[0]


def test_a_table_has_the_cells_of_its_markdown_whatever_is_in_them() -> None:
    titles, rows = ("name", "ms"), [("a | b", "1.5"), ("<i>two\nlines</i>", "2")]
    page = html_of("\n".join(markdown_table(titles, rows)))
    assert cells_of(page) == [["name", "ms"], ["a | b", "1.5"], ["<i>two lines</i>", "2"]]
    assert page.count('class="figure"') == 3 and "<i>" not in page


def test_a_page_of_a_record_says_all_that_its_markdown_says(record: Record) -> None:  # noqa: F811
    text = record_page(record)
    page = html_of(text)
    tables = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("| ---")]
    assert ["| " + " | ".join(row) + " |" for row in cells_of(page)] == tables
    plain = html.unescape(re.sub(r"<[^>]+>", "", page))
    for line in text.splitlines():
        if line and not line.startswith("|"):
            assert line.strip().lstrip("#- ") in plain


def test_only_the_page_s_own_scripts_may_run_and_facts_begin_no_tag() -> None:
    script = "document.title = 'seen'"
    page = whole_page(EVIL, element("main"), scripts=[script], facts={"name": EVIL})
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1])  # type: ignore[index]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy and "http" not in policy
    (facts,) = re.findall(r'<script id="facts" type="application/json">(.*?)</script>', page)
    assert json.loads(facts) == {"name": EVIL}
    assert page.count("<script") == 2
    with pytest.raises(ValueError):
        whole_page("a", scripts=["x = '</SCRIPT>'"])


def test_a_benchmark_writes_its_page_where_that_is_asked_for(
    record: Record,  # noqa: F811
    tmp_path: Path,
) -> None:
    output = tmp_path / "times.html"
    stem = record_stem("volume", output)
    assert stem is not None
    for _ in range(2):
        written = write_record(record, stem, suffixes=record_suffixes(output))
    assert {path.name for path in written} >= {"times.html", "times.json", "times.md", "times.csv"}
    page = output.read_text("utf-8")
    assert made_by_verdiff(output) and page.startswith("<!doctype html>\n<!-- verdiff ")
    assert "verdiff bench volume" in page and ("data:image/png" in page) == (tmp_path / "times.png").exists()
    output.write_text(page + " ", "utf-8")
    with pytest.raises(OutputError):
        write_record(record, stem, suffixes=record_suffixes(output))
    assert record_suffixes(tmp_path / "times.json") == record_suffixes(tmp_path) and not any(
        path.suffix == ".html" for path in write_record(record, tmp_path / "other")
    )
