"""What ``verdiff export`` does: a training run or a bundle in, a verified bundle out, in the precisions asked for."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from verdiff.bundle import MANIFEST, Manifest, Trust, open_bundle, resolve_model
from verdiff.bundle.names import SUFFIX, shipped_models
from verdiff.bundle.packing import check_place
from verdiff.choices import MODEL_NAME, VERSION
from verdiff.errors import BackendError, DataError, OutputError, VerificationError
from verdiff.evaluate.cases import validation_cases
from verdiff.evaluate.fold import file_ending, labelled_scans
from verdiff.export.converting import (
    GIVE_SCANS,
    Reference,
    add_judged,
    add_on_record,
    require_calibration,
    require_convolutions,
    require_record,
)
from verdiff.export.draft import Draft
from verdiff.export.precision.gate import LEAST_PATIENTS
from verdiff.export.slices import Chosen, scans_in, slices_of_run, slices_of_scans
from verdiff.extras import install
from verdiff.precisions import REDUCED, TABLE, makes_engines
from verdiff.runtime import Segmenter

CHECKPOINTS = ("best.pt", "last.pt")
# Precisions that every run is judged in; their graphs follow from the FP32 ones, bit for bit.
ON_RECORD = tuple(name for name in REDUCED if not TABLE[name].calibrated)
# As the manifest wants it, which is written last.
# A bundle that is not one file is a folder, which nobody means to call by the suffix of a file.
FILE_SUFFIXES = (".json", ".onnx", ".zip", ".pt", ".pth", ".plan", ".engine", ".gz", ".tar", ".npz")


@dataclass(frozen=True)
class ExportOptions:
    """The options of ``verdiff export``.

    Attributes:
        output: The bundle; by default named after the model and its precisions, in the working folder.
        precisions: Some of ``"fp16"``, ``"bf16"`` and ``"int8"`` (or of the latter one form alone: ``"int8-ov"`` or
            ``"int8-trt"``), beside FP32.
        scans: A folder of scans for the gate, one a patient.
        card: JSON with what no run knows, for a run.
        weights: Checkpoint of a run; None is the best.
        half_weights: Whether a run's weights are stored as float16.
        data: An nnU-Net raw data set, to measure the frontier on.
        fold: Fold whose validation cases are scored, with data; None is 0.
        every: n, where every n-th slice of them is scored, with data; None is all.
        release: Version of the new bundle; None is that of the source.
        engine: TensorRT engines are to be built of it, so TensorRT has to be there.
        name: Id of the model, for a run; None is that of the card, or the name of the run's folder.
        decide: Probability of each structure from which on a pixel counts as it, for a run; one half for the others.
        invariant: Whether to refuse a run's model whose mask depends on margins, field of view, grey units or slice
            order.
        overwrite: Whether a file that is no bundle may be replaced.
        expect_sha256: SHA-256 that a bundle's manifest must have, or it is refused.
        trusted_key: Public keys, one of which must have signed a bundle, or it is refused.
    """

    output: Path | None = None
    precisions: tuple[str, ...] = ()
    scans: Path | None = None
    card: Path | None = None
    weights: str | None = None
    half_weights: bool = True
    data: Path | None = None
    fold: int | None = None
    every: int | None = None
    release: str | None = None
    engine: bool = False
    name: str | None = None
    decide: Mapping[str, float] = field(default_factory=dict)
    invariant: bool = False
    overwrite: bool = False
    expect_sha256: str | None = None
    trusted_key: Path | None = None


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
    path = Path(source) if source is not None else None
    is_run = path is not None and path.is_dir() and any((path / name).is_file() for name in CHECKPOINTS)
    # A bundle is opened at once, and what it is decides what may be asked; a run's weights are loaded after the checks.
    draft = None if is_run else _of_bundle(source, options)
    _check(options, is_run)
    chosen = Chosen([])
    if draft is None:
        draft, chosen = _of_run(Path(source or ""), options, say)
    output = options.output or Path("-".join([draft.manifest.model_id, *options.precisions]) + SUFFIX)
    _require_place(output, options)
    require_convolutions(draft, options.precisions)
    for precision in () if is_run or options.scans is not None else options.precisions:
        require_record(draft, precision)
    if options.scans is not None:
        chosen = slices_of_scans(options.scans, draft.manifest, say)
    if chosen.judged and options.precisions:
        require_calibration(options.precisions, chosen.calibration)
        reference = Reference(draft, chosen.judged, len(chosen.seen))
        for precision in options.precisions:
            draft = add_judged(draft, precision, reference, chosen.calibration, say)
    elif is_run and len(chosen.judged) >= LEAST_PATIENTS:
        draft = _with_record(draft, Reference(draft, chosen.judged, len(chosen.seen)), say)
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


def _with_record(draft: Draft, reference: Reference, say: Callable[[str], None]) -> Draft:
    """The draft with the gates of FP16 and BF16 on record, so that 'verdiff export --fp16' can make their graphs.

    Nobody asked for them, so a model that does not pass has no record and its FP32 bundle is written.
    """
    for precision in ON_RECORD:
        try:
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
        measured = measure_efforts(segmenter, scans, every=every, say=say)
    slices = "all slices" if every == 1 else f"every {every} slices"
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


def _check(options: ExportOptions, is_run: bool) -> None:
    """Refuse what cannot end well before anything is computed, opened or trained on.

    Raises:
        DataError: Options that do not fit each other, a version that is none, or data that cannot be scored on.
        VerificationError: Too few scans for the gate, or INT8 with nothing to calibrate on.
        BackendError: Engines are asked for and TensorRT, or a GPU that it needs, is not there.
        OutputError: The output cannot be written.
    """
    lone = [f"--{name}" for name in ("fold", "every") if getattr(options, name) is not None]
    if lone and options.data is None:
        raise DataError(
            f"{' and '.join(lone)} without --data",
            "labelled scans, of which they say which are scored",
            f"name a data set with --data, or leave {' and '.join(lone)} out",
        )
    pinned = {"--expect-sha256": options.expect_sha256, "--trusted-key": options.trusted_key}
    if is_run and any(pinned.values()):
        given = " and ".join(name for name, value in pinned.items() if value)
        raise DataError(f"{given} with a run", "a bundle, which these pin", f"leave {given} out, or name a bundle")
    if options.engine and options.precisions and not any(map(makes_engines, options.precisions)):
        raise DataError(
            "--engine with --int8-ov alone, whose graphs are for processors",
            "graphs that TensorRT takes",
            "pass --int8-trt in place of --int8-ov, or leave --engine out",
        )
    if options.release is not None:
        _require_version(options.release)
    if options.name is not None:
        _require_name(options.name)
    if options.output is not None:
        _require_place(options.output, options)
    if options.data is not None:
        _require_data(options.data, options.fold or 0)
    if options.scans is not None:
        count = len(scans_in(options.scans))
        if options.precisions and count < LEAST_PATIENTS:
            raise VerificationError(
                f"scans of {count} patients in {options.scans}",
                f"at least {LEAST_PATIENTS}: what holds for one patient says little about the next",
                GIVE_SCANS,
            )
    elif is_run:
        require_calibration(options.precisions, ())
    if options.engine:
        _require_tensorrt()


def _require_version(release: str) -> None:
    if not re.fullmatch(VERSION, release):
        raise DataError(f"--release {release}", "a semantic version such as 1.0.0", "write the version like that")


def _require_name(name: str) -> None:
    if not re.fullmatch(MODEL_NAME, name) or name in shipped_models():
        raise DataError(
            f"--name {name}" + (", the name of a model that ships with verdiff" if name in shipped_models() else ""),
            "a name of its own: lower-case letters, digits, '.', '_' and '-'",
            "choose another name",
        )


def _require_place(output: Path, options: ExportOptions) -> None:
    """Refuse an output that could not be written in the end.

    Raises:
        OutputError: A file where a folder is to be or the other way round, a folder that is no bundle, the suffix of
            another kind of file, or a place that cannot be written.
    """
    target = Path(os.path.realpath(output))
    zipped = target.suffix == SUFFIX
    if not zipped and target.suffix.lower() in FILE_SUFFIXES:
        raise OutputError(
            f"-o {output}", f"NAME{SUFFIX} for one file, or a folder's name", f"write -o {output.with_suffix(SUFFIX)}"
        )
    if target.exists() and zipped != target.is_file():
        found, wanted = ("folder", f"a name without {SUFFIX}") if zipped else ("file", f"a name ending in {SUFFIX}")
        raise OutputError(f"a {found} at {output}", f"{wanted}, or nothing there", "choose another name, or remove it")
    # Opening it to see would look at every file below, of a whole disk perhaps.
    if target.is_dir() and any(target.iterdir()) and not (target / MANIFEST).is_file():
        raise OutputError(
            f"a folder at {output} that is not a bundle (no {MANIFEST})",
            "an older bundle, an empty folder or nothing there",
            f"choose a name in it, such as -o {output / ('model' + SUFFIX)}",
        )
    check_place(target, zipped=zipped, overwrite=options.overwrite)
    for name, read in (("card", options.card), ("weights", options.weights)):
        if read is not None and target == Path(os.path.realpath(read)):
            raise OutputError(f"-o {output} is the {name}", "another name for the bundle", "give one with -o")


def _require_data(data: Path, fold: int) -> None:
    """Refuse a data set without labelled scans of the fold."""
    ending, cases = file_ending(data), validation_cases(data / "splits_final.json", fold)
    needed = [("imagesTr", f"{name}_0000{ending}") for name in cases] + [("labelsTr", f"{n}{ending}") for n in cases]
    lacking = [f"{part}/{name}" for part, name in needed if not (data / part / name).is_file()]
    if lacking or not cases:
        raise DataError(
            f"{data} lacks {lacking[0]}" if lacking else f"{data} has no validation case in fold {fold}",
            "scan and mask of every validation case of the fold",
            "check --data and --fold",
        )


def _require_tensorrt() -> None:
    """Refuse before the export what would refuse after it."""
    from verdiff.engines import require_package
    from verdiff.engines.build.command import choose_flavour, make_target
    from verdiff.engines.library import load_library
    from verdiff.options import BuildOptions

    options = BuildOptions()
    make_target(load_library(require_package(choose_flavour(options))), options)


def _require_slices(manifest: Manifest, options: ExportOptions) -> None:
    """Refuse what is judged or measured on slices, for a model that takes volumes."""
    asked = [f"--{precision}" for precision in options.precisions]
    asked += [f"--{name}" for name in ("data", "scans") if getattr(options, name) is not None]
    asked += ["--engine"] if options.engine else []
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
            install("train"),
        )


def _of_run(path: Path, options: ExportOptions, say: Callable[[str], None]) -> tuple[Draft, Chosen]:
    require_training()
    from verdiff.export.from_run import draft_of_run

    weights = options.weights or CHECKPOINTS[0]
    draft = draft_of_run(
        path,
        card=options.card,
        half_weights=options.half_weights,
        weights=weights,
        name=options.name,
        decided=options.decide,
        say=say,
    )
    if draft.manifest.volume:
        _require_slices(draft.manifest, options)
        return draft, Chosen([])
    chosen = Chosen(slices_of_run(path, draft.manifest.multiple))
    return _with_invariances(draft, chosen, options, say), chosen


def _with_invariances(draft: Draft, chosen: Chosen, options: ExportOptions, say: Callable[[str], None]) -> Draft:
    """The draft with what changes of the scan, not of the spine, do to the mask, in the manifest's metrics."""
    from verdiff.export.invariances import measure_invariances, require_invariant

    with draft.opened() as bundle:
        record = measure_invariances(bundle, chosen.judged, say)
    if options.invariant:
        require_invariant(record)
    metrics = {**draft.manifest.metrics, "invariances": record}
    return replace(draft, manifest=replace(draft.manifest, metrics=metrics))


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
    bundle = open_bundle(resolve_model(source), trust=Trust(options.expect_sha256, options.trusted_key))
    if bundle.manifest.volume:
        _require_slices(bundle.manifest, options)
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
        "--float32-weights": not options.half_weights,
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
