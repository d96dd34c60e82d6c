"""The drawing of ``docs/architecture.md``, made from the import graph: ``make architecture``.

A box is a room of the package; an arrow says that the upper room imports the lower one, a line with two heads that two
rooms import each other's modules. An import that follows from two others is left out, and so are those of the small
modules that every room may import, which have a line of their own below.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from tools.import_graph import ROOT, Graph, circles, import_graph, sources

DRAWING = ROOT / "docs" / "architecture.svg"
# Rooms that are a house of their own: each folder in them is a room.
HOUSES = ("engines",)
BOX, GAP, MARGIN = (176, 66), (16, 58), 24
CHARACTERS, LINES = 29, 3


@dataclass(frozen=True)
class Place:
    """Where a room's box stands: its upper left corner, in pixels."""

    x: float
    y: float

    @property
    def middle(self) -> float:
        """The middle of the box from left to right."""
        return self.x + BOX[0] / 2


def room_of(module: str) -> str:
    """``verdiff.imaging.volume`` -> ``imaging``; ``verdiff.engines.build.proof`` -> ``engines.build``."""
    parts = module.split(".")[1:]
    if not parts:
        return ""
    inner = parts[0] in HOUSES and len(parts) > 1 and (ROOT / "verdiff" / parts[0] / parts[1]).is_dir()
    return ".".join(parts[:2]) if inner else parts[0]


def rooms(graph: Graph) -> dict[str, set[str]]:
    """Room -> the other rooms it imports."""
    found: dict[str, set[str]] = {}
    for module, targets in graph.items():
        if room := room_of(module):
            found.setdefault(room, set()).update({room_of(target) for target in targets} - {room, ""})
    return found


def everywhere(found: Mapping[str, set[str]]) -> list[str]:
    """The rooms at the very bottom: single modules that several rooms import, and whatever a third of them imports,
    as long as they import nothing else."""
    single = {room for room in found if (ROOT / "verdiff" / f"{room}.py").is_file()}
    users = {room: sum(room in targets for targets in found.values()) for room in found}
    used = {room for room in found if users[room] >= (2 if room in single else len(found) / 3)}
    return sorted(room for room in used if found[room] <= single & used)


def ranks(found: Mapping[str, set[str]]) -> dict[str, int]:
    """Room -> its storey from below, 0 for a room that imports none; rooms that import each other share one."""
    together = {room: tuple(group) for group in circles({r: frozenset(t) for r, t in found.items()}) for room in group}

    def rank(room: str) -> int:
        group = together.get(room, (room,))
        below = {target for each in group for target in found[each]} - set(group)
        return 1 + max((rank(each) for each in below), default=-1)

    return {room: rank(room) for room in found}


def shown(found: Mapping[str, set[str]], storey: Mapping[str, int]) -> list[tuple[str, str]]:
    """The imports to draw: those that no chain of others stands for."""

    def reaches(start: str, end: str, seen: set[str]) -> bool:
        for target in found[start] - seen:
            seen.add(target)
            if target == end or reaches(target, end, seen):
                return True
        return False

    pairs = []
    for room, targets in sorted(found.items()):
        for target in sorted(targets):
            others = (each for each in targets - {target} if storey[each] > storey[target])
            if storey[room] == storey[target] or not any(reaches(each, target, set()) for each in others):
                pairs.append((room, target))
    return pairs


def placed(found: Mapping[str, set[str]], storey: Mapping[str, int]) -> tuple[dict[str, Place], float]:
    """Where each box stands, a storey a row, a room near those it imports; and the width of the widest row."""
    rows = [sorted(room for room in found if storey[room] == rank) for rank in range(1 + max(storey.values()))]
    width = max(len(row) for row in rows) * (BOX[0] + GAP[0]) - GAP[0]
    places: dict[str, Place] = {}
    for rank, row in enumerate(rows):

        def wish(room: str) -> float:
            below = [places[target].middle for target in found[room] if target in places]
            return sum(below) / len(below) if below else width / 2

        ordered = sorted(row, key=lambda room: (wish(room), room))
        left = MARGIN + (width - len(row) * (BOX[0] + GAP[0]) + GAP[0]) / 2
        y = MARGIN + (len(rows) - 1 - rank) * (BOX[1] + GAP[1])
        places.update({room: Place(left + n * (BOX[0] + GAP[0]), y) for n, room in enumerate(ordered)})
    return places, width


