"""Where voxel axes run in the patient: letters for it, and what the user says where a file leaves it open.

A code of three letters names the directions in which the first, second and third voxel axis run, as nibabel and Slicer
have it: with "RAS" the first axis runs to the patient's right, the second to anterior, the third to superior.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from verdiff.errors import InputError, Remedy
from verdiff.imaging.volume import Array, Geometry

OPTION = "--orientation"
FORMS = ("qform", "sform")
# LPS axis and sign of each letter.
_LETTERS = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}
EXPECTED = '"qform", "sform", or three letters for where the voxel axes run, such as RAS or PIR'


def parse_orientation(text: str | None) -> str | None:
    """The user's choice in one spelling: "qform", "sform" or three capital letters; None stays None.

    Raises:
        InputError: If it is none of these.
    """
    if text is None:
        return None
    if text.lower() in FORMS:
        return text.lower()
    letters = text.upper()
    if sorted(_LETTERS[letter][0] for letter in letters if letter in _LETTERS) != [0, 1, 2] or len(letters) != 3:
        raise InputError(
            f"the orientation {text!r}", EXPECTED, "name one form, or one letter each of L or R, P or A, and S or I"
        )
    return letters


def axis_code(columns: Array) -> str:
    """The three letters of voxel axes that are given in LPS, one a column [3, 3]."""
    found, free = "", [0, 1, 2]
    for column in np.asarray(columns).T:
        world = max(free, key=lambda axis, column=column: abs(float(column[axis])))  # type: ignore[misc]
        free.remove(world)
        found += next(
            letter for letter, (axis, sign) in _LETTERS.items() if axis == world and (column[world] >= 0) == (sign > 0)
        )
    return found


def code_matrix(code: str) -> Array:
    """The direction cosines [3, 3] in LPS of axes that run as a code says."""
    matrix = np.zeros((3, 3))
    for voxel, letter in enumerate(code):
        axis, sign = _LETTERS[letter]
        matrix[axis, voxel] = sign
    return matrix


def geometry_by_code(size: tuple[int, int, int], spacing_mm: Sequence[float], code: str) -> Geometry:
    """A grid whose axes run as a code says, the centre of its first voxel at the origin."""
    x, y, z = (float(value) for value in spacing_mm)
    return Geometry(size, (x, y, z), direction=tuple(code_matrix(code).ravel().tolist()))


def said_by_option(by_option: str, otherwise: str) -> Remedy:
    """What to do about an orientation that a file leaves open: the option, or what is left where there is none."""
    return Remedy(by_option, option=OPTION, otherwise=otherwise)


def nothing_stated(name: str, why: str) -> InputError:
    """The refusal of a volume that does not say where left, posterior and superior are."""
    return InputError(
        f"{name} states no orientation: {why}",
        "a header that says where the patient's left, front and head are",
        said_by_option(
            "say where its voxel axes run: --orientation RAS (orientation='RAS') for the first to the right, the "
            "second to anterior, the third to superior",
            "convert the scan again from its DICOM files, or write the orientation that you know to be right into its "
            "header (NIfTI: sform and its code; NRRD: space and space directions; MetaImage: TransformMatrix)",
        ),
    )


def refuse_other_code(name: str, choice: str | None, stated: str) -> None:
    """Refuse a code that a file contradicts by what it states itself.

    Raises:
        InputError: If ``choice`` is a code and not ``stated``.
    """
    if choice is not None and choice not in FORMS and choice != stated:
        raise InputError(
            f"the orientation {choice} for {name}, which states {stated}",
            "an orientation only for a file that leaves it open",
            "leave --orientation out, or repair the header if it is wrong",
        )


def flat_direction(columns: Array) -> tuple[float, ...]:
    """Unit cosines, row major, of two voxel axes [3, 2] of a plane and of the axis across it."""
    pair = np.asarray(columns, dtype=np.float64)
    pair = pair / np.linalg.norm(pair, axis=0)
    return tuple(np.stack([*pair.T, np.cross(pair[:, 0], pair[:, 1])], axis=1).ravel().tolist())


def no_thickness(pitch: float) -> str:
    """The note for a plane of a patient whose thickness was made up."""
    return f"it states no slice thickness: {pitch:.4g} mm is taken, which keeps its voxels near a cube"


def mean_pitch(first: float, second: float) -> float:
    """The thickness given to a plane that states none: it keeps the voxel near a cube."""
    return math.sqrt(first * second)
