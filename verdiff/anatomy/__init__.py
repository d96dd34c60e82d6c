"""From a semantic mask to vertebrae: found, counted, named, measured, and as surfaces.

Nothing here knows a model: it takes label ids and what they are called. scipy and scikit-image (the extra
``[anatomy]``) are imported by the functions that need them.
"""

from verdiff.anatomy.files import AnatomyFiles, anatomy_files, check_anatomy, write_anatomy
from verdiff.anatomy.levels import parse_level
from verdiff.anatomy.mesh_files import write_stl, write_vtp
from verdiff.anatomy.roles import Roles, roles_of
from verdiff.anatomy.spine import Spine, Vertebra
from verdiff.anatomy.surface import Surface, surface_of
from verdiff.anatomy.vertebrae import find_vertebrae

__all__ = [
    "AnatomyFiles",
    "Roles",
    "Spine",
    "Surface",
    "Vertebra",
    "anatomy_files",
    "check_anatomy",
    "find_vertebrae",
    "parse_level",
    "roles_of",
    "surface_of",
    "write_anatomy",
    "write_stl",
    "write_vtp",
]
