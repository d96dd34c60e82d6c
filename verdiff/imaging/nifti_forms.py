"""Where a NIfTI scan lies: its two forms of an orientation, compared, and one of them taken.

A header may state an orientation twice, as a rotation (qform) and as a matrix (sform), each with a code above zero.
Libraries choose differently between the two, so where they contradict each other only the user can say which is right.
The formulas are those of nifti1.h, "Method 2" and "Method 3".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from verdiff.errors import InputError
from verdiff.imaging import checks
from verdiff.imaging.nifti import NiftiHeader
from verdiff.imaging.orientation import (
    FORMS,
    axis_code,
    flat_direction,
    geometry_by_code,
    mean_pitch,
    no_thickness,
    nothing_stated,
    refuse_other_code,
    said_by_option,
)
from verdiff.imaging.volume import Array, Geometry

# pixdim may differ from the sform's column lengths by float32 rounding only.
_SPACING_TOLERANCE = 1e-3
# A rotation near half a turn loses this much when it is stored as a quaternion of 32-bit floats.
_TURN_TOLERANCE = 1e-3
_PLACE_TOLERANCE_MM = 0.01
_RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class _Form:
    """One stated orientation.

    Attributes:
        name: "qform" or "sform".
        code: What it is relative to, above zero.
        axes: The step from voxel to voxel along each axis, one a column [3, 3], LPS mm.
        origin_mm: The first voxel's centre, LPS mm.
    """

    name: str
    code: int
    axes: Array
    origin_mm: Array

    @property
    def letters(self) -> str:
        return axis_code(self.axes)

    @property
    def described(self) -> str:
        finite = np.isfinite(self.axes).all() and np.isfinite(self.origin_mm).all()
        what = f"whose axes run to {self.letters}" if finite else "which has values that are no numbers"
        return f"{self.name} (code {self.code}), {what}"

    def corners(self, size: tuple[int, int, int]) -> Array:
        far = np.array(size) - 1.0
        steps = np.array([[x, y, z] for z in (0, 1) for y in (0, 1) for x in (0, 1)]) * far
        return np.asarray(self.origin_mm + steps @ self.axes.T)


def geometry(header: NiftiHeader, path: Path, choice: str | None) -> tuple[Geometry, tuple[str, ...]]:
    """The grid of a scan, and what has to be said of it.

    Args:
        header: Header of the file.
        path: Path, for messages.
        choice: What the user says where the header leaves it open: "qform", "sform", or a code of three letters.

    Raises:
        InputError: If the header states no orientation or two that contradict each other and the user does not say
            which; if it states two spacings; if the orientation is sheared or no orientation at all.
    """
    size = (*header.size, 1, 1)[:3]
    grid = size[0], size[1], size[2]
    pixdim = header.pixdim * header.unit_mm
    pitches = [*pixdim, *[mean_pitch(pixdim[0], pixdim[min(1, len(pixdim) - 1)])] * (3 - len(pixdim))]
    forms = [form for form in (_qform(header, pitches), _sform(header, pitches)) if form is not None]
    if not forms:
        return _without_form(grid, pitches, path, choice)
    form, notes = _chosen(forms, grid, pitches, path, choice)
    refuse_other_code(str(path), choice, form.letters)
    _check_form(form, path)
    lengths = np.linalg.norm(form.axes, axis=0)
    if _other_spacing(form, pitches):
        _refuse_two_spacings(form, pitches, path, choice)
        pitches = lengths.tolist()
        notes = (*notes, f"the spacing is that of the {form.name}, as the user says; pixdim says otherwise")
    if len(pixdim) < 3:
        notes = (*notes, no_thickness(pitches[2]))
    spacing, origin = [float(pitch) for pitch in pitches], [float(value) for value in form.origin_mm]
    direction = flat_direction(form.axes[:, :2]) if len(pixdim) < 3 else (form.axes / lengths).ravel().tolist()
    return (
        Geometry(grid, (spacing[0], spacing[1], spacing[2]), (origin[0], origin[1], origin[2]), tuple(direction)),
        notes,
    )


def _without_form(
    size: tuple[int, int, int], pitches: list[float], path: Path, choice: str | None
) -> tuple[Geometry, tuple[str, ...]]:
    why = "qform_code and sform_code are 0 or below"
    if choice is not None and choice not in FORMS:
        return geometry_by_code(size, pitches, choice), (
            f"it states no orientation ({why}); {choice} as the user says",
        )
    if size[2] > 1:
        raise nothing_stated(str(path), why)
    # A plane that says nothing of the patient is read as a film is.
    note = f"it states no orientation ({why}) and is taken as a film; --orientation says where its axes run"
    return Geometry(size, (pitches[0], pitches[1], mean_pitch(pitches[0], pitches[1])), oriented=False), (note,)


def _chosen(
    forms: list[_Form], size: tuple[int, int, int], pitches: list[float], path: Path, choice: str | None
) -> tuple[_Form, tuple[str, ...]]:
    """The form to take: the sform, which is exact, where both agree."""
    sform = forms[-1]
    if len(forms) == 1:
        return sform, ()
    if choice != "qform":
        _check_form(sform, path)
        _refuse_two_spacings(sform, pitches, path, choice)
    qform = forms[0]
    gap = _gap_mm(qform, sform, size)
    if gap == 0:
        return (qform if choice == "qform" else sform), ()
    both = f"its {qform.described}, and its {sform.described}"
    both += f", place a corner {gap:.3g} mm apart" if math.isfinite(gap) else ""
    fitting = [form for form in forms if choice in (form.name, form.letters)]
    if len(fitting) != 1:
        raise InputError(
            f"{path} states two orientations that contradict each other: {both}",
            "one orientation in the whole header",
            said_by_option(
                "find out which is right and say so: --orientation qform or --orientation sform (orientation='qform')",
                "write the one that is right into both forms of the header",
            ),
        )
    return fitting[0], (f"it states two orientations, {both}; the {fitting[0].name} is taken, as the user says",)


def _gap_mm(qform: _Form, sform: _Form, size: tuple[int, int, int]) -> float:
    """How far apart the two place the worst corner; 0 where rounding explains it."""
    there, here = qform.corners(size), sform.corners(size)
    if not (np.isfinite(there).all() and np.isfinite(here).all()):
        return math.inf
    gaps = np.linalg.norm(there - here, axis=1)
    voxel = float(np.linalg.norm(sform.axes, axis=0).min())
    allowed = max(_PLACE_TOLERANCE_MM, 0.01 * voxel) + _TURN_TOLERANCE * np.linalg.norm(here - here[0], axis=1)
    return float(gaps.max()) if np.any(gaps > allowed) else 0.0


def _other_spacing(form: _Form, pitches: list[float]) -> bool:
    lengths = np.linalg.norm(form.axes, axis=0)
    return bool(np.abs(lengths / pitches - 1).max() > _SPACING_TOLERANCE)


def _refuse_two_spacings(form: _Form, pitches: list[float], path: Path, choice: str | None) -> None:
    if choice != form.name and _other_spacing(form, pitches):
        lengths = np.linalg.norm(form.axes, axis=0).round(4).tolist()
        raise InputError(
            f"{path} states two spacings: pixdim {np.round(pitches, 4).tolist()} and {form.name} {lengths}",
            "one spacing in the whole header",
            said_by_option(
                f"find out which is true; --orientation {form.name} takes that of the {form.name}",
                "save the scan with the one that is true in pixdim, qform and sform",
            ),
        )


def _check_form(form: _Form, path: Path) -> None:
    if not (np.isfinite(form.axes).all() and np.isfinite(form.origin_mm).all()):
        raise InputError(
            f"{path} has a {form.name} with values that are no numbers, though its code is {form.code}",
            "three axes and a position in millimetres",
            said_by_option("say --orientation with the form that is right", "repair the header"),
        )
    checks.check_not_sheared(form.axes, f"{path} (by its {form.name})")


def _qform(header: NiftiHeader, pitches: list[float]) -> _Form | None:
    code = int(header.field(252, "h")[0])
    if code <= 0:
        return None
    b, c, d = header.field(256, "3f")
    square = b * b + c * c + d * d
    if square > 1.0 + _TURN_TOLERANCE:
        b = c = d = math.nan
    elif square > 1.0:
        length = math.sqrt(square)
        b, c, d, square = b / length, c / length, d / length, 1.0
    a = math.sqrt(max(0.0, 1.0 - square)) if math.isfinite(square) else math.nan
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
        ]
    )
    # The first pixdim is -1 where the third axis runs the other way.
    rotation[:, 2] *= -1.0 if header.field(76, "f")[0] < 0 else 1.0
    place = np.asarray(header.field(268, "3f")) * header.unit_mm
    return _Form("qform", code, _RAS_TO_LPS[:, None] * rotation * np.asarray(pitches), _RAS_TO_LPS * place)


def _sform(header: NiftiHeader, pitches: list[float]) -> _Form | None:
    code = int(header.field(254, "h")[0])
    if code <= 0:
        return None
    rows = np.asarray(header.field(280, "12f"), dtype=np.float64).reshape(3, 4) * header.unit_mm
    axes = _RAS_TO_LPS[:, None] * rows[:, :3]
    flat = len(header.size) < 3
    if flat and np.isfinite(axes).all() and np.linalg.norm(axes[:, :2], axis=0).min() > 0:
        # A plane need not say where the axis across it runs.
        axes[:, 2] = np.reshape(flat_direction(axes[:, :2]), (3, 3))[:, 2] * pitches[2]
    return _Form("sform", code, axes, _RAS_TO_LPS * rows[:, 3])
