"""The page of a benchmark or a study: its Markdown page and its picture, in the frame."""

from __future__ import annotations

from verdiff.page.frame import picture, whole_page
from verdiff.page.html import element
from verdiff.page.markdown import html_of


def figures_page(title: str, markdown: str, png: bytes | None = None) -> str:
    """A page of tables.

    Args:
        title: Its name in the browser.
        markdown: The page as it is written beside it.
        png: Its picture; None where none was drawn.
    """
    shown = [] if png is None else [element("figure", picture(png, f"Picture of {title}"))]
    return whole_page(title, element("main", html_of(markdown), *shown, class_="figures"))
