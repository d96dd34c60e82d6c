"""MRSpineSeg: T2 lumbar MR of the second CSIG challenge (SAFNet's data set; Pang et al., IEEE TMI 2021).

The training part holds ``train/MR/CaseN.nii.gz`` and ``train/Mask/mask_caseN.nii.gz``; the challenge's test images
come without masks, in a folder whose name begins with ``test``. Ids: 1 the sacrum; 2-10 L5 up to T9; 11-19 the disc
under each of these (11 is L5/S1). Capitals in the names differ between copies and do not matter.
"""

from __future__ import annotations

import re
from pathlib import Path

from verdiff.errors import DataError
from verdiff.train.data.convert.conversion import (
    Conversion,
    Converter,
    ConvertOptions,
    SourceCase,
    nothing_found,
    within,
)
from verdiff.train.data.convert.levels import SACRUM, LabelMeaning, disc_below, from_below, vertebra

_VERTEBRAE = 9
MEANINGS: dict[int, LabelMeaning] = {
    1: SACRUM,
    **{1 + number: vertebra(from_below(number)) for number in range(1, _VERTEBRAE + 1)},
    **{10 + number: disc_below(from_below(number)) for number in range(1, _VERTEBRAE + 1)},
}
LAYOUT = "CaseN.nii.gz and mask_caseN.nii.gz, in any folders"
_NAME = re.compile(r"(mask_)?case_?(\d+)\.nii\.gz", re.IGNORECASE)


def find(source: Path, options: ConvertOptions) -> Conversion:
    """The training cases; test images without masks are left out, which the record's notes say.

    Raises:
        DataError: No case, or two files of one case.
    """
    del options
    images: dict[int, Path] = {}
    masks: dict[int, Path] = {}
    tests = 0
    for path in within(source, "*.nii.gz", None):
        match = _NAME.fullmatch(path.name)
        if match is None:
            continue
        if any(part.lower().startswith("test") for part in path.relative_to(source).parts[:-1]):
            tests += 1
            continue
        side = masks if match[1] else images
        other = side.setdefault(int(match[2]), path)
        if other != path:
            raise DataError(
                f"{other.parent.name}/{other.name} and {path.parent.name}/{path.name}",
                "each case once",
                "convert one copy of the download at a time",
            )
    if not images and not masks:
        raise nothing_found(source, LAYOUT)
    cases = tuple(
        SourceCase(f"mrspineseg{number:03d}", f"mrspineseg{number:03d}", images.get(number), masks.get(number))
        for number in sorted(set(images) | set(masks))
    )
    notes = (f"test folders hold {tests} files that are not part of this data set",) if tests else ()
    return Conversion(channel="T2", ending=".nii.gz", meanings=MEANINGS, cases=cases, notes=notes)


MRSPINESEG = Converter(
    name="mrspineseg",
    title="MRSpineSeg: T2 lumbar MR, sacrum to T9",
    source="Pang et al., IEEE Transactions on Medical Imaging 2021; spinesegmentation-challenge.com",
    licence="not verified: the challenge's terms",
    find=find,
)
