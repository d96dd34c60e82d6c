"""CTSpine1K: spine CT from four public collections, every vertebra its own id (Deng et al. 2021, arXiv 2105.14711).

The volumes and the masks are separate downloads that lie in folders of the same names, one a collection (the
Verdiff-Net paper takes 42 volumes of the folder ``verse``, section 3.1). A mask is called as its volume, with ``_seg``
added: ``liver_0.nii.gz`` and ``liver_0_seg.nii.gz``. Releases differ in what the folders are called (``COLONOG`` or
``colon``, ``rawdata/volumes`` or ``data``), so names decide. Ids from the head down: 1-7 C1-C7, 8-19 T1-T12, 20-24
L1-L5, 25 L6.

Names as the authors' ``data_split.txt`` lists them: ``1.3.6.1.4.1.9328.50.4.0001`` and ``CTC-1018399231`` (COLONOG),
``HN_P001``, ``liver_0``, ``volume-covid19-A-0202_0_ct``. It lists none of VerSe; public code reads ``verse532``,
``verse506_CT-iso`` and, of a patient with several series, ``verse401_verse201_CT-iso``. VerSe and COVID-19 names begin
with the patient's, which folds keep together. Of the others each volume counts as one patient: COLONOG has one of a
patient by the authors' words, HNSCC is numbered by patient, and the liver names do not say.
"""

from __future__ import annotations

import re
from pathlib import Path

from verdiff.train.data.convert.conversion import (
    Conversion,
    Converter,
    ConvertOptions,
    SourceCase,
    nothing_found,
    safe_name,
    stems,
    within,
)
from verdiff.train.data.convert.levels import CT_LEVELS

LAYOUT = "STEM.nii.gz and STEM_seg.nii.gz, in any folders"
_MASK_ENDING = "_seg.nii.gz"
# The part of a name that says whose scan it is, where patients may have several.
_PATIENT = re.compile(r"sub-[A-Za-z0-9]+|verse\d+|volume-covid19-A-\d+")


def find(source: Path, options: ConvertOptions) -> Conversion:
    """The volumes of a download; with ``subset`` those below folders of that name.

    Raises:
        DataError: Neither volumes nor masks, or two files of one name.
    """
    files = within(source, "*.nii.gz", options.subset)
    masks = stems((path for path in files if path.name.endswith(_MASK_ENDING)), _MASK_ENDING)
    images = stems((path for path in files if not path.name.endswith(_MASK_ENDING)), ".nii.gz")
    if not masks and not images:
        raise nothing_found(source, LAYOUT)
    cases = []
    for stem in sorted(set(masks) | set(images)):
        patient = _PATIENT.match(stem)
        name = safe_name(stem)
        cases.append(SourceCase(name, patient[0] if patient else name, images.get(stem), masks.get(stem)))
    # T13 is VerSe's alone; here an id of 28 would be a mistake.
    meanings = {value: meaning for value, meaning in CT_LEVELS.items() if meaning.level != "T13"}
    return Conversion(channel="CT", ending=".nii.gz", meanings=meanings, cases=tuple(cases))


CTSPINE1K = Converter(
    name="ctspine1k",
    title="CTSpine1K: spine CT of four public collections",
    source="Deng et al. 2021, arXiv 2105.14711; github.com/MIRACLE-Center/CTSpine1K",
    licence="not verified: a public copy says CC BY-NC-SA; each collection of volumes has its own terms",
    find=find,
    options=frozenset({"labels", "subset"}),
)
