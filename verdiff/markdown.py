"""Markdown tables: every page of figures is made of these."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence


def markdown_table(
    titles: Sequence[str], rows: Iterable[Sequence[str]], *, words: Collection[str] | None = None
) -> list[str]:
    """The lines of a table: columns of words are aligned left, columns of figures right.

    Args:
        titles: A title a column.
        rows: The cells of each row; cells that are missing at its end are empty. A bar in one is escaped, a line's end
            becomes a space.
        words: Titles of the columns of words; None is the first column alone.
    """
    left = titles[:1] if words is None else words
    lines = [_line(titles), "| " + " | ".join("---" if title in left else "---:" for title in titles) + " |"]
    return lines + [_line([*row, *[""] * (len(titles) - len(row))]) for row in rows]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split("\n")).replace("|", "\\|") for cell in cells) + " |"
