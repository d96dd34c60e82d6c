"""A mask on its way to DICOM: its voxels, what they are called, what made them, and whose they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from verdiff.errors import InputError
from verdiff.imaging import Volume
from verdiff.imaging.identity import Identity
from verdiff.imaging.terms import Structure, structures

if TYPE_CHECKING:
    from verdiff.runtime import Segmentation

MANUFACTURER = "verdiff"


@dataclass(frozen=True)
class Mask:
    """What DICOM objects are made of.

    Attributes:
        labels: Label ids, uint8 [z, y, x] in the grid of ``scan``.
        scan: Read from DICOM.
        structures: The foreground, in the order of the model's channels.
        model: ``id``, ``version`` and ``manifest_sha256`` of the model.
        settings: What was computed, in words a reader of the object can use to make it again.
        uncertainty: 0 sure to 255, uint8 [z, y, x]; None where it was not asked for.
    """

    labels: NDArray[np.uint8]
    scan: Volume
    structures: tuple[Structure, ...]
    model: Mapping[str, Any]
    settings: Mapping[str, str]
    uncertainty: NDArray[np.uint8] | None = None

    @property
    def identity(self) -> Identity:
        """Whose mask it is."""
        assert self.scan.identity is not None
        return self.scan.identity


def mask_of(result: Segmentation, scan: Volume, *, uncertainty: bool = False) -> Mask:
    """The mask of a segmentation.

    Args:
        result: Result of ``scan``.
        scan: Read from DICOM.
        uncertainty: Whether the uncertainty map is wanted too.

    Raises:
        InputError: See :func:`require_source`.
    """
    require_source(scan)
    return Mask(
        result.labels,
        scan,
        structures(result.label_table),
        result.provenance["model"],
        settings_of(result.provenance),
        result.uncertainty if uncertainty else None,
    )


def settings_of(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Sampling, device and outcome of a result, as short texts."""
    sampling, backend = provenance["sampling"], provenance["backend"]
    chosen = {key: sampling[key] for key in ("sampler", "steps", "samples", "seed", "policy") if key in sampling}
    return {
        **{key: str(value) for key, value in chosen.items()},
        "backend": f"{backend['name']} {backend['version']}",
        "precision": str(backend["precision"]),
        "outcome": str(provenance["outcome"]),
        **({"forced": "yes"} if provenance["forced"] else {}),
    }


def require_source(scan: Volume) -> None:
    """Refuse a scan that DICOM objects cannot refer to, before anything is computed.

    Raises:
        InputError: It was not read from DICOM, or its files state no UIDs.
    """
    identity = scan.identity
    name = str(scan.source or "the scan")
    if identity is None:
        raise InputError(
            f"{name} is no DICOM scan, so a DICOM object would have no patient, study or images to refer to",
            "a DICOM series (a folder, a zip or a file)",
            "pass the DICOM series itself, or write the mask as .nii.gz, .nrrd or .seg.nrrd",
        )
    blank = [
        what
        for what, value in (
            ("Study Instance UID", identity.study),
            ("Series Instance UID", identity.series),
            ("SOP Class UID", all(each.sop_class for each in identity.slices)),
            ("SOP Instance UID", all(each.sop_instance for each in identity.slices)),
        )
        if not value
    ]
    if blank:
        raise InputError(
            f"{name} states no {' and no '.join(blank)}, so nothing can refer to its images",
            "a DICOM series with its UIDs",
            "export it again from the PACS, or write the mask as .nii.gz, .nrrd or .seg.nrrd",
        )
