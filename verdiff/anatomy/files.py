"""The files of one spine: instances, statistics and meshes; which there are, where they go, what is in them."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from verdiff.anatomy.levels import parse_level
from verdiff.anatomy.libraries import require_libraries
from verdiff.anatomy.mesh_files import SPACE, write_stl, write_vtp
from verdiff.anatomy.roles import roles_of
from verdiff.anatomy.spine import Spine, Vertebra
from verdiff.anatomy.surface import Surface, surface_of
from verdiff.errors import InputError, OutputError
from verdiff.files import Staging, made_by_verdiff, plan_files
from verdiff.files.plan import existing
from verdiff.imaging import Geometry, Volume, write_array
from verdiff.imaging.named_masks import SEGMENTS_SUFFIX
from verdiff.imaging.terms import named_structures

_OURS = re.compile(r"(disc-below-)?([CTL]\d+|vertebra-\d+)|canal|(vertebra|disc|canal)-(outer|inner)")
_SIDES = ("outer", "inner")
_NOTHING: Mapping[str, Mapping[str, Surface]] = MappingProxyType({})

_COLUMNS = (
    "number",
    "id",
    "level",
    "verse_id",
    "complete",
    "volume_ml",
    "centroid_l_mm",
    "centroid_p_mm",
    "centroid_s_mm",
    "height_mm",
    "separation",
    "uncertainty",
    "confidence",
    "volume_complete",
    "cut_sides",
    "level_probability",
)


@dataclass(frozen=True)
class AnatomyFiles:
    """Where the files go; None for those that were not asked for.

    Attributes:
        instances: The instances in the scan's grid, numbered as :class:`~verdiff.anatomy.spine.Spine` says.
        statistics: Everything that was found and measured, as JSON; the vertebrae also as CSV beside it.
        meshes: A folder of one STL a structure.
        mesh: One VTP of all structures.
        outer: One VTP of the surfaces moved outwards, under the model's own label ids; they go into ``meshes`` too, as
            ``canal-outer.stl``.
        inner: One VTP of those moved inwards.
    """

    instances: Path | None = None
    statistics: Path | None = None
    meshes: Path | None = None
    mesh: Path | None = None
    outer: Path | None = None
    inner: Path | None = None

    @property
    def table(self) -> Path | None:
        """The CSV beside the statistics."""
        return None if self.statistics is None else self.statistics.with_suffix(".csv")

    @property
    def named(self) -> dict[str, Path]:
        """The files that were asked for, by what they hold."""
        every = {
            name: getattr(self, name)
            for name in ("instances", "statistics", "table", "mesh", "outer", "inner", "meshes")
        }
        return {name: path for name, path in every.items() if path is not None}

    def holding(self, moved: Mapping[str, Mapping[str, Surface]]) -> AnatomyFiles:
        """Without the files of moved surfaces that there are none of."""
        return replace(self, **{side: getattr(self, side) if moved.get(side) else None for side in _SIDES})

    @property
    def taken(self) -> dict[str, Path]:
        """Every file that may be written or removed, as far as it is known before the vertebrae are."""
        files = {name: path for name, path in self.named.items() if path != self.meshes}
        there = () if self.meshes is None else existing(self.meshes, "*.stl")
        return files | {f"mesh {path.stem}": path for path in there if _OURS.fullmatch(path.stem)}


def anatomy_files(mask: Path, *, instances: bool = False, statistics: bool = False, mesh: bool = False) -> AnatomyFiles:
    """The files beside a mask: ``scan_seg.nii.gz`` gives ``scan_instances.nii.gz``, ``scan_vertebrae.json`` and
    ``.csv``, ``scan_mesh.vtp`` and the folder ``scan_meshes``.
    """
    suffix = next((s for s in (".nii.gz", SEGMENTS_SUFFIX, mask.suffix) if mask.name.lower().endswith(s)), "")
    base = mask.name[: len(mask.name) - len(suffix)].removesuffix("_seg")
    return AnatomyFiles(
        mask.with_name(f"{base}_instances{suffix}") if instances else None,
        mask.with_name(f"{base}_vertebrae.json") if statistics else None,
        mask.with_name(f"{base}_meshes") if mesh else None,
        mask.with_name(f"{base}_mesh.vtp") if mesh else None,
        mask.with_name(f"{base}_outer.vtp") if mesh else None,
        mask.with_name(f"{base}_inner.vtp") if mesh else None,
    )


def check_anatomy(
    files: AnatomyFiles,
    label_ids: Mapping[str, int],
    *,
    lowest: str | None = None,
    film: bool = False,
    geometry: Geometry | None = None,
) -> None:
    """Refuse what could only fail after the segmentation.

    Args:
        files: Where the files are to go.
        label_ids: Name -> id of the model's structures.
        lowest: Level of the lowest vertebra, where it is stated.
        film: Whether the scan is a film.
        geometry: The scan's grid; None where it is not known yet.

    Raises:
        InputError: The model knows no vertebra, ``lowest`` is no level, or a mesh is asked for of a film or of a scan
            of one slice.
        OutputError: The name of the folder of meshes is taken by a file.
        BackendError: The extra ``[anatomy]`` is not installed.
    """
    roles_of(label_ids)
    if lowest is not None:
        parse_level(lowest)
    if files.mesh is not None and (film or (geometry is not None and 1 in geometry.size)):
        raise InputError(
            f"a mesh of a {'film' if film else 'scan of one slice'}",
            "a scan with depth",
            "leave out --mesh; --instances and --stats work",
        )
    if files.meshes is not None and files.meshes.exists() and not files.meshes.is_dir():
        raise OutputError(f"{files.meshes} is a file", "a folder of meshes, or nothing there yet", "move it away")
    require_libraries()


def write_anatomy(
    spine: Spine,
    scan: Volume,
    files: AnatomyFiles,
    *,
    moved: Mapping[str, Mapping[str, Surface]] = _NOTHING,
    label_ids: Mapping[str, int] = MappingProxyType({}),
    staged: Staging | None = None,
    about: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write what was asked for: all of it appears together, or nothing.

    Meshes of an earlier run are removed from their folder: a vertebra that is no longer found has none.

    Args:
        spine: What was found.
        scan: Scan that the spine was found in.
        files: Where the files go.
        moved: Side (``"outer"``, ``"inner"``) -> structure -> surface moved by its margin; written with the meshes.
        label_ids: Numbers of those structures in the mask.
        staged: Where they are written, together with others of the same call; None writes these alone.
        about: Texts by keyword that instances and meshes carry.

    Raises:
        OutputError: A file cannot be written, or a place is taken by a file that is not verdiff's; nothing changed.
    """
    if staged is None:
        if files.named:
            with plan_files(files.taken, folder=next(iter(files.named.values())).parent).staged() as staging:
                write_anatomy(spine, scan, files, moved=moved, label_ids=label_ids, staged=staging, about=about)
        return
    if files.instances is not None:
        write_array(
            spine.instances,
            scan,
            staged[files.instances],
            mark=True,
            structures=named_structures(spine.structures),
            about=about,
        )
    if files.mesh is not None and files.meshes is not None:
        stems = {f"{_safe(name)}-{side}" for side, surfaces in moved.items() for name in surfaces}
        _write_meshes(spine, files.mesh, files.meshes, staged, keep=stems, about=about)
        for side in _SIDES:
            _write_moved(moved.get(side, {}), side, files, label_ids, staged, about)
    if files.statistics is None or files.table is None:
        return
    staged[files.table].write_text(_csv(spine), "utf-8")
    staged[files.statistics].write_text(json.dumps(statistics_of(spine), indent=1) + "\n", "utf-8")


