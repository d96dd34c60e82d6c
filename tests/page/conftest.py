"""A viewer as it is built now, and a browser that opens pages."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.peers import REMEDY, missing, program
from verdiff.page import scan as scan_pages
from verdiff.page.frame import asset

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT / "web"
PACKAGES = WEB / "node_modules"

Visit = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The viewer's script."""
    skip_without("node", str(PACKAGES / "esbuild" / "package.json"))
    script = tmp_path_factory.mktemp("viewer") / "viewer.js"
    subprocess.run(["node", WEB / "report" / "build.mjs", script], check=True, capture_output=True, text=True)
    return script.read_text("utf-8")


def skip_without(*programs: str) -> None:
    """Skip by name what needs programs that are not here."""
    if lacking := missing(*programs):
        pytest.skip(f"{', '.join(lacking)} {REMEDY}")


def with_viewer(script: str | None, patch: pytest.MonkeyPatch) -> None:
    """Have pages made with this viewer, or with none, whatever this tree was built with."""
    patch.setattr(scan_pages, "asset", lambda name: script if name == "viewer.js" else asset(name))


@pytest.fixture
def viewer(built: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Pages have the viewer."""
    with_viewer(built, monkeypatch)
    return built


@pytest.fixture
def no_viewer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages have none, as those of a wheel that was made without npm."""
    with_viewer(None, monkeypatch)


@pytest.fixture
def visit(tmp_path: Path) -> Visit:
    """Opens a page in a browser; what it showed, asked for and complained of. Pictures lie in ``tmp_path / "seen"``."""
    skip_without("chromium", "node", str(PACKAGES / "playwright-core" / "package.json"))

    def open_page(page: Path, *words: str) -> dict[str, Any]:
        folder = tmp_path / "seen"
        folder.mkdir(exist_ok=True)
        command = ["node", WEB / "report" / "drive.mjs", str(program("chromium")), page, folder, *words]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        seen = json.loads(done.stdout)
        assert seen["requests"] == [page.as_uri()] + [each for each in seen["requests"] if each.startswith("data:")]
        return dict(seen)

    return open_page
