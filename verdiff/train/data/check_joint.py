"""``verdiff data check`` of several data sets: each by itself, and what is wrong with training on all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from verdiff.errors import DataError
from verdiff.progress import tracked
from verdiff.train.data.cases import CaseSlices, Dataset
from verdiff.train.data.check import DataReport, Inspection, Seen, inspect, twin_findings
from verdiff.train.data.findings import Finding
from verdiff.train.data.joining import join
from verdiff.train.data.splits import fold_findings, never_validated

_NOTHING = np.zeros((0, 0, 0), np.uint8)


def check_together(
    folders: Sequence[Path],
    *,
    patients: str | None = None,
    orientation: str | None = None,
) -> list[DataReport]:
    """A report of each data set, and one of all together.

    The last one says which structures and patients they have in common, what training on all of them would refuse, and
    whether one scan stands in two of them.

    Args:
        folders: Raw data sets.
        patients: Pattern of a patient within a case's name, as ``verdiff train`` takes it.
        orientation: What to take where a file leaves its orientation open, as :func:`verdiff.imaging.read_volume`.

    Raises:
        DataError: There is no such folder.
    """
    found = [inspect(folder, orientation=orientation) for folder in tracked(folders)]
    return [*(each.report for each in found), _together(found, patients)]


def _together(found: Sequence[Inspection], patients: str | None) -> DataReport:
    name = " + ".join(each.report.name for each in found)
    bare = next((each.report.name for each in found if not each.seen), None)
    if bare is not None:
        finding = Finding(None, f"{bare} cannot be joined", "data sets without errors", "mend it first")
        return DataReport(name, 0, 0, {}, {}, 0, (finding,))
    try:
        joint = join([(_outline(each), 1.0) for each in found], patients=patients)
    except DataError as error:
        return DataReport(name, 0, 0, {}, {}, 0, (Finding(None, error.found, error.expected, error.remedy),))
    seen = _seen(joint, found)
    findings = [
        *(
            each
            for number, split in enumerate(joint.splits)
            for each in fold_findings(number, split, seen, joint.patients)
        ),
        *twin_findings(joint.splits, seen, joint.patients),
        *never_validated(joint.splits, seen),
        *_unlabelled(joint),
    ]
    return DataReport(
        name,
        len(joint.cases),
        len(set(joint.patients.values())),
        dict(zip(joint.labels, joint.label_ids, strict=True)),
        {label: sum(k not in case.unknown for case in joint.cases) for k, label in enumerate(joint.labels)},
        len(joint.splits),
        tuple(sorted(findings, key=lambda finding: not finding.fatal)),
    )


def _outline(each: Inspection) -> Dataset:
    """A data set without its voxels: what joining it needs."""
    report = each.report
    cases = tuple(CaseSlices(name, _NOTHING, _NOTHING, (1.0, 1.0, 1.0)) for name in each.seen)
    labels = report.labels
    return Dataset(
        report.name,
        tuple(labels),
        tuple(labels.values()),
        cases,
        each.splits,
        {},
        {},
        each.patients,
        each.stated_splits,
    )


def _seen(joint: Dataset, found: Sequence[Inspection]) -> dict[str, Seen]:
    by_set = {each.report.name: each.seen for each in found}
    return {case.name: by_set[case.data_set][case.name.removesuffix(f"@{case.data_set}")] for case in joint.cases}


def _unlabelled(joint: Dataset) -> list[Finding]:
    """Structures that some data sets do not label: nothing wrong, and worth knowing."""
    return [
        Finding(
            None,
            f"{name} does not label {', '.join(sorted(set(joint.labels) - set(part['structures'])))}",
            "the same structures in all data sets, or structures that are unknown in some",
            "nothing: they are neither learned nor scored on its cases",
            fatal=False,
        )
        for name, part in joint.parts([]).items()
        if len(part["structures"]) < len(joint.labels)
    ]