def purpose(room: str, files: Mapping[str, Path]) -> str:
    """The first sentence of a room's own docstring, up to its first semicolon."""
    text = ast.get_docstring(ast.parse(files[f"verdiff.{room}"].read_text("utf-8"))) or ""
    first = text.split("\n\n")[0].replace("\n", " ").replace("`", "")
    return first.split(";")[0].split(". ")[0].rstrip(".")


def drawing() -> str:
    """The drawing as SVG."""
    files = sources("verdiff")
    every = rooms(import_graph("verdiff"))
    low = everywhere(every)
    found = {room: targets - set(low) for room, targets in every.items() if room not in low}
    storey = ranks(found)
    places, width = placed(found, storey)
    bottom = max(place.y for place in places.values()) + BOX[1]
    lines = [(a, b) for a, b in shown(found, storey) if not (a in found[b] and b < a)]
    parts = [_arrow(places[a], places[b], both=a in found[b]) for a, b in lines]
    parts += [_box(places[room], room, purpose(room, files)) for room in sorted(places)]
    parts.append(_bar(width, bottom + 24, "every room may import: " + ", ".join(low)))
    size = (width + 2 * MARGIN, bottom + 24 + 30 + MARGIN)
    return _svg(size, parts)


def _svg(size: tuple[float, float], parts: Iterable[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]:g} {size[1]:g}" '
        'font-family="Helvetica, Arial, sans-serif">\n'
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse"><path d="M0 0 8 4 0 8z" fill="#6b7683"/></marker></defs>\n'
        f'<rect width="{size[0]:g}" height="{size[1]:g}" fill="#ffffff"/>\n'
    )
    return head + "\n".join(parts) + "\n</svg>\n"


def _arrow(start: Place, end: Place, *, both: bool) -> str:
    style = 'fill="none" stroke="#9aa4af" stroke-width="1.2" marker-end="url(#head)"'
    if start.y == end.y:
        left, right = sorted((start, end), key=lambda place: place.x)
        a, b, y, dip = left.middle, right.middle, left.y + BOX[1], GAP[1] / 2
        heads = f'{style} marker-start="url(#head)"' if both else style
        return f'<path d="M{a:g} {y:g} C{a:g} {y + dip:g} {b:g} {y + dip:g} {b:g} {y:g}" {heads}/>'
    top, foot, middle = start.y + BOX[1], end.y, (start.y + BOX[1] + end.y) / 2
    path = f"M{start.middle:g} {top:g} C{start.middle:g} {middle:g} {end.middle:g} {middle:g} {end.middle:g} {foot:g}"
    return f'<path d="{path}" {style}/>'


def _box(place: Place, room: str, text: str) -> str:
    lines: Sequence[str] = textwrap.wrap(text, CHARACTERS)
    if len(lines) > LINES:
        lines = [*lines[: LINES - 1], lines[LINES - 1][: CHARACTERS - 1].rstrip(" ,") + "…"]
    told = "".join(
        f'<text x="{place.x + 9:g}" y="{place.y + 32 + 12 * n:g}" font-size="10.5" fill="#4a5560">{escape(line)}</text>'
        for n, line in enumerate(lines)
    )
    return (
        f'<g><rect x="{place.x:g}" y="{place.y:g}" width="{BOX[0]}" height="{BOX[1]}" rx="6" fill="#eef3f9" '
        f'stroke="#2563a8"/><text x="{place.x + 9:g}" y="{place.y + 17:g}" font-size="13" font-weight="bold" '
        f'fill="#1b1f24">{escape(room)}</text>{told}</g>'
    )


def _bar(width: float, y: float, text: str) -> str:
    return (
        f'<g><rect x="{MARGIN}" y="{y:g}" width="{width:g}" height="30" rx="6" fill="#f5f5f2" stroke="#8a8a80"/>'
        f'<text x="{MARGIN + 9}" y="{y + 19:g}" font-size="12" fill="#1b1f24">{escape(text)}</text></g>'
    )


if __name__ == "__main__":
    DRAWING.write_text(drawing(), "utf-8")
    print(f"wrote {DRAWING.relative_to(ROOT)}")
