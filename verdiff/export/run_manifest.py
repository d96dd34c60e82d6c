"""The manifest of a training run's bundle: what the run knows of itself, and what its model card states."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from verdiff import __version__
from verdiff.bundle import Defaults, Feature, Label, Manifest
from verdiff.diffusion.tables import SamplerTable
from verdiff.imaging.intensity import IntensityRule
from verdiff.train.checkpoint import Checkpoint
from verdiff.train.data.cases import ALL

# SNOMED CT codes of the structures for which one was found in published mappings.
SNOMED = {"disc": "360499006", "canal": "61853006"}
MAX_PIXELS = 2048 * 2048
# The version of a model whose release nobody has named yet.
FIRST_VERSION = "0.0.1"
# Below these a mask means nothing: the mean Dice on validation cases, and iterations where that was not measured.
LEAST_DICE, LEAST_ITERATIONS = 0.5, 100


def untrained(checkpoint: Checkpoint) -> str | None:
    """Why a run's masks mean nothing yet; None where they may mean something."""
    config, iterations = checkpoint.config, f"{checkpoint.iteration} iteration{'s' * (checkpoint.iteration != 1)}"
    if checkpoint.waits_for_denoiser:
        return f"{iterations} of the prior network alone: the denoiser has learnt nothing yet"
    by_dice = config.training.patience is None and math.isfinite(checkpoint.best)
    if by_dice and checkpoint.best < LEAST_DICE:
        return f"{iterations}, best validation Dice {checkpoint.best:.2f}"
    # Where the prior network learnt alone at first, the masks are those of a denoiser that came later.
    learnt = checkpoint.denoiser_iterations if config.diffusion else checkpoint.iteration
    if learnt < LEAST_ITERATIONS and not by_dice:
        some = f", the denoiser in {learnt} of them" if learnt < checkpoint.iteration else ""
        return f"{iterations}{some}, not validated"
    return None


def make_manifest(
    checkpoint: Checkpoint, table: SamplerTable | None, defaults: Defaults, card: Mapping[str, Any], half_weights: bool
) -> Manifest:
    """The manifest of a run's bundle; what the card does not say is said to be unknown."""
    config, facts = checkpoint.config, checkpoint.facts
    data, features = config.data, sorted(config.network.features.items())
    spacing = data.spacing_mm or facts.statistics["pixel_spacing_mm"][0]
    said = untrained(checkpoint)
    parts = {
        name: {**part, "validation_cases": list(facts.put_aside(name) or ())} for name, part in facts.parts.items()
    }
    facts_of_training = {
        "system": config.system,
        "configuration": config.model_id,
        "data_set": facts.dataset,
        "fold": "all" if facts.fold == ALL else facts.fold,
        "validation_cases": list(facts.held_out),
        "iterations": checkpoint.iteration,
        "minutes": round(checkpoint.minutes, 1),
        "seed": config.training.seed,
        "torch": torch.__version__,
        "verdiff": __version__,
        **({"untrained": said} if said else {}),
        **({"data_sets": parts} if parts else {}),
        **({"trained_from": facts.origin} if facts.origin else {}),
        **({"distilled_from": facts.teacher} if facts.teacher else {}),
    }
    return Manifest(
        model_id=card.get("model_id", config.model_id),
        version=card.get("version", FIRST_VERSION),
        labels=tuple(
            Label(number, name, SNOMED.get(name)) for number, name in zip(facts.label_ids, facts.labels, strict=True)
        ),
        modality=data.modality,
        view=data.view,
        spacing_mm=float(spacing),
        intensity=IntensityRule.from_dict(
            {"kind": data.intensity_kind, "low": data.intensity_low, "high": data.intensity_high}
        ),
        multiple=config.network.multiple,
        max_pixels=MAX_PIXELS,
        process=None if table is None else config.process.build(),
        table=table,
        defaults=defaults,
        features=tuple(Feature(f"feature_{i}", width, stride) for i, (stride, width) in enumerate(features)),
        prediction=config.process.prediction,
        weights_stored="float16" if half_weights else "float32",
        training={**card.get("training", {"statement": "not stated"}), **facts_of_training},
        metrics=dict(card.get("metrics", {})),
        intended_use=card.get("intended_use", "Research. Not a medical device; not for diagnosis or treatment."),
        limits=tuple(card.get("limits", ("not evaluated",))),
        files={},
        suitability=dict(facts.statistics),
    )
