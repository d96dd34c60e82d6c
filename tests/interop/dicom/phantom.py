"""An asymmetric phantom in a grid of any orientation, and what a reader finds of it in DICOM objects, in millimetres.

The readers here go by the standard's words and pydicom alone: neither highdicom nor verdiff helps them.
"""

from __future__ import annotations

import io
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests import peers
from tests.imaging.make import rotation, textured
from verdiff.bundle import Label
from verdiff.imaging import Geometry, Volume, read_volume
from verdiff.imaging.terms import structures
from verdiff.imaging.volume import IDENTITY
from verdiff.interop.dicom import Mask

LABELS = (Label(1, "vertebra"), Label(2, "disc", "360499006"), Label(7, "canal", "61853006"), Label(9, "odd one"))
MODEL = {"id": "spine-mr", "version": "0.4.0", "manifest_sha256": "ab" * 32}
SETTINGS = {"sampler": "ddim", "steps": "2", "outcome": "complete"}


def grid(direction: tuple[float, ...] = IDENTITY, *, oblique: bool = False) -> Geometry:
    """A small grid that no axis of which is like another."""
    matrix = np.reshape(direction, (3, 3)) @ (rotation((0.21, -0.34, 0.47)) if oblique else np.eye(3))
    return Geometry((13, 11, 7), (0.75, 0.5, 3.25), (12.5, -30.25, 171.0), tuple(matrix.ravel().tolist()))


def scan_array(geometry: Geometry) -> NDArray[np.uint16]:
    return textured(geometry.shape).astype(np.uint16)


def phantom(scan: Volume) -> NDArray[np.uint8]:
    """Blocks with corners cut off, a ring with an island in its hole, a single voxel: no symmetry."""
    labels = np.zeros(scan.array.shape, np.uint8)
    labels[1:3, 1:6, 1:8] = 1
    labels[1:3, 2:5, 2:7] = 0
    labels[2, 3, 3] = labels[2, 3, 5] = 1
    labels[2:5, 7:9, 2:10] = 2
    labels[4, 7, 2:4] = 0
    labels[3:6, 1:3, 9:12] = 7
    labels[5, 3, 12] = 7
    labels[6, 9, 1] = 9
    return labels


def mask_of(source: Path, *, uncertainty: bool = False) -> Mask:
    scan = read_volume(source)
    labels = phantom(scan)
    doubt = (np.arange(labels.size).reshape(labels.shape) % 256).astype(np.uint8) if uncertainty else None
    return Mask(labels, scan, structures(LABELS), MODEL, SETTINGS, doubt)


def centroid_mm(mask: NDArray[np.bool_], geometry: Geometry) -> NDArray[np.float64]:
    return geometry.index_to_mm(np.argwhere(mask)[:, ::-1].mean(axis=0))


def read_segments(data: Any) -> dict[str, list[tuple[NDArray[np.float64], int, int]]]:
    """Each segment's voxels with their places in mm, [points, 3] and value, by name: (position, value)."""
    frames = data.pixel_array.reshape(-1, data.Rows, data.Columns)
    shared = data.SharedFunctionalGroupsSequence[0]
    names = {int(each.SegmentNumber): str(each.SegmentLabel) for each in data.SegmentSequence}
    spacing = [float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing]
    cosines = np.array([float(v) for v in shared.PlaneOrientationSequence[0].ImageOrientationPatient])
    found: dict[str, list[Any]] = {name: [] for name in names.values()}
    for frame, group in zip(frames, data.PerFrameFunctionalGroupsSequence, strict=True):
        corner = np.array([float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient])
        owner = group if "SegmentIdentificationSequence" in group else shared
        for number in np.unique(frame[frame > 0]):
            rows, columns = np.nonzero(frame == number)
            places = corner + np.outer(columns * spacing[1], cosines[:3]) + np.outer(rows * spacing[0], cosines[3:])
            if data.SegmentationType == "LABELMAP":
                name, value = names[int(number)], 1
            else:
                name = names[int(owner.SegmentIdentificationSequence[0].ReferencedSegmentNumber)]
                value = int(number)
            found[name] += [(place, value) for place in places]
    return found


