"""What a page says of no-go surfaces: the promise of each beside it, or why there is none."""

from __future__ import annotations

import html
import re
from typing import Any

from verdiff.bundle.margins import INNER, OUTER, Margin
from verdiff.page.promises import no_go_section
from verdiff.runtime.margins import NoGo

COLOURS = {"canal": (255, 90, 130), "disc": (80, 190, 250)}


def margin(structure: str, side: str, mm: float, **changes: Any) -> Margin:
    promise: dict[str, Any] = {"probability": 0.875, "share": 0.99, "patients": 7, "at_least": 0.652, **changes}
    return Margin(structure, side, mm, **promise)


def section(no_go: NoGo, *drawn: str) -> str:
    made = no_go_section({"provenance": {"margins": no_go.to_dict()}}, drawn=drawn, colours=COLOURS)
    assert made is not None
    return made


def rows_of(made: str) -> list[list[str]]:
    body = made[made.index("<tbody>") :]
    rows = re.findall(r"<tr>(.*?)</tr>", body)
    return [
        [
            " ".join(html.unescape(re.sub(r"<[^>]+>", " ", cell)).split())
            for cell in re.findall(r"<t[hd].*?</t[hd]>", row)
        ]
        for row in rows
    ]


def test_each_surface_has_its_promise_beside_it() -> None:
    made = section(NoGo(margins=(margin("canal", OUTER, 2.5), margin("canal", INNER, 1.0, share=1.0))), "canal-outer")
    assert rows_of(made) == [
        [
            "canal",
            "2.50 mm outwards holds 99 % of the true canal's surface: probability 0.875, 7 patients",
            "1.00 mm inwards within it, nothing is wrong: probability 0.875, 7 patients",
        ]
    ]
    assert "at least 0.65" in made and made.count("<button") == 1 and 'data-no-go="canal-outer"' in made


def test_where_the_promise_is_broken_nothing_is_promised_and_the_reason_stands_there() -> None:
    made = section(
        NoGo(margins=(margin("canal", OUTER, 2.5), margin("canal", INNER, 1.0)), broken=("forced past: a CT",))
    )
    assert "probability" not in made and "Nothing is promised of this scan: forced past: a CT." in made
    assert [row[1] for row in rows_of(made)] == ["2.50 mm outwards nothing is promised"]


def test_a_surface_that_there_is_not_says_why_and_has_no_button() -> None:
    margins = tuple(margin(name, side, 2.0) for name in ("canal", "disc") for side in (OUTER, INNER))
    made = section(
        NoGo(margins=margins, missing={("disc", INNER): "nothing of disc is deeper than 2.00 mm"}), "disc-outer"
    )
    assert rows_of(made)[1][2] == "none: nothing of disc is deeper than 2.00 mm"
    assert re.findall(r'data-no-go="([^"]+)"', made) == ["disc-outer"]


def test_a_report_without_margins_has_no_such_table() -> None:
    assert no_go_section({"provenance": {}}, drawn=(), colours=COLOURS) is None
