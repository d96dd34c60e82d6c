"""What a case of ``verdiff bench`` reads, looked at before anything is timed: a wrong path costs no minutes."""

from __future__ import annotations

from pathlib import Path

from verdiff.benchmarks.cases import Options
from verdiff.bundle import Bundle, Manifest, Trust, open_bundle, resolve_model
from verdiff.errors import DataError
from verdiff.evaluate.cases import check_same_grid, validation_cases
from verdiff.imaging import SlicePlan, Volume, plan_slices, read_labels, read_volume
from verdiff.nvidia import require_gpu
from verdiff.runtime.suitability import require_suitable, unsuitable_reasons

WITH_DENOISER = ("denoiser-step", "gpu")
OF_ONE_SCAN = ("volume", "startup")
_WEIGHTS = "best.pt"


def require_inputs(case: str, options: Options, trust: Trust) -> None:
    """Refuse what a case could not use.

    Args:
        case: A key of :data:`verdiff.benchmarks.cases.CASES`.
        options: What it is run with.
        trust: Which bundle the model must be.

    Raises:
        BundleError: The model cannot be opened, or is not the one that is trusted.
        InputError: A scan or a mask cannot be read.
        UnsuitableScanError: The scan is not what the model was trained on.
        DataError: The model has no denoiser to time, the reference is on another grid, or there is no such fold or run.
        BackendError: There is no such GPU.
    """
    bundle = open_bundle(resolve_model(options.bundle), trust=trust)
    if case in WITH_DENOISER:
        require_denoiser(bundle)
    if case == "gpu":
        require_gpu(options.device)
    if options.training_run is not None and not (options.training_run / _WEIGHTS).is_file():
        raise DataError(
            f"{options.training_run} has no {_WEIGHTS}", "the folder of the run behind the bundle", "check --run"
        )
    if options.data is not None:
        _require_fold(options.data, options.fold)
    if case in OF_ONE_SCAN and options.scan is not None:
        volume, _ = suitable_scan(options.scan, bundle.manifest)
        if options.reference is not None:
            truth = read_labels(options.reference)
            grids = (options.reference, truth.geometry), (options.scan, volume.geometry)
            check_same_grid(options.scan.name, *grids)


def require_denoiser(bundle: Bundle) -> None:
    """Refuse a model whose denoiser cannot be timed, having none.

    Raises:
        DataError: It has none.
    """
    if not bundle.has("denoiser"):
        raise DataError(
            f"{bundle.manifest.model_id} has no denoiser", "a diffusion model", "time the case 'volume' instead"
        )


def suitable_scan(scan: Path, manifest: Manifest) -> tuple[Volume, SlicePlan]:
    """A scan and the model's slices of it.

    Raises:
        InputError, UnsuitableScanError: What a call would raise, before a clock starts.
    """
    volume = read_volume(scan)
    plan = plan_slices(
        volume.geometry,
        view=manifest.view,  # type: ignore[arg-type]
        spacing_mm=manifest.spacing_mm,
        multiple=manifest.multiple,
    )
    require_suitable(unsuitable_reasons(volume, manifest, plan), manifest, force=False)
    return volume, plan


def _require_fold(data: Path, fold: int) -> None:
    for name in validation_cases(data / "splits_final.json", fold):
        if not any((data / "imagesTr").glob(f"{name}_0000.*")):
            raise DataError(
                f"{data.name} has no imagesTr/{name}_0000, of its fold {fold}", "every scan of the fold", "check --data"
            )
