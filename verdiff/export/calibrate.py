"""What ``verdiff calibrate`` does: a bundle and labelled patients in, the same bundle with margins out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from verdiff.bundle import Manifest, Trust, open_bundle, resolve_model
from verdiff.bundle.margins import SHARE, rank_of
from verdiff.bundle.names import SUFFIX
from verdiff.bundle.packing import check_place
from verdiff.errors import DataError
from verdiff.evaluate.cases import validation_cases
from verdiff.evaluate.fold import scans_of
from verdiff.evaluate.labels import label_table
from verdiff.export.draft import Draft
from verdiff.export.margins import (
    LEAST_PATIENTS,
    cross_fitted,
    margins_record,
    measure_margins,
    report,
    summary,
)
from verdiff.files import plan_files
from verdiff.options import CalibrateOptions, LoadOptions
from verdiff.rehearsal import is_rehearsal, rehearse
from verdiff.runtime import Segmenter
from verdiff.settings import part_of
from verdiff.train.data.layout import patients_of, read_description


def run(
    data: Path,
    fold: int,
    output: Path,
    options: CalibrateOptions,
    *,
    say: Callable[[str], None],
) -> Path:
    """Calibrate a model on the validation cases of a fold, and return where the new bundle lies.

    Args:
        data: An nnU-Net raw data set with scans and masks.
        fold: Fold of the data set.
        output: The bundle: ``NAME.verdiff`` is one file, else a folder.
        options: The model, how its masks are made, and what is promised.
        say: Takes each line.

    Raises:
        DataError: The data set cannot be used, has too few patients, or the model was trained on them.
        InputError: The patients cannot promise what is asked for, or a scan cannot be read.
        BundleError: The bundle cannot be opened, or is not the one that is trusted.
        OutputError: The output cannot be written.
    """
    path = resolve_model(options.model)
    bundle = open_bundle(path, trust=Trust(options.sha256, options.trusted_key))
    manifest = bundle.manifest
    cohort = _cohort(manifest, data, fold)
    if options.probability is not None:
        rank_of(cohort.count, options.probability)
    check_place(output.absolute(), zipped=output.suffix == SUFFIX, overwrite=options.overwrite)
    plan = None
    if options.report is not None:
        plan = plan_files({"report": options.report}, inputs={"model": path}, overwrite=options.overwrite)
    # The bundle that was looked at, and no other that took its place meanwhile.
    loading = partial(Segmenter.load, **part_of(replace(options, sha256=bundle.manifest_sha256), LoadOptions))
    if is_rehearsal():
        loading().close()
    rehearse(
        {"model": f"{path} ({manifest.model_id} {manifest.version})", "data set": data},
        [f"segment {len(cohort.cases)} scans of {cohort.count} patients and measure {', '.join(cohort.labels)}"],
        [output, *([] if options.report is None else [options.report])],
    )
    draft = Draft.of(bundle)
    with loading() as segmenter:
        calibrated = measure_margins(
            segmenter,
            scans_of(data, cohort.cases, modality=manifest.modality),
            cohort.labels,
            patients=cohort.patients,
            options=options,
            say=say,
        )
        where = {
            "data": f"{data.name}, {len(cohort.cases)} validation cases of fold {fold}",
            "backend": f"{segmenter.backend.name}, {segmenter.backend.precision}",
        }
    record = margins_record(calibrated, probability=options.probability, where=where)
    for line in summary(record, cross_fitted(calibrated, SHARE)):
        say(line)
    draft.with_margins(record).write(output, overwrite=options.overwrite)
    say(f"wrote {output}")
    if plan is not None and options.report is not None:
        about = {"model": f"{manifest.model_id} {manifest.version}", "manifest_sha256": bundle.manifest_sha256, **where}
        with plan.staged() as staged:
            text = json.dumps({**about, **report(calibrated, record)}, indent=1, allow_nan=False)
            staged[options.report].write_text(text + "\n", "utf-8")
        say(f"wrote {options.report}")
    return output


@dataclass(frozen=True)
class Cohort:
    """The labelled patients that a model is calibrated on.

    Attributes:
        cases: Names of their scans.
        patients: Whose each scan is.
        labels: Ids in their masks of the structures that the model finds.
    """

    cases: list[str]
    patients: Mapping[str, str]
    labels: Mapping[str, int]

    @property
    def count(self) -> int:
        """How many patients there are."""
        return len(set(self.patients.values()))


def _cohort(manifest: Manifest, data: Path, fold: int) -> Cohort:
    """The validation cases of a fold. Raises DataError where they cannot tell how patients differ."""
    cases = _cases(manifest, data, fold)
    labels = {name: number for name, number in label_table(None, data).items() if name in manifest.label_ids}
    if not labels:
        raise DataError(
            f"{data.name} labels none of {', '.join(manifest.label_ids)}",
            "a structure that the model finds",
            "choose a data set with masks of the model's structures",
        )
    cohort = Cohort(cases, patients_of(read_description(data), cases), labels)
    if cohort.count < LEAST_PATIENTS:
        raise DataError(
            f"{cohort.count} patients in fold {fold} of {data.name}",
            f"at least {LEAST_PATIENTS}: margins are a matter of how patients differ",
            "choose a fold with more patients",
        )
    return cohort


def _cases(manifest: Manifest, data: Path, fold: int) -> list[str]:
    """The validation cases of a fold, none of which the model was trained on."""
    if manifest.view == "film":
        raise DataError(
            f"{manifest.model_id}, a model of films", "a model of volumes: a film has no depth", "choose one"
        )
    cases = validation_cases(data / "splits_final.json", fold)
    name = data.absolute().name
    if trained := manifest.trained_on(name, cases):
        some = ", ".join(trained[:5]) + (", ..." if len(trained) > 5 else "")
        raise DataError(
            f"{manifest.model_id} was trained on {some}",
            "patients that it has not seen: margins from others would promise too much",
            f"choose the fold that its training put aside ({', '.join(manifest.put_aside(name) or ()) or 'none'})",
        )
    return cases
