"""The frame of every page: one file, dark, legible, closed to the network by its own policy."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from verdiff import __version__
from verdiff.page.html import Html, element, joined

VIEWER = "viewer.js"
NO_VIEWER = "verdiff was installed without the viewer; see docs/report.md"
RESEARCH = "Research software. Not a medical device; not for diagnosis or treatment."
_NOTHING: Mapping[str, bytes] = MappingProxyType({})


def asset(name: str) -> str | None:
    """A text file that goes into pages; None where this installation was built without it."""
    place = files("verdiff.page") / "assets" / name
    return place.read_text("utf-8") if place.is_file() else None


def has_viewer() -> bool:
    """Whether pages of scans hold more than a still picture, which depends on how this installation was made."""
    return (files("verdiff.page") / "assets" / VIEWER).is_file()


def whole_page(
    title: str,
    *body: Html,
    styles: Sequence[str] = (),
    scripts: Sequence[str] = (),
    facts: Mapping[str, Any] = MappingProxyType({}),
    data: Mapping[str, bytes] = _NOTHING,
) -> str:
    """A page as the text of its file.

    Its policy allows the scripts given here, known by their hashes, and styles, pictures and data of the page itself:
    what a name in it might smuggle in is not run, and nothing can be asked of or sent to a network.

    Args:
        title: Its name in the browser.
        body: What it shows.
        styles: Style sheets after the frame's own.
        scripts: Scripts at its end, in their order; none of them may hold the end of a script element.
        facts: Plain JSON values for them, as the element ``facts``.
        data: Bytes for them by the id of an element, as base64.
    """
    shown = [asset("frame.css") or "", *styles]
    packed = {name: base64.b64encode(raw).decode("ascii") for name, raw in data.items()}
    held = [_data(name, "application/octet-stream", text) for name, text in packed.items()]
    # No tag can begin in what is JSON inside a script element.
    held += [_data("facts", "application/json", json.dumps(facts).replace("<", "\\u003c"))] if facts else []
    head = [
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(scripts)),
        element("meta", name="generator", content=f"verdiff {__version__}"),
        element("title", title),
        element("style", Html("\n".join(shown))),
    ]
    foot = element("footer", element("p", RESEARCH), element("p", f"verdiff {__version__}"))
    run = [element("script", _script(text)) for text in scripts]
    inner = joined([element("head", joined(head, "\n")), element("body", *body, foot, *held, *run)], "\n")
    return f'<!doctype html>\n<html lang="en">\n{inner}\n</html>\n'


def picture(png: bytes, description: str, **attributes: str) -> Html:
    """A picture as part of the page."""
    source = f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
    return element("img", src=source, alt=description, **attributes)


def _data(name: str, kind: str, text: str) -> Html:
    return element("script", Html(text), id=name, type=kind)


def _script(text: str) -> Html:
    if "</script" in text.lower() or "<!--" in text:
        raise ValueError("a script that ends its own element")
    return Html(text)


def _policy(scripts: Sequence[str]) -> str:
    hashes = [base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii") for text in scripts]
    allowed = " ".join(f"'sha256-{each}'" for each in hashes) or "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "connect-src data: blob:; form-action 'none'; base-uri 'none'"
    )
