"""Scans, headers and DICOM files made on the spot, right ones and wrong ones."""

from __future__ import annotations

import gzip
import itertools
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from hypothesis import strategies as st
from numpy.typing import NDArray

from verdiff.imaging import Geometry, Volume

ORIENTATIONS = [
    tuple(float(value) for value in (np.eye(3)[list(axes)] * np.array(signs)).ravel())
    for axes in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]
"""The 48 ways in which voxel axes can run along the patient's."""


def textured(shape: tuple[int, ...], seed: int = 0, dtype: str = "int16") -> NDArray[Any]:
    """Noise with a gradient: no two planes alike."""
    values = np.random.default_rng(seed).integers(0, 120, shape) + np.arange(shape[-1])
    return values.astype(dtype)


def rotation(angles: tuple[float, float, float]) -> NDArray[np.float64]:
    """A rotation about x, then y, then z, in radians."""
    result = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        first, second = [other for other in range(3) if other != axis]
        turn[first, first] = turn[second, second] = math.cos(angle)
        turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
        result = turn @ result
    return result


def directions() -> st.SearchStrategy[tuple[float, ...]]:
    """Any of the 48 orientations, as it is or turned obliquely by up to 40 degrees about each axis."""
    angle = st.floats(-0.7, 0.7)
    angles = st.one_of(st.just((0.0, 0.0, 0.0)), st.tuples(angle, angle, angle))
    return st.builds(
        lambda base, turn: tuple((rotation(turn) @ np.reshape(base, (3, 3))).ravel().tolist()),
        st.sampled_from(ORIENTATIONS),
        angles,
    )


def geometries(largest: int = 9) -> st.SearchStrategy[Geometry]:
    """Small grids of any orientation, spacing and place."""
    spacing = st.floats(0.2, 5.0)
    origin = st.floats(-300.0, 300.0)
    length = st.integers(2, largest)
    return st.builds(
        Geometry,
        st.tuples(length, length, length),
        st.tuples(spacing, spacing, spacing),
        st.tuples(origin, origin, origin),
        directions(),
    )


def volume(shape: tuple[int, int, int] = (4, 6, 5), **geometry: Any) -> Volume:
    """A textured volume [z, y, x] in a grid of its own."""
    spacing = geometry.pop("spacing_mm", (0.5, 0.75, 3.0))
    return Volume(textured(shape), Geometry(shape[::-1], spacing, **geometry))


def nifti_bytes(array: NDArray[Any], order: str = "<", **fields: Any) -> bytes:
    """A NIfTI-1 file packed by hand: little or big endian, with any qform and sform.

    Fields: dim, pixdim (seven), quaternion (b, c, d), qoffset, srow (twelve), codes (qform, sform), slope, intercept,
    units, datatype.
    """
    codes = {"uint8": (2, 8), "int16": (4, 16), "float32": (16, 32), "float64": (64, 64)}
    datatype, bits = fields.get("datatype") or codes[array.dtype.name]
    dim = fields.get("dim", (3, *array.shape[::-1], 1, 1, 1, 1))
    pixdim = fields.get("pixdim", (1.0, 0.5, 0.75, 3.0, 0, 0, 0, 0))
    header = bytearray(352)

    def put(offset: int, layout: str, *values: Any) -> None:
        struct.pack_into(order + layout, header, offset, *values)

    put(0, "i", 348)
    put(40, "8h", *dim)
    put(70, "2h", datatype, bits)
    put(76, "8f", *pixdim)
    put(108, "3f", 352.0, fields.get("slope", 1.0), fields.get("intercept", 0.0))
    put(123, "B", fields.get("units", 2))
    put(148, "80s24s", b"made by hand", b"elsewhere")
    put(252, "2h", *fields.get("codes", (1, 1)))
    put(256, "3f", *fields.get("quaternion", (0.0, 0.0, 0.0)))
    put(268, "3f", *fields.get("qoffset", (7.0, -8.0, 9.0)))
    put(280, "12f", *fields.get("srow", (pixdim[1], 0, 0, 7, 0, pixdim[2], 0, -8, 0, 0, pixdim[3], 9)))
    put(344, "4s", b"n+1\0")
    return bytes(header) + array.astype(array.dtype.newbyteorder(order)).tobytes()


def save_nifti(path: Path, array: NDArray[Any], order: str = "<", **fields: Any) -> Path:
    """Write `nifti_bytes`, compressed where the name says so."""
    data = nifti_bytes(array, order, **fields)
    path.write_bytes(gzip.compress(data, 1) if path.name.endswith(".gz") else data)
    return path


def header_of(path: Path) -> bytes:
    """The 348 bytes at the start of a `.nii` or `.nii.gz`."""
    data = path.read_bytes()
    return (gzip.decompress(data) if path.name.endswith(".gz") else data)[:348]


