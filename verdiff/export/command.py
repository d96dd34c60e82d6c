"""What ``verdiff export`` does: a training run or a bundle in, a verified bundle out, in the precisions asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from verdiff.bundle import MANIFEST, Manifest, open_bundle, resolve_model
from verdiff.bundle.names import SUFFIX
from verdiff.errors import BackendError, DataError, VerificationError
from verdiff.evaluate.fold import labelled_scans
from verdiff.export.draft import Draft
from verdiff.export.precision.gate import LEAST_PATIENTS
from verdiff.export.precision.networks import Patient
from verdiff.export.reduced import PRECISIONS, Reference, add_judged, add_on_record
from verdiff.export.slices import slices_of_run, slices_of_scans
from verdiff.runtime import Segmenter

CHECKPOINTS = ("best.pt", "last.pt")


@dataclass(frozen=True)
class ExportOptions:
    """The options of ``verdiff export``.

    Attributes:
        output: The bundle; by default named after the model and its precisions, in the working folder.
        precisions: Of ``"fp16"``, ``"bf16"`` and ``"int8"`` (or of the latter one form alone: ``"int8-ov"``), beside
            FP32.
        scans: A folder of scans for the gate, one a patient.
        card: For a run: JSON with what no run knows.
        weights: For a run: which checkpoint.
        half_weights: For a run: store weights as float16.
        data: An nnU-Net raw data set, to measure the frontier on.
        fold: Whose validation cases are scored.
        every: Every how-manieth slice of them.
        release: Version of the new bundle; None is that of the source.
    """

    output: Path | None = None
    precisions: tuple[str, ...] = ()
    scans: Path | None = None
    card: Path | None = None
    weights: str = CHECKPOINTS[0]
    half_weights: bool = True
    data: Path | None = None
    fold: int = 0
    every: int = 1
    release: str | None = None


def run(source: str | Path | None, options: ExportOptions, *, say: Callable[[str], None]) -> Path:
    """Export ``source`` (the folder of a run, a bundle, a shipped model's name; None: the default model).

    Returns:
        Where the bundle was written.

    Raises:
        DataError: A run that is none, a bundle and nothing to convert it to, or scans that cannot be used.
        BundleError: The bundle cannot be opened.
        VerificationError: A graph failed its checks; nothing is written.
        OutputError: The output cannot be written.
    """
    path = Path(source) if source is not None else None
    aside: list[Patient] = []
    calibration: list[Patient] = []
    is_run = path is not None and path.is_dir() and any((path / name).is_file() for name in CHECKPOINTS)
    if path is not None and is_run:
        require_training()
        from verdiff.export.from_run import draft_of_run

        draft = draft_of_run(
            path, card=options.card, half_weights=options.half_weights, weights=options.weights, say=say
        )
        if not draft.manifest.volume:
            aside = slices_of_run(path, draft.manifest.multiple)
    else:
        draft = _of_bundle(source, options)
    if draft.manifest.volume:
        _require_slices(draft.manifest, options)
    patients = aside
    if options.scans is not None:
        patients, calibration = slices_of_scans(options.scans, draft.manifest, say)
    if patients and options.precisions:
        reference = Reference(draft, patients)
        for precision in options.precisions:
            draft = add_judged(draft, precision, reference, calibration, say)
    elif is_run and len(patients) >= LEAST_PATIENTS:
        draft = _with_record(draft, Reference(draft, patients), say)
    for precision in () if patients else options.precisions:
        draft = add_on_record(draft, precision, say)
    if options.data is not None:
        draft = _with_frontier(draft, options.data, options, say)
    if options.release is not None:
        draft = replace(draft, manifest=replace(draft.manifest, version=options.release))
    output = options.output or Path("-".join([draft.manifest.model_id, *options.precisions]) + SUFFIX)
    size = draft.write(output)
    say(f"{output}: {size / 1e6:.1f} MB, {len(draft.files)} files, {', '.join(('fp32', *options.precisions))}")
    return output


def _with_record(draft: Draft, reference: Reference, say: Callable[[str], None]) -> Draft:
    """With the FP16 gate on record, from which the graphs can be made again: 'verdiff export BUNDLE --fp16'.

    Nobody asked for FP16, so a model that does not pass has no record and its FP32 bundle is written.
    """
    try:
        return add_judged(draft, "fp16", reference, (), say, store=False)
    except VerificationError as error:
        say(f"no FP16 on record: {error.found}")
        return draft


def _with_frontier(draft: Draft, data: Path, options: ExportOptions, say: Callable[[str], None]) -> Draft:
    from verdiff.export.frontier import frontier_record, measure_efforts

    scans = list(labelled_scans(data, options.fold, modality=draft.manifest.modality))
    with draft.opened() as bundle:
        segmenter = Segmenter.load(bundle.path)
        measured = measure_efforts(segmenter, scans, every=options.every, say=say)
    slices = "all slices" if options.every == 1 else f"every {options.every} slices"
    record = frontier_record(
        measured,
        {
            "data": f"{data.name}, {len(scans)} validation cases of fold {options.fold}, {slices}",
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


def _require_slices(manifest: Manifest, options: ExportOptions) -> None:
    """Refuse what is judged or measured on slices, for a model that takes volumes."""
    asked = [f"--{precision}" for precision in options.precisions]
    asked += [f"--{name}" for name in ("data", "scans") if getattr(options, name) is not None]
    if asked:
        raise DataError(
            f"{', '.join(asked)} for {manifest.model_id}, which takes volumes",
            "its FP32 graph alone, which OpenVINO also runs in bf16: gates and frontier are made on slices",
            f"leave out {', '.join(asked)}",
        )


def require_training() -> None:
    """Refuse before an import does, with the extra to install.

    Raises:
        BackendError: torch is not installed.
    """
    from importlib.util import find_spec

    if find_spec("torch") is None:
        raise BackendError(
            "the export of a training run without torch",
            "the training packages beside the lean runtime",
            "pip install 'verdiff[train]'",
        )


def _of_bundle(source: str | Path | None, options: ExportOptions) -> Draft:
    path = Path(source) if source is not None else None
    if path is not None and path.is_dir() and not (path / MANIFEST).is_file():
        if (path / "config.json").is_file():
            raise DataError(
                f"the run in {path} has neither {' nor '.join(CHECKPOINTS)}",
                "a run with weights",
                "let it train to its first validation",
            )
        raise DataError(f"{path} is neither a training run nor a bundle", "one of the two", "check the path")
    bundle = open_bundle(resolve_model(source))
    if not options.precisions and options.data is None:
        raise DataError(
            f"the bundle {bundle.manifest.model_id} and nothing to add to it",
            "a precision to convert it to, labelled scans to measure it on, or the folder of a training run",
            "pass --" + ", --".join(PRECISIONS) + ", or --data, or name a run",
        )
    if options.card is not None:
        raise DataError("--card with a bundle", "a card with a training run", "export the run with its card again")
    return Draft.of(bundle)
