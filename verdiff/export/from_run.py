"""The FP32 bundle of a training run: graphs, goldens and manifest, verified against PyTorch."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from verdiff import __version__
from verdiff.bundle import Defaults, Feature, Label, Manifest, graph_name
from verdiff.bundle.golden import pack_golden
from verdiff.bundle.layout import GOLDEN
from verdiff.bundle.names import shipped_models
from verdiff.diffusion.tables import SamplerTable
from verdiff.errors import DataError
from verdiff.export.draft import Draft
from verdiff.export.golden import make_golden
from verdiff.export.pipeline import build_pipeline
from verdiff.export.slices import slices_of_run
from verdiff.export.torch_graphs import export_networks, round_weights_to_half
from verdiff.export.verify import verify_bundle
from verdiff.export.weights import store_as_half
from verdiff.train.checkpoint import Checkpoint, load_network
from verdiff.train.config import SamplingConfig
from verdiff.train.data.cases import ALL
from verdiff.train.networks.folding import folded
from verdiff.train.settings import table_of

# SNOMED CT codes of the structures for which one was found in published mappings.
SNOMED = {"disc": "360499006", "canal": "61853006"}
MAX_PIXELS = 2048 * 2048
_LONGEST_NAME = 58
CARD_KEYS = ("model_id", "version", "training", "metrics", "intended_use", "limits", "defaults")
# Of a model whose release nobody has named yet.
FIRST_VERSION = "0.0.1"
# Below these a mask means nothing: the mean Dice on validation cases, and iterations where that was not measured.
LEAST_DICE, LEAST_ITERATIONS = 0.5, 100


@torch.no_grad()
def draft_of_run(
    source: Path,
    *,
    card: Path | None,
    half_weights: bool,
    weights: str,
    name: str | None = None,
    say: Callable[[str], None],
) -> Draft:
    """The FP32 bundle of the run in folder ``source``, 2D or 3D, verified and not yet written.

    Args:
        card: A JSON file with what no run can know: version, training-data statement and licence, metrics, intended
            use, limits, and default steps / samples where they differ from the configuration.
        half_weights: Store weights as float16. They are rounded before anything is compared, so what is verified is
            what is stored.
        weights: Which checkpoint of the run.
        name: The model's id; None is that of the card, or the name of the run's folder.

    Raises:
        DataError: ``source`` is no run, or ``card`` is not usable.
        VerificationError: The graphs do not agree with PyTorch.
    """
    net, checkpoint = load_network(source, weights)
    net = folded(net)
    config, facts = checkpoint.config, checkpoint.facts
    statements = {"model_id": name or name_of(source), **read_card(card)}
    said = untrained(checkpoint)
    if said:
        say(f"untrained: {said}")
    if half_weights:
        round_weights_to_half(net)
    if config.dimensions == 3:
        from verdiff.export.volumetric import draft_of_volume_run

        return draft_of_volume_run(source, net, checkpoint, statements, half_weights=half_weights, say=say)
    sampling = table_of(
        SamplingConfig, {**asdict(config.sampling), **statements.get("defaults", {})}, "the card's defaults"
    )
    table = sampling.table(config.process.build()) if config.diffusion else None
    say(f"{config.model_id}: iteration {checkpoint.iteration} of fold {facts.fold}; exporting the graphs")
    graphs = export_networks(net, config)
    if table is None or table.deterministic:
        graphs["pipeline"] = build_pipeline(
            graphs["prior"], graphs.get("denoiser"), table, facts.label_ids, multiple=config.network.multiple
        )
    if half_weights:
        graphs = {role: store_as_half(model) for role, model in graphs.items()}
    files = {graph_name(role): model.SerializeToString(deterministic=True) for role, model in graphs.items()}
    files[GOLDEN] = pack_golden(make_golden(net, config, table, facts.label_ids))
    defaults = Defaults(**asdict(sampling))
    if table is None:
        defaults = replace(defaults, steps=0, samples=0)
    manifest = make_manifest(checkpoint, table, defaults, statements, half_weights)
    draft = Draft(manifest, files)
    image = np.concatenate([patient.image for patient in slices_of_run(source, config.network.multiple)])
    with draft.opened() as bundle:
        verify_bundle(bundle, net, config, table, image, say)
    return draft


def name_of(run: Path) -> str:
    """A model id from the name of a run's folder; never that of a model that ships with verdiff."""
    words = re.sub(r"[^a-z0-9._-]+", "-", run.absolute().name.lower()).strip("._-")[:_LONGEST_NAME].strip("._-")
    return f"{words}-own" if words in shipped_models() else words or "model"


def untrained(checkpoint: Checkpoint) -> str | None:
    """Why a run's masks mean nothing yet; None where they may mean something."""
    config, iterations = checkpoint.config, f"{checkpoint.iteration} iteration{'s' * (checkpoint.iteration != 1)}"
    by_dice = config.training.patience is None and math.isfinite(checkpoint.best)
    if by_dice and checkpoint.best < LEAST_DICE:
        return f"{iterations}, best validation Dice {checkpoint.best:.2f}"
    if checkpoint.iteration < LEAST_ITERATIONS and not by_dice:
        return f"{iterations}, not validated"
    return None


def read_card(path: Path | None) -> dict[str, Any]:
    """The statements of a model card; empty without one. Raises DataError for a file that is none."""
    if path is None:
        return {}
    try:
        card = json.loads(path.read_text("utf-8"))
        unknown = sorted(set(card) - set(CARD_KEYS))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"the card {path.name} cannot be read ({error})", "a JSON object", "check the file") from error
    if unknown:
        raise DataError(f"the card has the key {unknown[0]!r}", f"some of {', '.join(CARD_KEYS)}", "correct the card")
    return dict(card)


def make_manifest(
    checkpoint: Checkpoint, table: SamplerTable | None, defaults: Defaults, card: Mapping[str, Any], half_weights: bool
) -> Manifest:
    """The manifest of a run's bundle; what the card does not say is said to be unknown."""
    config, facts = checkpoint.config, checkpoint.facts
    data, features = config.data, sorted(config.network.features.items())
    spacing = data.spacing_mm or facts.statistics["pixel_spacing_mm"][0]
    said = untrained(checkpoint)
    facts_of_training = {
        "system": config.system,
        "configuration": config.model_id,
        "data_set": facts.dataset,
        "fold": "all" if facts.fold == ALL else facts.fold,
        "validation_cases": list(facts.validation_cases),
        "iterations": checkpoint.iteration,
        "minutes": round(checkpoint.minutes, 1),
        "seed": config.training.seed,
        "torch": torch.__version__,
        "verdiff": __version__,
        **({"untrained": said} if said else {}),
        **({"data_sets": facts.parts} if facts.parts else {}),
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
        intensity={"kind": data.intensity_kind, "low": data.intensity_low, "high": data.intensity_high},
        multiple=config.network.multiple,
        max_pixels=MAX_PIXELS,
        process={} if table is None else config.process.build().to_dict(),
        table={} if table is None else table.to_dict(),
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
