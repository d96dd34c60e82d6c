"""Several volumes in one series: time points, echoes or diffusion weightings, told apart by what the frames say.

An enhanced file names its dimensions and gives every frame its place in them (DICOM PS3.3, C.7.6.17); a classic file
may state its temporal position, its echo, its acquisition. Only where frames share their places do these tell volumes
apart.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from verdiff.errors import InputError
from verdiff.imaging.dicom_elements import Elements, items_of, text_of
from verdiff.imaging.dicom_frames import DicomFrame
from verdiff.imaging.dicom_header import DicomFile

_DIMENSIONS, _POINTER, _LABEL = 0x00209222, 0x00209165, 0x00209421
_FRAME_CONTENT, _INDEX_VALUES, _TEMPORAL_INDEX = 0x00209111, 0x00209157, 0x00209128
_PER_FRAME, _TEMPORAL_POSITION = 0x52009230, 0x00200100
# Dimensions that say where a frame lies: stack, place in it, position and orientation of its plane.
_SPATIAL = {0x00209056, 0x00209057, 0x00200032, 0x00209113, 0x00200037, 0x00209116}
# What a classic file states of its volume, the first that tells them apart before the others.
_CLASSIC = {
    _TEMPORAL_POSITION: "Temporal Position Identifier",
    0x00180086: "Echo Number",
    0x00200012: "Acquisition Number",
}
_NAMES = {
    _TEMPORAL_INDEX: "Temporal Position Index",
    0x00189082: "Effective Echo Time",
    0x00189087: "Diffusion b-value",
    0x00189089: "Diffusion Gradient Orientation",
    0x00209153: "Nominal Cardiac Trigger Delay Time",
}
_NAMED = 8


def one_volume(frames: Sequence[DicomFrame], choice: int | None, name: str) -> tuple[list[DicomFrame], tuple[str, ...]]:
    """The frames of one volume, and what has to be said of the others.

    Args:
        frames: Frames of a file or series.
        choice: Number of the volume, from 1, in the order of the indices; None where there should be one.
        name: The file or folder, for messages.

    Raises:
        InputError: There are several and none was chosen, or fewer than the number chosen.
    """
    named = [_indices(frame) for frame in frames]
    varying = sorted({key for each in named for key in each if len({one.get(key) for one in named}) > 1})
    places = [tuple(round(value, 3) for value in frame.plane.position) for frame in frames]
    varying = _classic(named, places, varying)
    if len(set(places)) == len(frames) or not varying:
        if choice not in (None, 1):
            raise InputError(
                f"time point {choice} of {name}, which holds one volume", "a volume that is there", "leave it out"
            )
        return list(frames), ()
    keys = [tuple(each.get(key, 0) for key in varying) for each in named]
    volumes = sorted(set(keys))
    what = " and ".join(label for _, label in varying)
    if choice is None or not 1 <= choice <= len(volumes):
        listed = ", ".join("/".join(map(str, key)) for key in volumes[:_NAMED])
        more = f" and {len(volumes) - _NAMED} more" if len(volumes) > _NAMED else ""
        asked = "" if choice is None else f"; time point {choice} is not there"
        raise InputError(
            f"{name} holds {len(volumes)} volumes, told apart by {what} ({listed}{more}){asked}",
            "one volume",
            f"choose one: --time-point 1 to {len(volumes)} (time_point= in Python)",
        )
    wanted = volumes[choice - 1]
    note = f"volume {choice} of {len(volumes)} was chosen: {what} {'/'.join(map(str, wanted))}"
    slices = keys.count(wanted)
    if (most := max(map(keys.count, volumes))) > slices:
        note += f"; it has {slices} slices, another has {most}"
    return [frame for frame, key in zip(frames, keys, strict=True) if key == wanted], (note,)


def _classic(
    named: Sequence[dict[tuple[int, str], int]], places: Sequence[tuple[float, ...]], varying: list[tuple[int, str]]
) -> list[tuple[int, str]]:
    """The first thing that classic files state which alone gives volumes in which no two slices share a place."""
    classic = [key for key in _CLASSIC.items() if key in varying]
    for key in classic:
        if len({(each.get(key), place) for each, place in zip(named, places, strict=True)}) == len(places):
            return [key]
    return [key for key in varying if key not in classic or key[0] == _TEMPORAL_POSITION]


def _indices(frame: DicomFrame) -> dict[tuple[int, str], int]:
    """What a frame says of the volume it is of: index by dimension (its tag and its name)."""
    file = frame.file
    groups = items_of(file.elements, _PER_FRAME)
    if not groups:
        texts = {key: text_of(file.elements, key[0]) for key in _CLASSIC.items()}
        return {key: int(text) for key, text in texts.items() if text.isdecimal()}
    content: Elements = (items_of(groups[frame.index], _FRAME_CONTENT) or [{}])[0]
    dimensions = [_dimension(file, item) for item in items_of(file.elements, _DIMENSIONS)]
    values = _unsigned(file, content, _INDEX_VALUES)
    found = dict(zip(dimensions, values, strict=False)) if len(dimensions) == len(values) else {}
    if not found:
        found = dict(
            zip([(_TEMPORAL_INDEX, _NAMES[_TEMPORAL_INDEX])], _unsigned(file, content, _TEMPORAL_INDEX), strict=False)
        )
    return {key: value for key, value in found.items() if key[0] not in _SPATIAL}


def _dimension(file: DicomFile, item: Elements) -> tuple[int, str]:
    pointer = item.get(_POINTER)
    tag = 0
    if isinstance(pointer, bytes) and len(pointer) == 4:
        group, element = struct.unpack(file.order + "HH", pointer)
        tag = group << 16 | element
    return tag, _NAMES.get(tag) or text_of(item, _LABEL) or f"({tag >> 16:04x},{tag & 0xFFFF:04x})"


def _unsigned(file: DicomFile, elements: Elements, tag: int) -> tuple[int, ...]:
    value = elements.get(tag)
    if not isinstance(value, bytes) or len(value) % 4:
        return ()
    return struct.unpack(f"{file.order}{len(value) // 4}I", value)
