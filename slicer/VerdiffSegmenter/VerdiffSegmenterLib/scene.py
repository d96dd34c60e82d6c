"""Volumes and segmentations of the scene as files, through MRML's own storage nodes: no window is needed.

Names, colours and terminology come with the file: verdiff writes ``.seg.nrrd`` with the fields that Slicer reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import slicer
from VerdiffSegmenterLib.call import CallError

REPORT = "Verdiff.Report"


def write_volume(volume: Any, path: Path) -> None:
    """Write a scalar volume in its own coordinates; a transform above it is left out, and put above the result.

    Raises:
        CallError: There are no voxels, or the file cannot be written.
    """
    image = volume.GetImageData()
    if image is None or 0 in image.GetDimensions():
        raise CallError(
            f"the volume {volume.GetName()} has no voxels\nexpected: a loaded scan\nto do: choose another volume"
        )
    storage = slicer.vtkMRMLNRRDStorageNode()
    storage.SetFileName(str(path))
    storage.UseCompressionOff()
    if not storage.WriteData(volume) or not path.exists():
        raise CallError(
            f"the volume {volume.GetName()} could not be written to {path.parent}"
            "\nexpected: a folder for temporary files with room for the scan\nto do: make room there"
        )


def read_segmentation(path: Path, segmentation: Any) -> list[str]:
    """Put the segments of a file into a segmentation node in place of what it has; their names.

    Raises:
        CallError: The file is not there or is no segmentation; the node keeps what it has.
    """
    # Into a scene of its own first: a file that does not read would empty the node before it says so.
    aside = slicer.vtkMRMLScene()
    read = _read(path, aside.AddNewNodeByClass("vtkMRMLSegmentationNode", "read"))
    aside.Clear(1)
    found = segmentation.GetSegmentation()
    if read:
        found.RemoveAllSegments()
    if not read or not _read(path, segmentation):
        raise CallError(
            f"no segmentation could be read from {path.name}\nexpected: verdiff's .seg.nrrd"
            "\nto do: use a verdiff of this extension's version"
        )
    return [found.GetNthSegment(index).GetName() for index in range(found.GetNumberOfSegments())]


def _read(path: Path, segmentation: Any) -> bool:
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(path))
    return path.exists() and bool(storage.ReadData(segmentation))


def belongs_to(segmentation: Any, volume: Any, report: Mapping[str, Any]) -> None:
    """Tie a segmentation to the scan it is of: its grid, its transform, and verdiff's report as an attribute."""
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    segmentation.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    segmentation.SetAttribute(REPORT, json.dumps(report))
