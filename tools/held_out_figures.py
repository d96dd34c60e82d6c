"""A release of the default model: figures of held-out patients go into the bundle whose weights have seen everybody.

The weights that ship are trained on all patients, so that nothing can be measured on them: neither Dice against time
(``frontier``), from which a budget chooses, nor the margins of no-go surfaces. Both are measured on weights of one fold
that are made alike, and the manifest says so: ``python -m tools.held_out_figures SHIPS MEASURED WHOSE OUTPUT``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from verdiff.bundle import open_bundle
from verdiff.errors import DataError, VerdiffError
from verdiff.export.draft import Draft


def with_figures(ships: Path, measured: Path, whose: str, output: Path) -> None:
    """Write the bundle that ships with the frontier and the margins of another.

    Args:
        ships: Bundle of the weights that ship.
        measured: Bundle of the weights that were measured, of the same networks and structures.
        whose: What these weights are, such as ``"the last weights of fold 0"``.
        output: Where the bundle goes; it may be ``ships``.

    Raises:
        BundleError: One of them cannot be opened.
        DataError: The two are of different kinds, or nothing was measured.
        OutputError: It cannot be written.
    """
    mine, other = open_bundle(ships), open_bundle(measured)
    for key in ("labels", "process", "features", "spacing_mm", "defaults"):
        if getattr(mine.manifest, key) != getattr(other.manifest, key):
            raise DataError(
                f"{measured.name} with another {key}", f"that of {ships.name}", "measure weights made alike"
            )
    if not (other.manifest.frontier and other.manifest.margins):
        raise DataError(
            f"{measured.name} without frontier or margins",
            "what 'verdiff export --data' and 'verdiff calibrate' measured",
            "run both on it",
        )
    draft = Draft.of(mine)
    draft = draft.with_frontier(_told(other.manifest.frontier, whose))
    draft.with_margins(_told(other.manifest.margins, whose)).write(output, overwrite=True)


def _told(figures: Mapping[str, Any], whose: str) -> dict[str, Any]:
    return {**figures, "data": f"{figures['data']}, with {whose} in the place of these weights"}


if __name__ == "__main__":
    ships, measured, whose, output = sys.argv[1:]
    try:
        with_figures(Path(ships), Path(measured), whose, Path(output))
    except VerdiffError as error:
        sys.exit(str(error))
