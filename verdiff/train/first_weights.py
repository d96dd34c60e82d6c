"""The weights that a run begins with when they are not random: those of another run or of a bundle, or a mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from verdiff.bundle import open_bundle, resolve_model
from verdiff.bundle.put_aside import PutAside, put_aside_by_all
from verdiff.errors import DataError, VerdiffError
from verdiff.train.blending import mean_of
from verdiff.train.checkpoint import digest, load_network
from verdiff.train.config import RunConfig
from verdiff.train.data.cases import ALL, Dataset
from verdiff.train.from_bundle import weights_of_bundle
from verdiff.train.run_kind import RunKind

_CHECKPOINTS = ("best.pt", "last.pt")


def kind_from(origins: Sequence[str | Path], config: RunConfig, dataset: Dataset, fold: int = ALL) -> RunKind:
    """The kind of run that goes on from other weights, with another data set, fold or schedule.

    Args:
        origins: What has the weights; of several, their mean comes first. Each is the folder of a run or a checkpoint
            in one, whose averaged weights are meant; a bundle; or the name of a shipped model.
        config: Configuration of the run that is to begin.
        dataset: What it is trained on.
        fold: Whose cases validate. Those that the weights may have been trained on are named in the run's origin.

    Raises:
        BundleError: It is a damaged bundle.
        DataError: There are no such weights, or they are of another network or of other structures.
    """
    kinds, trainings = zip(*(_kind_from(Path(origin), config, dataset) for origin in origins), strict=True)
    kind = kinds[0]
    if len(kinds) > 1:
        weights = mean_of([kind.initial for kind in kinds if kind.initial is not None])
        kind = RunKind(initial=weights, origin={"mean_of": [dict(kind.origin) for kind in kinds]})
    aside = put_aside_by_all(trainings)
    seen = _trained_on(aside, dataset, fold)
    return replace(kind, origin={**kind.origin, "put_aside": aside, **({"trained_on": seen} if seen else {})})


def _trained_on(aside: PutAside, dataset: Dataset, fold: int) -> list[str]:
    """Validation cases of data sets that some of the weights were trained on, and that these did not put aside."""
    found = []
    for case in dataset.fold(fold)[1] if fold != ALL else ():
        data_set = case.data_set or dataset.name
        kept = aside.get(data_set)
        if kept is not None and case.name.removesuffix(f"@{data_set}") not in kept:
            found.append(case.name)
    return found


def _kind_from(path: Path, config: RunConfig, dataset: Dataset) -> tuple[RunKind, PutAside]:
    if path.suffix == ".pt" or any((path / name).is_file() for name in _CHECKPOINTS):
        return _kind_from_run(path, config, dataset)
    bundle = open_bundle(_bundle(path))
    model = f"{bundle.manifest.model_id} {bundle.manifest.version}"
    require_structures(f"--from {path.name}, {model}", tuple(label.name for label in bundle.manifest.labels), dataset)
    weights = weights_of_bundle(bundle, config, dataset)
    told = {
        "model": model,
        "manifest_sha256": bundle.manifest_sha256,
        "weights_sha256": digest(weights),
    }
    return RunKind(initial=weights, origin=told), bundle.manifest.aside


def _bundle(path: Path) -> Path:
    try:
        return resolve_model(str(path))
    except VerdiffError as error:
        raise DataError(
            f"--from {path}, which is no run with {' or '.join(_CHECKPOINTS)}, no bundle and no shipped model",
            "the folder of a training run, a bundle, or a name that 'verdiff models' lists",
            "check the path, or train without --from",
        ) from error


def _kind_from_run(run: Path, config: RunConfig, dataset: Dataset) -> tuple[RunKind, PutAside]:
    weights = next((name for name in _CHECKPOINTS if (run / name).is_file()), _CHECKPOINTS[0])
    net, checkpoint = load_network(run, weights)
    if (checkpoint.config.system, checkpoint.config.network) != (config.system, config.network):
        raise DataError(
            f"--from {run.name}, a run of {checkpoint.config.system} with another [network]",
            f"weights of {config.system} as this configuration has it",
            "train with that run's configuration, or without --from",
        )
    require_structures(f"--from {run.name}", checkpoint.facts.labels, dataset)
    initial = net.state_dict()
    told = {
        "data_set": checkpoint.facts.dataset,
        "fold": checkpoint.facts.fold,
        "iteration": checkpoint.iteration,
        "weights_sha256": digest(initial),
    }
    return RunKind(initial=initial, origin=told), checkpoint.facts.aside


def require_structures(name: str, known: tuple[str, ...], dataset: Dataset) -> None:
    """Refuse weights whose channels are other structures than the data's, or the same ones in another order."""
    if known != dataset.labels:
        raise DataError(
            f"{name}, which knows {', '.join(known)}",
            f"the structures of the data, in their order: {', '.join(dataset.labels)}",
            "name data sets of these structures, or train without --from",
        )
