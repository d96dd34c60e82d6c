"""What must not be missed, written across the picture: what was forced, what looks wrong, what is cut off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

STOP, WARN, NOTE = "stop", "warn", "note"


@dataclass(frozen=True)
class Band:
    """One line across the picture.

    Attributes:
        kind: ``"stop"`` (the mask may mean nothing), ``"warn"`` or ``"note"``.
        text: What it says.
    """

    kind: str
    text: str


def bands_of(report: Mapping[str, Any]) -> list[Band]:
    """Everything that a report warns of, the worst first."""
    provenance = report["provenance"]
    reached, model = provenance["reached"], provenance["model"]
    found = [Band(STOP, f"Forced past: {reason}") for reason in provenance["forced"]]
    if "untrained" in model:
        found.append(Band(STOP, f"Untrained model ({model['untrained']}): its mask means nothing"))
    if report["outcome"] == "empty mask":
        found.append(Band(STOP, "Empty mask: no structure was found"))
    if provenance["outcome"] in ("budget", "cancelled"):
        done = f"{reached['slices_refined']} of {reached['slices']} slices refined, the others have the prior's answer"
        found.append(Band(WARN, f"Stopped by {provenance['outcome']}: {done}"))
    found += [Band(WARN, f"{each['text']} ({each['name']})") for each in provenance["warnings"]]
    margins = provenance.get("margins", {})
    found += [Band(WARN, f"No promise of no-go surfaces: {why}") for why in margins.get("not_promised_because", ())]
    cut = report["cut_by_field_of_view"]
    if cut:
        names = ", ".join(f"{name} ({', '.join(sides)})" for name, sides in cut.items())
        what = "volumes" if report["volumes_ml"] else "shares"
        found.append(Band(NOTE, f"The field of view cuts {names}: {what} are of the part within it"))
    return found + [Band(NOTE, note) for note in provenance["scan"]["notes"]]


def stopping(report: Mapping[str, Any]) -> list[str]:
    """The lines for a still picture, which has less room: all but what is only noted of the field of view."""
    notes = set(report["provenance"]["scan"]["notes"])
    return [band.text for band in bands_of(report) if band.kind != NOTE or band.text in notes]
