"""CTSpine1K: spine CT from four public collections, every vertebra its own id (Deng et al. 2021, arXiv 2105.14711).

The volumes and the masks are separate downloads that lie in folders of the same names (``COLONOG``, ``COVID-19``,
``HNSCC-3DCT-RT``, ``MSD-T10``; the Verdiff-Net paper takes 42 volumes of the folder ``verse``, section 3.1).
A mask is called as its volume, with ``_seg`` added: ``liver_0.nii.gz`` and ``liver_0_seg.nii.gz``. Releases differ in
what the folders above them are called, so names decide. Ids from the head down: 1-7 C1-C7, 8-19 T1-T12, 20-24 L1-L5,
25 L6. File names do not say whose scan it is, BIDS ones (``sub-``) apart: each other volume counts as one patient.
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
_SUBJECT = re.compile(r"sub-([A-Za-z0-9]+)")


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
        subject = _SUBJECT.search(stem)
        name = safe_name(stem)
        cases.append(SourceCase(name, subject[0] if subject else name, images.get(stem), masks.get(stem)))
    # T13 is VerSe's alone; here an id of 28 would be a mistake.
    meanings = {value: meaning for value, meaning in CT_LEVELS.items() if meaning.level != "T13"}
    return Conversion(channel="CT", ending=".nii.gz", meanings=meanings, cases=tuple(cases))


CTSPINE1K = Converter(
    name="ctspine1k",
    title="CTSpine1K: spine CT of four public collections",
    source="Deng et al. 2021, arXiv 2105.14711; github.com/MIRACLE-Center/CTSpine1K",
    licence="not verified: the masks' and each collection's own terms",
    find=find,
    options=frozenset({"labels", "subset"}),
)