def as_array(places: list[Any], geometry: Geometry) -> NDArray[np.int64]:
    """Values at positions, on a grid; each position must be a voxel of it within 0.001 mm."""
    result = np.zeros(geometry.shape, np.int64)
    for place, value in places:
        exact = (np.asarray(place) - geometry.origin_mm) @ geometry.matrix / geometry.spacing_mm
        x, y, z = np.rint(exact).astype(int)
        assert np.abs(geometry.index_to_mm([x, y, z]) - place).max() < 1e-3
        result[z, y, x] = value
    return result


def polygon_centroid(data: list[str]) -> tuple[float, NDArray[np.float64]]:
    """Area in mm2 and centroid in mm of a closed planar contour, by the fan of its triangles."""
    points = np.array([float(value) for value in data]).reshape(-1, 3)
    first, sides = points[0], points[1:] - points[0]
    crosses = np.cross(sides[:-1], sides[1:])
    total = crosses.sum(axis=0)
    normal = total / np.linalg.norm(total)
    areas = crosses @ normal / 2
    centres = first + (sides[:-1] + sides[1:]) / 3
    return float(areas.sum()), (areas[:, None] * centres).sum(axis=0) / areas.sum()


def contours_of(data: Any) -> dict[str, list[Any]]:
    """Contours by the name of their ROI."""
    names = {int(each.ROINumber): str(each.ROIName) for each in data.StructureSetROISequence}
    return {names[int(e.ReferencedROINumber)]: list(e.get("ContourSequence", [])) for e in data.ROIContourSequence}


def stored(data: Any) -> Any:
    """A data set as it comes out of a file."""
    from pydicom import dcmread

    stream = io.BytesIO()
    data.save_as(stream, enforce_file_format=True)
    stream.seek(0)
    return dcmread(stream)


def assert_equal_to(data: Any, mask: Mask) -> None:
    """The segments of an object are the mask, voxel for voxel, with centroids within 0.01 mm."""
    found = read_segments(data)
    for label in LABELS:
        expected = mask.labels == label.id
        array = as_array(found[label.name], mask.scan.geometry)
        np.testing.assert_array_equal(array > 0, expected)
        centre = np.mean([place for place, _ in found[label.name]], axis=0)
        assert np.abs(centre - centroid_mm(expected, mask.scan.geometry)).max() < 0.01


def assert_contours_of(data: Any, mask: Mask) -> None:
    """The contours of a structure set enclose the mask: area, and centroid within 0.01 mm, slice by slice."""
    geometry = mask.scan.geometry
    pixel = geometry.spacing_mm[0] * geometry.spacing_mm[1]
    at = {each.sop_instance: index for index, each in enumerate(mask.identity.slices)}
    numbers = {each.number: index for index, each in enumerate(mask.identity.slices)}
    for name, contours in contours_of(data).items():
        (label,) = (each.id for each in LABELS if each.name == name)
        found: dict[int, list[tuple[float, NDArray[np.float64]]]] = {}
        for contour in contours:
            (image,) = contour.ContourImageSequence
            number = image.get("ReferencedFrameNumber")
            index = at[image.ReferencedSOPInstanceUID] if number is None else numbers[int(number)]
            found.setdefault(index, []).append(polygon_centroid(list(contour.ContourData)))
            assert contour.ContourGeometricType == "CLOSED_PLANAR"
            assert contour.NumberOfContourPoints * 3 == len(contour.ContourData)
        expected = mask.labels == label
        assert set(found) == set(np.flatnonzero(expected.any(axis=(1, 2))).tolist())
        for index, parts in found.items():
            area = sum(size for size, _ in parts)
            assert abs(area - pixel * np.count_nonzero(expected[index])) < 1e-3
            whole = sum(size * centre for size, centre in parts) / area
            single = np.zeros_like(expected)
            single[index] = expected[index]
            assert np.abs(whole - centroid_mm(single, geometry)).max() < 0.01


def errors_of(path: Path) -> list[str]:
    """What dciodvfy calls an error, and what dcmdump cannot read."""
    said = subprocess.run([str(peers.program("dciodvfy")), str(path)], capture_output=True, text=True)
    dumped = subprocess.run([str(peers.program("dcmdump")), str(path)], capture_output=True, text=True)
    lines = said.stderr.splitlines() + said.stdout.splitlines()
    return [line for line in lines if line.startswith("Error")] + dumped.stderr.splitlines()
