"""Masks as DICOM segmentation objects (PS3.3, A.51), and the uncertainty as a fractional one."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verdiff import __version__
from verdiff.errors import InputError
from verdiff.imaging.terms import Structure
from verdiff.interop.dicom.libraries import library
from verdiff.interop.dicom.mask import MANUFACTURER, Mask
from verdiff.interop.dicom.sources import Source

BINARY, LABELMAP = "BINARY", "LABELMAP"
# CID 7150: Segmentation Property Categories, and the whole that an uncertainty map is of.
_ANATOMY = ("91723000", "SCT", "Anatomical Structure")
_SPINE = Structure(1, "uncertainty", "SCT", "421060004", "Vertebral column", (255, 120, 60))
_SERIES_NUMBER = 9900
_LONGEST_PARAMETERS = 1024


def segmentation_of(mask: Mask, source: Source, kind: str = BINARY) -> Any:
    """The mask as a data set: one segment a structure, numbered from 1 in the model's order.

    Args:
        mask: Mask of the scan.
        source: Its stored images.
        kind: ``"BINARY"``, or ``"LABELMAP"`` (DICOM 2024d), which most receivers do not know yet.

    Returns:
        A pydicom data set with its file meta information.

    Raises:
        InputError: The headers of the images hold what such an object cannot.
    """
    numbers = np.zeros(256, np.uint8)
    for index, structure in enumerate(mask.structures):
        numbers[structure.label] = index + 1
    description = f"Mask by {mask.model['id']} {mask.model['version']}"
    return _object(mask, source, numbers[mask.labels], mask.structures, kind, description)


def uncertainty_of(mask: Mask, source: Source) -> Any:
    """The uncertainty as a fractional segmentation: 0 sure to 255, the entropy of the classes.

    Args:
        mask: Mask, with its uncertainty.
        source: The stored images of its scan.
    """
    assert mask.uncertainty is not None
    fractions = (mask.uncertainty.astype(np.float32) / np.float32(255))[..., None]
    description = f"Uncertainty of {mask.model['id']} {mask.model['version']}"
    return _object(mask, source, fractions, (_SPINE,), "FRACTIONAL", description)


def _object(
    mask: Mask, source: Source, array: NDArray[Any], structures: tuple[Structure, ...], kind: str, description: str
) -> Any:
    seg, highdicom = library("highdicom.seg"), library("highdicom")
    place: dict[str, Any] = {}
    if source.frames:
        order = np.argsort(source.frames)
        array = array[order]
        if len(order) < int(source.headers[0].NumberOfFrames):
            place = {"plane_positions": [_position(source, source.frames[index]) for index in order]}
    with warnings.catch_warnings(), _refused(mask):
        # An empty mask is a named outcome; highdicom says that it writes every frame of one.
        warnings.simplefilter("ignore")
        return seg.Segmentation(
            source_images=list(source.headers),
            pixel_array=array,
            segmentation_type=kind,
            segment_descriptions=[
                _described(structure, index + 1, mask, highdicom) for index, structure in enumerate(structures)
            ],
            series_instance_uid=highdicom.UID(),
            series_number=_SERIES_NUMBER,
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=str(mask.model["id"])[:64],
            software_versions=(f"verdiff {__version__}", f"{mask.model['id']} {mask.model['version']}"[:64]),
            device_serial_number=str(mask.model["manifest_sha256"])[:64],
            content_description=description[:64],
            content_label="UNCERTAINTY" if kind == "FRACTIONAL" else "SEGMENTATION",
            series_description=description[:64],
            **place,
        )


@contextmanager
def _refused(mask: Mask) -> Iterator[None]:
    """Say of headers that highdicom does not take that they are the input; its own words may quote the patient."""
    try:
        yield
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(
            f"the headers of {mask.scan.source} hold what cannot be copied into a segmentation object "
            f"({type(error).__name__})",
            "headers that keep to the DICOM standard",
            "export the series again from the PACS, or write the mask as .nii.gz or .seg.nrrd",
        ) from error


def _position(source: Source, number: int) -> Any:
    group = source.headers[0].PerFrameFunctionalGroupsSequence[number - 1].PlanePositionSequence
    return library("highdicom").PlanePositionSequence.from_sequence(group)


def _described(structure: Structure, number: int, mask: Mask, highdicom: Any) -> Any:
    code, seg = library("pydicom.sr.coding").Code, library("highdicom.seg")
    settings = {"sha256": str(mask.model["manifest_sha256"]), **mask.settings}
    parameters: dict[str, str] = {}
    for key, value in settings.items():
        # One text of the standard's type LT.
        if len(",".join(f"{k}={v}" for k, v in {**parameters, key: value}.items())) <= _LONGEST_PARAMETERS:
            parameters[key] = value
    return seg.SegmentDescription(
        segment_number=number,
        segment_label=structure.name[:64],
        segmented_property_category=code(*_ANATOMY),
        segmented_property_type=code(structure.code, structure.scheme, structure.meaning[:64]),
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=str(mask.model["id"])[:64],
            family=code("123110", "DCM", "Artificial Intelligence"),
            version=str(mask.model["version"])[:64],
            source=MANUFACTURER,
            parameters=parameters,
        ),
        tracking_uid=highdicom.UID(),
        tracking_id=structure.name[:64],
        display_color=highdicom.color.CIELabColor.from_rgb(*structure.colour),
    )