def statistics_of(spine: Spine) -> dict[str, Any]:
    """What the JSON holds: the vertebrae from the lowest up, where their names come from, and the remarks."""
    return {
        "space": SPACE,
        **levels_of(spine),
        "structures": spine.structures,
        "vertebrae": [_row(vertebra, spine) for vertebra in spine.vertebrae],
        "remarks": list(spine.remarks),
    }


def levels_of(spine: Spine) -> dict[str, Any]:
    """Where the levels come from, how probable they are, and which vertebra is which, by its number in the mask."""
    return {
        "levels_from": spine.named_by or "unknown",
        "level_probability": _rounded(spine.level_probability, 4),
        "levels": {str(vertebra.number): vertebra.level for vertebra in spine.vertebrae},
    }


def _row(vertebra: Vertebra, spine: Spine) -> dict[str, Any]:
    left, posterior, superior = vertebra.centroid_mm
    values = (
        vertebra.number,
        vertebra.id,
        vertebra.level,
        vertebra.verse_id,
        vertebra.complete,
        _rounded(vertebra.volume_ml, 4),
        _rounded(left, 3),
        _rounded(posterior, 3),
        _rounded(superior, 3),
        _rounded(vertebra.height_mm, 1),
        _rounded(vertebra.separation, 3),
        _rounded(vertebra.uncertainty, 4),
        _rounded(vertebra.confidence, 4),
        vertebra.volume_complete,
        " ".join(vertebra.cut_sides),
        None if vertebra.level is None else _rounded(spine.level_probability, 4),
    )
    return dict(zip(_COLUMNS, values, strict=True))


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _csv(spine: Spine) -> str:
    out = io.StringIO()
    table = csv.DictWriter(out, _COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(_row(vertebra, spine) for vertebra in spine.vertebrae)
    return out.getvalue()


def _write_meshes(
    spine: Spine, mesh: Path, folder: Path, staged: Staging, *, keep: Collection[str], about: Mapping[str, str]
) -> None:
    surfaces = {}
    for name, number in spine.structures.items():
        surfaces[number] = surface_of(spine.instances == number, spine.geometry)
        write_stl(staged[folder / f"{name}.stl"], surfaces[number])
    for path in existing(folder, "*.stl"):
        if path.stem not in spine.structures and path.stem not in keep and made_by_verdiff(path):
            staged.remove(path)
    write_vtp(staged[mesh], surfaces, about=about)


def _write_moved(
    surfaces: Mapping[str, Surface],
    side: str,
    files: AnatomyFiles,
    label_ids: Mapping[str, int],
    staged: Staging,
    about: Mapping[str, str],
) -> None:
    together: Path | None = getattr(files, side)
    assert files.meshes is not None and together is not None
    for name, surface in surfaces.items():
        write_stl(staged[files.meshes / f"{_safe(name)}-{side}.stl"], surface)
    if surfaces:
        write_vtp(staged[together], {label_ids[name]: surface for name, surface in surfaces.items()}, about=about)
    elif made_by_verdiff(together):
        staged.remove(together)


def _safe(structure: str) -> str:
    """A structure's name as a part of a file's."""
    return re.sub(r"[^\w.-]+", "-", structure)
