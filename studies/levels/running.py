"""The study from data sets to weights and tables: one command makes ``anchor.json`` and the page of results."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from studies.levels.fitting import FOLDS, PENALTY, cross_fitted, fit
from studies.levels.measuring import GROUPS, HEAD, RELIABILITY_HEAD, WRONG, Outcome, outcomes, reliability, table
from studies.levels.scenes import CUTS, Scene, scenes
from verdiff.anatomy.anchor import AnchorModel
from verdiff.anatomy.picture import LEAST_BODIES
from verdiff.benchmarks.environment import describe_machine
from verdiff.files import atomic_path

# Of a single slice that shows fewer bodies it is not certain that the lowest of them is L5.
_OF_ONE_SLICE = 5


def run(
    train: Sequence[Path],
    test: Sequence[Path],
    *,
    masks: Mapping[Path, Path],
    weights: Path | None,
    output: Path | None,
    command: str,
    say: Callable[[str], None],
    cuts: tuple[float | None, ...] = CUTS,
) -> None:
    """Fit on some data sets, measure on them by cross-fitting and on others whole, write what is asked for.

    Args:
        train: Data sets that the weights come from; their licence must allow it.
        test: Data sets that are measured on alone.
        masks: Other masks of a data set in ``test``, such as a model's, measured beside the experts'.
        weights: Where ``anchor.json`` goes; None keeps the one there is.
        output: Where the page goes; None prints it.
        command: Command, for the page.
        say: Takes a line at a time.
        cuts: Where scans are cut off.
    """
    seen = {path: _seen(path, cuts, say) for path in (*train, *test)}
    trained = [scene for path in train for scene in seen[path]]
    model = fit(trained)
    own = list(outcomes(cross_fitted(trained)))
    rows = table("training sets, each patient by a model that has not seen them", own)
    sure = reliability(own)
    for path in test:
        rows += table(f"{path.name}, experts' masks", outcomes((scene, model) for scene in seen[path]))
        if path in masks:
            other = scenes(path, masks=masks[path], cuts=cuts)
            rows += table(f"{path.name}, masks of {masks[path].name}", outcomes((scene, model) for scene in other))
        crossed = cross_fitted(seen[path], fixed=trained)
        rows += table(f"{path.name}, its other patients in training too", outcomes(crossed))
    lines = ["# Levels from the picture", "", "```", command, "```", "", describe_machine().cpu, "", *HEAD, *rows]
    lines += ["", "Training sets, cross-fitted:", "", *RELIABILITY_HEAD, *sure, ""]
    if output is None:
        say("\n".join(lines))
    else:
        with atomic_path(output) as temporary:
            temporary.write_text("\n".join(lines), "utf-8")
    if weights is not None:
        with atomic_path(weights) as temporary:
            temporary.write_text(json.dumps(_statement(train, trained, model, own), indent=1) + "\n", "utf-8")
        say(f"wrote {weights}")


def _seen(path: Path, cuts: tuple[float | None, ...], say: Callable[[str], None]) -> list[Scene]:
    slices = any(part in path.name for part in ("Slices", "T1T2"))
    least = _OF_ONE_SLICE if slices else LEAST_BODIES
    found = list(scenes(path, least_bodies=least, cuts=cuts))
    say(f"{path.name}: {len({scene.case for scene in found})} scans, {len(found)} pictures")
    return found


def _statement(
    train: Sequence[Path], trained: Sequence[Scene], model: AnchorModel, own: Sequence[Outcome]
) -> dict[str, object]:
    """What ``anchor.json`` says of itself, and the model."""
    named = [each for each in own if each.answer != "unknown"]
    scans, patients = len({scene.case for scene in trained}), len({scene.patient for scene in trained})
    return {
        "what": "which vertebral body of an MR picture is the last above the sacrum; see docs/anatomy.md",
        "training": {
            "statement": (
                f"{scans} scans of {patients} patients ({', '.join(path.name for path in train)}), whole and cut at up "
                "to ten heights; experts' masks, whose lowest vertebra is the last above the sacrum, of single slices "
                "those with bodies at even distances; logistic regression on oriented gradients around each body, "
                f"penalty {PENALTY:g}, calibrated on the patients left out of {FOLDS} folds"
            ),
            "source": "SPIDER (van der Graaf et al. 2024, doi 10.1038/s41597-024-03090-w)",
            "licence": "CC BY 4.0",
        },
        "measured": {
            "on": "the same patients, each by a model that has not seen them",
            "pictures": len(own),
            "named": len(named),
            "named_wrong": sum(each.answer == WRONG for each in named),
            "whole_scans": sum(each.group == GROUPS[0] for each in own),
            "whole_scans_named_right": sum(each.group == GROUPS[0] and each.answer == "right" for each in own),
        },
        "model": model.to_dict(),
    }
