"""The band of warnings across a preview."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

_BAND, _INK = (176, 32, 32), (255, 255, 255)
_MARGIN, _PAD, _LINE, _LETTER, _SIZE = 28, 10, 22, 8, 15


def with_banner(page: Image.Image, warnings: Sequence[str]) -> Image.Image:
    """The page below a red band as wide as it is, in which each warning begins a line of its own."""
    from PIL import Image, ImageDraw, ImageFont

    across = max(20, (page.width - 2 * _MARGIN) // _LETTER)
    lines = [line for warning in warnings for line in textwrap.wrap(printable(warning), across)]
    band = 2 * _PAD + _LINE * len(lines)
    whole = Image.new("RGB", (page.width, page.height + band), _BAND)
    whole.paste(page, (0, band))
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(_SIZE)
    for index, line in enumerate(lines):
        draw.text((_MARGIN, _PAD + index * _LINE), line, _INK, font=font)
    return whole


def printable(text: str) -> str:
    """Text with the bytes of names that are not UTF-8 spelled out."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
