"""What ``verdiff export`` does: a training run or a bundle in, a verified bundle out, in the precisions asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from verdiff.bundle import MANIFEST, Trust, open_bundle, resolve_model, shipped_models
from verdiff.bundle.names import SUFFIX, shipped_model
from verdiff.errors import BundleError, DataError, VerificationError
from verdiff.evaluate.fold import labelled_scans
from verdiff.export.converting import (
    Reference,
    add_judged,
    add_on_record,
    require_calibration,
    require_convolutions,
    require_record,
)
from verdiff.export.draft import Draft
from verdiff.export.precision.gate import LEAST_PATIENTS
from verdiff.export.refusals import check_options, require_place, require_slices, require_training
from verdiff.export.slices import Chosen, chosen_of_run, slices_of_scans
from verdiff.options import ExportOptions
from verdiff.precisions import REDUCED, TABLE
from verdiff.progress import stage
from verdiff.rehearsal import is_rehearsal, rehearse
from verdiff.runtime import Segmenter

CHECKPOINTS = ("best.pt", "last.pt")
# Precisions that every run is judged in; their graphs follow from the FP32 ones, bit for bit.
ON_RECORD = tuple(name for name in REDUCED if not TABLE[name].calibrated)


def run(source: str | Path | None, options: ExportOptions, *, say: Callable[[str], None]) -> Path:
    """Export ``source`` (the folder of a run, a bundle, a shipped model's name; None: the default model).

    Returns:
        Where the bundle was written.

    Raises:
        DataError: A run that is none, a bundle and nothing to convert it to, options that do not fit, or scans that
            cannot be used.
        InputError: A scan that cannot be read.
        UnsuitableScanError: A scan that does not look like the model's training data.
        BundleError: The bundle cannot be opened, or a record in it is damaged.
        BackendError: What the export needs is not installed, or engines are asked for and TensorRT is not there.
        VerificationError: A graph failed its checks; nothing is written.
        OutputError: The output cannot be written.
    """
    path = _path(source)
    is_run = path is not None and any(os.path.isfile(path / name) for name in CHECKPOINTS)
    if path is not None and not os.path.exists(path):
        raise BundleError(
            f"no training run, model or bundle {str(source)!r}",
            f"the folder of a run, a model that ships ({', '.join(shipped_models()) or 'none here'}), or a bundle",
            "check the path, or list the models with 'verdiff models'",
        )
    # A bundle is opened at once, and what it is decides what may be asked; a run's weights are loaded after the checks.
    draft = None if is_run else _of_bundle(source, options)
    check_options(options, is_run)
    chosen = Chosen([])
    if draft is None:
        if is_rehearsal():
            _look_at_run(Path(source or ""), options)
        name = options.name or ("MODEL_ID of the card" if options.card is not None else Path(source or "").name)
        _rehearse({"run": source}, options, options.output or f"{name}{SUFFIX}")
        draft, chosen = _of_run(Path(source or ""), options, say)
    output = options.output or Path("-".join([draft.manifest.model_id, *options.precisions]) + SUFFIX)
    require_place(output, options)
    require_convolutions(draft, options.precisions)
    for precision in () if is_run or options.scans is not None else options.precisions:
        require_record(draft, precision)
    _rehearse({"bundle": source or "the default model"}, options, output)
    if options.scans is not None:
        chosen = slices_of_scans(options.scans, draft.manifest, say)
    if chosen.judged and options.precisions:
        require_calibration(options.precisions, chosen.calibration)
        reference = Reference(draft, chosen.judged, chosen.seen)
        for precision in options.precisions:
            with stage(f"judging {precision.upper()}"):
                draft = add_judged(draft, precision, reference, chosen.calibration, say)
    elif is_run and len(chosen.judged) >= LEAST_PATIENTS:
        draft = _with_record(draft, Reference(draft, chosen.judged, chosen.seen), say)
    for precision in () if chosen.judged else options.precisions:
        draft = add_on_record(draft, precision, say)
    if options.data is not None:
        draft = _with_frontier(draft, options.data, options, say)
    if options.release is not None:
        draft = replace(draft, manifest=replace(draft.manifest, version=options.release))
    size = draft.write(output, overwrite=options.overwrite)
    held = ", ".join(open_bundle(output).precisions("prior"))
    say(f"{output}: {size / 1e6:.1f} MB, {len(draft.files)} files, {held}")
    return output


def _path(source: str | Path | None) -> Path | None:
    """The run or the bundle that was named by its path; None of a model that ships."""
    return None if source is None or shipped_model(source) is not None else Path(source)


def _rehearse(model: Mapping[str, object], options: ExportOptions, output: Path | str) -> None:
    """Say what would follow, before the weights of a run or the scans are read."""
    asked = {
        "export its graphs and compare them with PyTorch's": "run" in model,
        f"add {', '.join(each.upper() for each in options.precisions)}, each judged": bool(options.precisions),
        "measure accuracy against time": options.data is not None,
        "build TensorRT engines of it": options.engine,
    }
    read = {**model, "scans to judge on": options.scans, "data set": options.data}
    rehearse(read, [what for what, wanted in asked.items() if wanted], [output])


def _with_record(draft: Draft, reference: Reference, say: Callable[[str], None]) -> Draft:
    """The draft with the gates of FP16 and BF16 on record, so that 'verdiff export --fp16' can make their graphs.

    Nobody asked for them, so a model that does not pass has no record and its FP32 bundle is written.
    """
    for precision in ON_RECORD:
        try:
            with stage(f"judging {precision.upper()}"):
                draft = add_judged(draft, precision, reference, (), say, store=False)
        except VerificationError as error:
            say(f"no {precision.upper()} on record: {error.found}")
    return draft


def _with_frontier(draft: Draft, data: Path, options: ExportOptions, say: Callable[[str], None]) -> Draft:
    from verdiff.export.frontier import frontier_record, measure_efforts

    fold, every = options.fold or 0, options.every or 1
    scans = list(labelled_scans(data, fold, modality=draft.manifest.modality))
    with draft.opened() as bundle:
        segmenter = Segmenter.load(bundle.path)
        with stage("measuring accuracy against time"):
            measured = measure_efforts(segmenter, scans, every=every, say=say)
    slices = "all slices" if every == 1 else f"every {every} slices"
    if trained := draft.manifest.trained_on(data.absolute().name, [scan.name for scan in scans]):
        say(f"the model may have learned from {', '.join(trained)}: of other patients this Dice says too much")
        slices += f"; the model may have learned from {len(trained)} of them"
    record = frontier_record(
        measured,
        {
            "data": f"{data.name}, {len(scans)} validation cases of fold {fold}, {slices}",
            "backend": f"{segmenter.backend.name}, {segmenter.backend.precision}, {segmenter.backend.threads} threads",
        },
    )
    for setting in record["settings"]:
        named = f" ({setting['name']})" if setting["name"] else ""
        say(
            f"frontier: {setting['steps']} steps x {setting['samples']}, {setting['policy']}{named}: "
            f"Dice {setting['dice']:.4f}, {setting['ms_per_slice']:.0f} ms a slice"
        )
    return draft.with_frontier(record)


def _look_at_run(path: Path, options: ExportOptions) -> None:
    """Refuse a run whose weights or card cannot be read, and an output that cannot be written."""
    require_training()
    from verdiff.export.from_run import read_card
    from verdiff.train.checkpoint import load_network

    load_network(path, options.weights or CHECKPOINTS[0])
    read_card(options.card)
    require_place(options.output or Path(f"{options.name or path.absolute().name}{SUFFIX}"), options)


def _of_run(path: Path, options: ExportOptions, say: Callable[[str], None]) -> tuple[Draft, Chosen]:
    require_training()
    from verdiff.export.from_run import draft_of_run

    weights = options.weights or CHECKPOINTS[0]
    draft = draft_of_run(
        path,
        card=options.card,
        half_weights=not options.float32_weights,
        weights=weights,
        name=options.name,
        decided=options.decided,
        say=say,
    )
    if draft.manifest.volume:
        require_slices(draft.manifest, options)
        return draft, Chosen([])
    chosen = chosen_of_run(path, draft.manifest, say)
    return _with_invariances(draft, chosen, options, say), chosen


def _with_invariances(draft: Draft, chosen: Chosen, options: ExportOptions, say: Callable[[str], None]) -> Draft:
    """The draft with what changes of the scan, not of the spine, do to the mask, in the manifest's metrics."""
    from verdiff.export.invariances import measure_invariances, require_invariant

    with stage("measuring invariances"), draft.opened() as bundle:
        record = measure_invariances(bundle, chosen.judged, say)
    if options.invariant:
        require_invariant(record)
    metrics = {**draft.manifest.metrics, "invariances": record}
    return replace(draft, manifest=replace(draft.manifest, metrics=metrics))


def _of_bundle(source: str | Path | None, options: ExportOptions) -> Draft:
    path = _path(source)
    if path is not None and path.is_dir() and not (path / MANIFEST).is_file():
        if (path / "config.json").is_file():
            raise DataError(
                f"the run in {path} has neither {' nor '.join(CHECKPOINTS)}",
                "a run with weights",
                "let it train to its first validation",
            )
        raise DataError(f"{path} is neither a training run nor a bundle", "one of the two", "check the path")
    bundle = open_bundle(resolve_model(source), trust=Trust(options.sha256, options.trusted_key))
    if bundle.manifest.volume:
        require_slices(bundle.manifest, options)
    if not options.precisions and options.data is None:
        build = (
            f"; engines of the bundle as it is: verdiff build {bundle.manifest.model_id if source is None else source}"
        )
        raise DataError(
            f"the bundle {bundle.manifest.model_id} and nothing to add to it",
            "a precision to convert it to, labelled scans to measure it on, or the folder of a training run",
            f"pass --{', --'.join(REDUCED)}, or --data, or name a run{build if options.engine else ''}",
        )
    given = {
        "--card": options.card,
        "--weights": options.weights,
        "--float32-weights": options.float32_weights,
        "--invariant": options.invariant,
        "--name": options.name,
        "--decide": options.decide,
    }
    for name in [name for name, value in given.items() if value]:
        raise DataError(
            f"{name} with a bundle", "what no bundle can be given afterwards", f"leave {name} out, or name a run"
        )
    if options.scans is not None and not options.precisions:
        raise DataError(
            "--scans with a bundle and no precision to judge on them",
            "one of --" + ", --".join(REDUCED),
            "name a precision, or leave --scans out",
        )
    return Draft.of(bundle)