def save_dicom(path: Path, array: NDArray[Any], **tags: Any) -> Path:
    """One uncompressed 12-bit DICOM slice [rows, columns]; tags by keyword, None leaves one out.

    The tag ``syntax`` is the transfer syntax, explicit and little-endian by default.
    """
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = tags.get("SOPClassUID", MRImageStorage)
    meta.MediaStorageSOPInstanceUID = generate_uid()
    syntax = UID(tags.pop("syntax", ExplicitVRLittleEndian))
    meta.TransferSyntaxUID = syntax
    how = {"is_implicit_VR": syntax.is_implicit_VR, "is_little_endian": syntax.is_little_endian}
    data = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128), **how)
    standard = {
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.4",
        "SeriesDescription": "T2 sagittal",
        "Modality": "MR",
        "Rows": array.shape[0],
        "Columns": array.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "PixelSpacing": [0.5, 0.75],
        "SliceThickness": 3,
        "ImageOrientationPatient": [0, 1, 0, 0, 0, -1],
        "ImagePositionPatient": [0, 0, 0],
        "PixelData": array.astype("<u2").tobytes(),
    }
    for name, value in {**standard, **tags}.items():
        if value is not None:
            setattr(data, name, value)
    if not syntax.is_little_endian:
        data.PixelData = np.frombuffer(data.PixelData, "<u2").astype(">u2").tobytes()
    data.save_as(path, enforce_file_format=True)
    return path


def save_series(folder: Path, positions: list[float], **tags: Any) -> NDArray[Any]:
    """A sagittal series whose file names say nothing of the order; the planes [n, rows, columns] as listed."""
    folder.mkdir(exist_ok=True)
    planes = textured((len(positions), 6, 5))
    for index, (plane, position) in enumerate(zip(planes, positions, strict=True)):
        name = f"{(index * 7) % 10}{index}-{tags.get('SeriesInstanceUID', 'a')[-1]}.dcm"
        save_dicom(folder / name, plane, **{"ImagePositionPatient": [position, -20, 30], **tags})
    return planes


def group(name: str, **tags: Any) -> Any:
    """One functional group: a data set with a sequence of one item."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    inner, outer = Dataset(), Dataset()
    for keyword, value in tags.items():
        setattr(inner, keyword, value)
    setattr(outer, name, Sequence([inner]))
    return outer


def save_enhanced(
    path: Path,
    frames: NDArray[Any],
    positions: list[Any],
    *,
    shared: dict[str, dict[str, Any]] | None = None,
    own: list[dict[str, dict[str, Any]]] | None = None,
    **tags: Any,
) -> Path:
    """An enhanced MR file: sagittal frames [n, rows, columns] at positions (the first coordinate, or all three).

    Args:
        path: The file.
        frames: Stored numbers.
        positions: Of each frame; None leaves one out.
        shared: Functional groups of all frames, in place of or beside orientation and measures; {} leaves one out.
        own: Further functional groups of each frame.
        tags: Of the file.
    """
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    groups = {
        "PlaneOrientationSequence": {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]},
        "PixelMeasuresSequence": {"PixelSpacing": [0.5, 0.75], "SliceThickness": 3, "SpacingBetweenSlices": 3},
        **(shared or {}),
    }
    common, each = Dataset(), []
    for name, values in groups.items():
        if values:
            common.update(group(name, **values))
    for index, position in enumerate(positions):
        frame = Dataset()
        if position is not None:
            place = position if isinstance(position, (list, tuple)) else [position, -20, 30]
            frame.update(group("PlanePositionSequence", ImagePositionPatient=list(place)))
        for name, values in (own[index] if own else {}).items():
            frame.update(group(name, **values))
        each.append(frame)
    whole = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4.1",
        "NumberOfFrames": len(frames),
        "PixelData": frames.astype("<u2").tobytes(),
        "SharedFunctionalGroupsSequence": Sequence([common]),
        "PerFrameFunctionalGroupsSequence": Sequence(each),
        **dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")),
    }
    return save_dicom(path, frames[0], **{**whole, **tags})


def packed(path: Path, how: str = "RLE") -> Path:
    """The same DICOM file with its pixels packed: by pydicom's "RLE", or by GDCM as "JPEG" or "JPEG2000" without loss.

    Every frame is packed on its own, and the header stays as it is.
    """
    import pydicom
    from pydicom.encaps import encapsulate, generate_frames
    from pydicom.uid import RLELossless

    data = pydicom.dcmread(path)
    if how == "RLE":
        data.compress(RLELossless)
        data.save_as(path)
        return path
    frames = np.frombuffer(data.PixelData, "<i2" if data.PixelRepresentation else "<u2")
    parts = []
    for frame in frames.reshape(-1, data.Rows, data.Columns):
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.SetUseCompression(True)
        writer.SetCompressor(how)
        writer.SetFileName(str(path.with_suffix(".part.dcm")))
        writer.Execute(sitk.GetImageFromArray(frame))
        part = pydicom.dcmread(path.with_suffix(".part.dcm"))
        parts.append(next(generate_frames(part.PixelData, number_of_frames=1)))
    path.with_suffix(".part.dcm").unlink()
    data.file_meta.TransferSyntaxUID = part.file_meta.TransferSyntaxUID
    data.PixelData = encapsulate(parts)
    data["PixelData"].VR = "OB"
    data["PixelData"].is_undefined_length = True
    data.save_as(path)
    return path
