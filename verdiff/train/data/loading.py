"""The data of a run: one data set as it is, or several joined."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from verdiff.progress import tracked
from verdiff.train.config import DataConfig
from verdiff.train.data.cases import INDEX, Dataset
from verdiff.train.data.joining import TrainingSource, join, with_patients
from verdiff.train.data.nnunet import load_dataset, look_at_raw


def load_sources(
    sources: Sequence[TrainingSource],
    config: DataConfig,
    *,
    patients: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Dataset:
    """Raw data sets or caches, prepared and, where there are several, joined.

    Args:
        sources: Where they are, and how often their patients are drawn.
        config: How slices are prepared.
        patients: Pattern of a patient within a case's name. Folds are then made anew where a data set brings none.
        progress: Called with each case that is prepared.

    Raises:
        DataError: What :func:`~verdiff.train.data.nnunet.load_dataset` and :func:`~verdiff.train.data.joining.join`
            raise.
    """
    loaded = [(load_dataset(source.folder, config, progress), source.weight) for source in tracked(sources)]
    if len(loaded) > 1:
        return join(loaded, patients=patients)
    dataset = loaded[0][0]
    if patients is None:
        return dataset
    named = with_patients(dataset, patients)
    if named.stated_splits:
        return named
    return named.refolded(max(2, min(len(named.splits), len(set(named.patients.values())))))


def look_at_sources(sources: Sequence[TrainingSource]) -> None:
    """Check of raw data sets what needs no image, before they are read for long; caches are read at once later.

    Raises:
        DataError: See :func:`~verdiff.train.data.nnunet.look_at_raw`.
    """
    for source in sources:
        if not (source.folder / INDEX).is_file():
            look_at_raw(source.folder)
