"""The manifest's objects: what each holds, and the checks of it; every one raises a BundleError that names the key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from verdiff.bundle import checks

LONGEST = 4096
MOST_OVERLAP = 0.9


def check_intensity(rule: Mapping[str, Any]) -> None:
    """`intensity`: a kind of `verdiff.imaging.IntensityRule` with its range."""
    checks.choice("intensity.kind", rule.get("kind"), ("percentile", "window", "zscore"))
    low = checks.number("intensity.low", rule.get("low"))
    high = checks.number("intensity.high", rule.get("high"))
    if not low < high:
        raise checks.wrong("intensity.high", high, f"more than 'intensity.low', {low}")
    if rule["kind"] == "percentile" and not (low >= 0 and high <= 100):
        raise checks.wrong("intensity", f"{low} to {high}", "percentiles from 0 to 100")


def check_table(table: Mapping[str, Any], steps: int) -> None:
    """`table`: falling timesteps, a row of five coefficients for each, and two coefficients for the start."""
    timesteps = checks.sequence("table.timesteps", table.get("timesteps"))
    rows = checks.sequence("table.coefficients", table.get("coefficients"))
    start = checks.sequence("table.start", table.get("start"))
    limit = 100_000
    for index, step in enumerate(timesteps):
        limit = checks.integer(f"table.timesteps[{index}]", step, 1, limit) - 1
    for index, row in enumerate([*rows, start]):
        key, width = (f"table.coefficients[{index}]", 5) if index < len(rows) else ("table.start", 2)
        if len(checks.sequence(key, row)) != width:
            raise checks.wrong(key, row, f"a list of {width} numbers, not {len(row)}")
        for column, value in enumerate(row):
            checks.number(f"{key}[{column}]", value)
    if not len(timesteps) == len(rows) == steps:
        counts = f"not {len(timesteps)} timesteps and {len(rows)} rows of coefficients"
        raise checks.wrong("table.timesteps", timesteps, f"{steps} steps as in 'defaults.steps', {counts}")
    if list(rows[-1]) != [0, 1, 0, 0, 0]:
        raise checks.wrong("table.coefficients", rows, "rows that end in (0, 1, 0, 0, 0): the result is the last x0hat")


def check_frontier(frontier: Mapping[str, Any]) -> None:
    """`frontier`: settings with steps, samples, policy and Dice."""
    for index, row in enumerate(checks.sequence("frontier.settings", frontier.get("settings", []))):
        key = f"frontier.settings[{index}]"
        setting = checks.mapping(key, row)
        prior_alone = checks.integer(f"{key}.steps", setting.get("steps"), 0, 100_000) == 0
        least, most = (0, 0) if prior_alone else (1, 1000)
        checks.integer(f"{key}.samples", setting.get("samples"), least, most)
        checks.text(f"{key}.policy", setting.get("policy"), r"[a-z]+(\+[a-z]+)*", "names of policies joined by '+'")
        checks.number(f"{key}.dice", setting.get("dice"), 0, "a mean Dice of at least 0")
        if setting.get("name") is not None:
            checks.text(f"{key}.name", setting["name"], r"[a-z]+", "a word of lower-case letters")


def check_gates(gates: Mapping[str, Any]) -> None:
    """`gates`: what a runtime reads of each precision's record, the graphs of each backend and each stage's drift."""
    for precision, record in gates.items():
        key = f"gates.{precision}"
        plain = checks.mapping(key, record)
        for backend, judged in checks.mapping(f"{key}.backends", plain.get("backends", {})).items():
            found = checks.mapping(f"{key}.backends.{backend}", judged)
            checks.mapping(f"{key}.backends.{backend}.graphs", found.get("graphs", {}))
        for index, stage in enumerate(checks.sequence(f"{key}.drift", plain.get("drift", []))):
            place = f"{key}.drift[{index}]"
            checks.number(f"{place}.mean", checks.mapping(place, stage).get("mean"), 0, "a probability of at least 0")


def check_volume(volume: Mapping[str, Any]) -> dict[str, Any]:
    """`volume` with every key in its plain form.

    The keys: `patch`, slices, rows and columns of the prior graph's input [N, 1, D, H, W], fixed in the graph;
    `spacing_mm`, millimetres from slice to slice, row to row and column to column that it sees; `overlap`, the share
    of a window that it has in common with the next; and, both optional, `crop`, the share of a slice's columns that is
    looked at, around the middle (1: all), and `window_mb`, MiB that the network holds while it runs one window (null:
    not known).

    Raises:
        BundleError: A key is missing or of the wrong type or range.
    """
    patch = _three("volume.patch", volume.get("patch"))
    spacing = _three("volume.spacing_mm", volume.get("spacing_mm"))
    overlap = checks.number("volume.overlap", volume.get("overlap"), 0, f"a share from 0 to {MOST_OVERLAP}")
    crop = checks.number("volume.crop", volume.get("crop", 1.0), 0.01, "a share from 0.01 to 1")
    window_mb = volume.get("window_mb")
    if overlap > MOST_OVERLAP:
        raise checks.wrong("volume.overlap", overlap, f"a share from 0 to {MOST_OVERLAP}")
    if crop > 1:
        raise checks.wrong("volume.crop", crop, "a share from 0.01 to 1")
    return {
        "patch": [checks.integer(f"volume.patch[{i}]", length, 1, LONGEST) for i, length in enumerate(patch)],
        "spacing_mm": [
            checks.number(f"volume.spacing_mm[{i}]", pitch, 1e-3, "millimetres, at least 0.001")
            for i, pitch in enumerate(spacing)
        ],
        "overlap": overlap,
        "crop": crop,
        "window_mb": None if window_mb is None else checks.number("volume.window_mb", window_mb, 0, "MiB, or null"),
    }


def _three(key: str, value: object) -> tuple[Any, ...]:
    items = checks.sequence(key, value)
    if len(items) != 3:
        raise checks.wrong(key, items, f"a list of 3 numbers (slices, rows, columns), not {len(items)}")
    return items
