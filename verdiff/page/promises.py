"""No-go surfaces on a page: what each promises, as a table under the picture, with a button for those to turn."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from verdiff.page.html import Html, element

SIDES = ("outer", "inner")
_WHAT_IT_MEANS = (
    "A probability is over patients like those, for one structure at a time. In a patient who is not covered, the "
    "structure may leave the surface anywhere."
)


def key_of(structure: str, side: str) -> str:
    """What a surface is called, as its file is: ``"canal-outer"``."""
    return f"{structure}-{side}"


def no_go_section(
    report: Mapping[str, Any], *, drawn: Collection[str], colours: Mapping[str, tuple[int, int, int]]
) -> Html | None:
    """The no-go surfaces of a report, a row a structure; None where there are none.

    Args:
        report: What the JSON beside the mask holds.
        drawn: Keys of the surfaces that the page can show: :func:`key_of`.
        colours: A colour by structure.
    """
    told = report["provenance"].get("margins")
    if not told:
        return None
    by_key = {key_of(row["structure"], row["side"]): row for row in told["surfaces"]}
    rows = []
    for name in dict.fromkeys(row["structure"] for row in told["surfaces"]):
        swatch = element("i", style=f"background: rgb{colours[name]}", class_="swatch")
        cells = [element("th", swatch, name, scope="row")]
        for side in SIDES:
            key = key_of(name, side)
            cells.append(element("td", *_surface(by_key[key], key, promised=told["promised"], drawn=key in drawn)))
        rows.append(element("tr", *cells))
    titles = ("", "Outer: the true structure lies within", "Inner: next to nothing else lies within")
    head = element("thead", element("tr", *(element("th", title, scope="col") for title in titles)))
    table = element("div", element("table", head, element("tbody", *rows)), class_="wide")
    return element("section", element("h2", "No-go surfaces"), table, *_behind(told), id="s-no-go")


def _surface(row: Mapping[str, Any], key: str, *, promised: bool, drawn: bool) -> list[Html]:
    """One surface: how far it was moved, the button that shows it, what it promises."""
    if row["missing"] is not None:
        return [element("span", f"none: {row['missing']}", class_="soft")]
    moved = f"{row['mm']:.2f} mm {'outwards' if row['side'] == 'outer' else 'inwards'}"
    shown = element("b", moved)
    if drawn:
        shown = element("button", moved, type="button", data_no_go=key, aria_pressed="false")
    promise = element("span", _promise(row) if promised else "nothing is promised", class_="promise")
    return [element("div", shown, promise)]


def _promise(row: Mapping[str, Any]) -> str:
    if row["side"] == "outer":
        what = f"holds {_percent(row['share'])} of the true {row['structure']}'s surface"
    elif row["share"] < 1:
        what = f"within it, at most {_percent(1 - row['share'])} of what was found is wrong"
    else:
        what = "within it, nothing is wrong"
    return f"{what}: probability {row['probability']:.3f}, {_patients(row['patients'])}"


def _patients(count: int) -> str:
    return f"{count} patient{'' if count == 1 else 's'}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _behind(told: Mapping[str, Any]) -> list[Html]:
    """How many patients stand behind the promises, or why there are none."""
    if not told["promised"]:
        why = "; ".join(told["not_promised_because"])
        return [element("p", f"Nothing is promised of this scan: {why}.", class_="broken")]
    counts = sorted({(row["patients"], row["at_least"]) for row in told["surfaces"]})
    said = " or ".join(
        f"{_patients(patients)}; with a confidence of 95 % this one calibration reaches at least {least:.2f}"
        for patients, least in counts
    )
    return [element("p", f"Calibrated on {said}. {_WHAT_IT_MEANS}", class_="soft")]
