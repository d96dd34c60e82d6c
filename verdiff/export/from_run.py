"""The FP32 bundle of a training run: graphs, goldens and manifest, verified against PyTorch."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from verdiff.bundle import Defaults, graph_name
from verdiff.bundle.golden import pack_golden
from verdiff.bundle.layout import GOLDEN
from verdiff.bundle.names import shipped_models
from verdiff.errors import DataError
from verdiff.export.draft import Draft
from verdiff.export.golden import make_golden
from verdiff.export.pipeline import build_pipeline
from verdiff.export.run_manifest import make_manifest, untrained
from verdiff.export.slices import slices_of_run
from verdiff.export.torch_graphs import export_networks, round_weights_to_half
from verdiff.export.verify import verify_bundle
from verdiff.export.volumetric import draft_of_volume_run
from verdiff.export.weights import store_as_half
from verdiff.settings import table_of
from verdiff.train.checkpoint import load_network
from verdiff.train.config import RunConfig, SamplingConfig
from verdiff.train.data.cases import ALL
from verdiff.train.networks.deciding import decide
from verdiff.train.networks.folding import folded

_LONGEST_NAME = 58
CARD_KEYS = ("model_id", "version", "training", "metrics", "intended_use", "limits", "defaults")


@torch.no_grad()
def draft_of_run(
    source: Path,
    *,
    card: Path | None,
    half_weights: bool,
    weights: str,
    name: str | None = None,
    decided: Mapping[str, float] | None = None,
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
        decided: Structure -> probability from which on a pixel counts as it, where that is not one half.

    Raises:
        DataError: ``source`` is no run, or ``card`` is not usable.
        VerificationError: The graphs do not agree with PyTorch.
    """
    net, checkpoint = load_network(source, weights)
    net = folded(net)
    config, facts = checkpoint.config, checkpoint.facts
    if decided:
        require_logits(config)
        decide(net, facts.labels, decided)
    statements = {"model_id": name or name_of(source), **read_card(card)}
    said = untrained(checkpoint)
    if said:
        say(f"untrained: {said}")
    if half_weights:
        round_weights_to_half(net)
    if config.dimensions == 3:
        return draft_of_volume_run(source, net, checkpoint, statements, half_weights=half_weights, say=say)
    sampling = table_of(
        SamplingConfig, {**asdict(config.sampling), **statements.get("defaults", {})}, "the card's defaults"
    )
    table = sampling.table(config.process.build()) if config.diffusion else None
    trained = "all cases" if facts.fold == ALL else f"fold {facts.fold}"
    say(f"{config.model_id}: iteration {checkpoint.iteration} of {trained}; exporting the graphs")
    graphs = export_networks(net, config)
    if table is None or table.deterministic:
        graphs["pipeline"] = build_pipeline(
            graphs["prior"],
            graphs.get("denoiser"),
            table,
            facts.label_ids,
            model_id=statements["model_id"],
            multiple=config.network.multiple,
        )
    if half_weights:
        graphs = {role: store_as_half(model) for role, model in graphs.items()}
    files = {graph_name(role): model.SerializeToString(deterministic=True) for role, model in graphs.items()}
    files[GOLDEN] = pack_golden(make_golden(net, config, table, facts.label_ids))
    defaults = Defaults(**asdict(sampling))
    if table is None:
        defaults = replace(defaults, steps=0, samples=0)
    if decided:
        statements["training"] = {**statements.get("training", {}), "decided": dict(decided)}
    manifest = make_manifest(checkpoint, table, defaults, statements, half_weights)
    draft = Draft(manifest, files)
    image = np.concatenate([patient.image for patient in slices_of_run(source, config.network.multiple)])
    with draft.opened() as bundle:
        verify_bundle(bundle, net, config, table, image, say)
    return draft


def require_logits(config: RunConfig) -> None:
    """Refuse to shift the logits of a network that gives none. Raises DataError."""
    if config.dimensions == 3 or (config.diffusion and config.process.prediction != "x0"):
        raise DataError(
            f"--decide with {config.system}, which "
            + ("takes volumes" if config.dimensions == 3 else "predicts noise"),
            "a 2D system that predicts masks (prediction = x0), or answers in one pass",
            "leave --decide out",
        )


def name_of(run: Path) -> str:
    """A model id from the name of a run's folder; never that of a model that ships with verdiff."""
    words = re.sub(r"[^a-z0-9._-]+", "-", run.absolute().name.lower()).strip("._-")[:_LONGEST_NAME].strip("._-")
    return f"{words}-own" if words in shipped_models() else words or "model"


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
