"""What an export refuses before anything is computed, opened or trained on."""

from __future__ import annotations

import os
import re
from pathlib import Path

from verdiff.bundle import MANIFEST, Manifest
from verdiff.bundle.names import SUFFIX, shipped_models
from verdiff.bundle.packing import check_place
from verdiff.choices import MODEL_NAME, VERSION
from verdiff.errors import BackendError, DataError, OutputError, VerificationError
from verdiff.evaluate.cases import validation_cases
from verdiff.evaluate.fold import file_ending
from verdiff.export.converting import GIVE_SCANS, require_calibration
from verdiff.export.precision.gate import LEAST_PATIENTS
from verdiff.export.slices import scans_in
from verdiff.extras import install
from verdiff.options import ExportOptions
from verdiff.precisions import makes_engines

# A bundle that is not one file is a folder, which nobody means to call by the suffix of a file.
FILE_SUFFIXES = (".json", ".onnx", ".zip", ".pt", ".pth", ".plan", ".engine", ".gz", ".tar", ".npz")


def check_options(options: ExportOptions, is_run: bool) -> None:
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
    pinned = {"--expect-sha256": options.sha256, "--trusted-key": options.trusted_key}
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
        require_place(options.output, options)
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


def require_place(output: Path, options: ExportOptions) -> None:
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


def require_slices(manifest: Manifest, options: ExportOptions) -> None:
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
