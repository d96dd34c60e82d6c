"""The pages a newcomer reads: links lead somewhere, commands parse, tables agree with the code."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer.main

from verdiff.cli import app

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CHANGELOG.md", ROOT / "examples/README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGE_NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# A page sets a term in italics where it introduces it; labels of buttons begin with a capital.
ITALICS = re.compile(r"(?<![\w*])\*(?!\*)([a-z][^*\n]{1,40}?)\*(?![\w*])")
EMPHASIS = ("and", "modules", "italics")
INLINE_COMMAND = re.compile(r"`verdiff ([a-z]+)[^`]*`")


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page in one of the languages."""
    return [body for language, body in FENCE.findall(page.read_text("utf-8")) if language in languages]


def command_lines(page: Path) -> list[str]:
    """The shell lines of a page, continuation lines joined, prompts and comments left out."""
    text = "\n".join(blocks(page, "", "sh", "bash", "shell", "console")).replace("\\\n", " ")
    return [line.strip().removeprefix("$ ") for line in text.splitlines() if line.strip()]


def verdiff_lines(page: Path) -> list[str]:
    """The shell lines that call verdiff."""
    return [line for line in command_lines(page) if line.startswith("verdiff ")]


def anchors(page: Path) -> set[str]:
    """The heading anchors of a page, spelled as the usual Markdown hosts do."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def parse(line: str) -> Any:
    """Parse a `verdiff ...` line as the program would, and call nothing."""
    group = typer.main.get_command(app)
    words = shlex.split(line, comments=True)[1:]
    # Placed before the subcommand, only --help and --version exist; neither needs an example.
    command = group.commands[words[0]]  # type: ignore[attr-defined]
    return command.make_context(words[0], words[1:])


@pytest.mark.parametrize("name", PAGE_NAMES)
def test_links_lead_to_files_and_headings_that_exist(name: str) -> None:
    page = ROOT / name
    broken = []
    for link in LINK.findall(re.sub(FENCE, "", page.read_text("utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_the_list_of_pages_has_every_page() -> None:
    listed = set(LINK.findall((ROOT / "docs/README.md").read_text("utf-8")))
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"} <= listed


@pytest.mark.parametrize("name", PAGE_NAMES)
def test_a_term_that_a_page_introduces_is_in_the_glossary(name: str) -> None:
    glossary = set(re.findall(r"\*\*([^*]+)\*\*", (ROOT / "docs/glossary.md").read_text("utf-8")))
    text = re.sub(r"`[^`]*`", "", re.sub(FENCE, "", (ROOT / name).read_text("utf-8")))
    introduced = {term for term in ITALICS.findall(text) if term not in EMPHASIS}
    assert {term for term in introduced if not {term, term.removesuffix("s")} & glossary} == set()


@pytest.mark.parametrize("name", PAGE_NAMES)
def test_every_example_of_the_command_parses(name: str) -> None:
    failures = []
    for line in verdiff_lines(ROOT / name):
        try:
            parse(line.replace("$MANIFEST_SHA256", "0" * 64))
        except Exception as error:
            failures.append(f"{line}: {error!r}")
    assert failures == []


def test_the_readme_shows_every_command() -> None:
    shown = {shlex.split(line)[1] for line in verdiff_lines(README)}
    assert shown == set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def test_a_wrong_example_is_noticed() -> None:
    for line in ("verdiff infer scan.nii.gz --no-such-option", "verdiff conquer scan.nii.gz", "verdiff train"):
        with pytest.raises(Exception, match=r"such option|conquer|[Mm]issing"):
            parse(line)


@pytest.mark.parametrize("name", PAGE_NAMES)
def test_commands_named_in_the_text_exist(name: str) -> None:
    named = set(INLINE_COMMAND.findall((ROOT / name).read_text("utf-8")))
    assert named <= set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", PAGE_NAMES)
def test_make_targets_named_on_a_page_exist(name: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    text = (ROOT / name).read_text("utf-8")
    lines = [line for line in command_lines(ROOT / name) if line.startswith("make ")]
    named = {line.split()[1] for line in lines} | set(re.findall(r"`make ([a-z]+)", text))
    assert named <= targets


@pytest.mark.parametrize("name", PAGE_NAMES)
def test_python_examples_are_python(name: str) -> None:
    for source in blocks(ROOT / name, "python"):
        ast.parse(source)


def test_names_imported_in_the_readme_s_python_exist() -> None:
    namespace: dict[str, Any] = {}
    imports = [
        node
        for source in blocks(README, "python")
        for node in ast.parse(source).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert imports
    for node in imports:
        exec(ast.unparse(node), namespace)


def test_every_extra_is_in_the_readme_s_table() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    table = README.read_text("utf-8").split("| extra |")[1].split("\n\n")[0]
    first_cells = " ".join(row.split("|")[1] for row in table.splitlines()[2:])
    assert set(re.findall(r"`([\w-]+)`", first_cells)) == set(project["optional-dependencies"])


@pytest.mark.parametrize("name", PAGE_NAMES)
def test_no_page_names_a_folder_of_one_machine(name: str) -> None:
    assert not re.search(r"(?<![\w.~])/(work|home|root|Users|opt)/", (ROOT / name).read_text("utf-8"))
