"""Surfaces as STL and VTP files, in LPS millimetres, said so in the file for those who read it (3D Slicer does)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from verdiff.anatomy.surface import Surface
from verdiff.imaging import atomic_path

SPACE = "LPS"
_HEADER_BYTES = 80
_STL = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])


def write_stl(path: str | Path, surface: Surface) -> None:
    """Write one surface as binary STL; its header says ``SPACE=LPS``.

    Raises:
        OutputError: The file cannot be written; it is the old one or the complete new one.
    """
    corners = surface.vertices_mm[surface.triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    facets = np.zeros(len(corners), _STL)
    facets["corners"] = corners
    facets["normal"] = np.divide(normals, lengths, out=np.zeros_like(normals), where=lengths > 0)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(f"verdiff SPACE={SPACE} mm".encode("ascii").ljust(_HEADER_BYTES))
        file.write(np.array(len(facets), "<u4").tobytes())
        file.write(facets.tobytes())


def write_vtp(
    path: str | Path, surfaces: Mapping[int, Surface], *, about: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Write surfaces as one VTK PolyData file with the label id of each triangle as cell data ``label``.

    Args:
        path: Ends in ``.vtp``.
        surfaces: Label id (1 to 255) and surface of each structure.
        about: Texts in ASCII by keyword that go with them, as field data.

    Raises:
        OutputError: The file cannot be written; it is the old one or the complete new one.
    """
    starts = np.cumsum([0, *(len(surface.vertices_mm) for surface in surfaces.values())])
    points = _joined([surface.vertices_mm for surface in surfaces.values()], "<f4")
    polygons = _joined(
        [surface.triangles + start for surface, start in zip(surfaces.values(), starts, strict=False)], "<i4"
    )
    labels = np.repeat(np.array(list(surfaces), "u1"), [len(surface.triangles) for surface in surfaces.values()])
    offsets = 3 * np.arange(1, len(polygons) + 1, dtype="<i4")
    fields = "".join(_field(name, text) for name, text in {"SPACE": SPACE, **about}.items())
    text = f"""<?xml version="1.0"?>
<VTKFile type="PolyData" version="1.0" byte_order="LittleEndian" header_type="UInt64">
 <PolyData>
  <FieldData>{fields}</FieldData>
  <Piece NumberOfPoints="{len(points)}" NumberOfVerts="0" NumberOfLines="0" NumberOfStrips="0" \
NumberOfPolys="{len(polygons)}">
   <CellData Scalars="label">{_data("label", "UInt8", labels)}</CellData>
   <Points>{_data("Points", "Float32", points, 3)}</Points>
   <Polys>{_data("connectivity", "Int32", polygons)}{_data("offsets", "Int32", offsets)}</Polys>
  </Piece>
 </PolyData>
</VTKFile>
"""
    with atomic_path(path) as temporary:
        temporary.write_text(text, "utf-8")


def _field(name: str, text: str) -> str:
    # A VTK string array in ASCII is the characters' codes, each string ended by 0.
    codes = " ".join(str(code) for code in [*text.encode("ascii"), 0])
    return f'<Array type="String" Name={quoteattr(name)} NumberOfTuples="1" format="ascii">{codes}</Array>'


def _joined(parts: list[NDArray[np.generic]], dtype: str) -> NDArray[np.generic]:
    return np.concatenate([np.zeros((0, 3)), *parts]).astype(dtype)


def _data(name: str, kind: str, values: NDArray[np.generic], components: int = 1) -> str:
    """One array inline: its length in bytes, then its bytes, as base64."""
    raw = np.ascontiguousarray(values).tobytes()
    packed = base64.b64encode(np.array(len(raw), "<u8").tobytes() + raw).decode("ascii")
    return (
        f"<DataArray type={quoteattr(kind)} Name={quoteattr(name)} NumberOfComponents={quoteattr(str(components))} "
        f'format="binary">{packed}</DataArray>'
    )
