"""DICOM out: masks as segmentation objects and RT structure sets that refer to the images they are of.

Wants the extra ``[dicom]``; reading DICOM does not (:mod:`verdiff.imaging`). docs/dicom.md is the guide.
"""

from verdiff.interop.dicom.files import DicomFiles, check_dicom, dicom_files, write_dicom
from verdiff.interop.dicom.mask import Mask, mask_of
from verdiff.interop.dicom.rtstruct import structure_set_of
from verdiff.interop.dicom.segmentation import segmentation_of, uncertainty_of
from verdiff.interop.dicom.sources import Source, source_of

__all__ = [
    "DicomFiles",
    "Mask",
    "Source",
    "check_dicom",
    "dicom_files",
    "mask_of",
    "segmentation_of",
    "source_of",
    "structure_set_of",
    "uncertainty_of",
    "write_dicom",
]
