"""Images in and out: one `Volume` type, its geometry, slicing, intensities, previews.

Arrays are [z, y, x] and positions are LPS millimetres, as in ITK. SimpleITK is imported by the functions that need it.
"""

from verdiff.imaging.accepting import volume_from
from verdiff.imaging.atomic import atomic_path
from verdiff.imaging.borders import sides_cut
from verdiff.imaging.intensity import IntensityRule, intensity_bounds, normalise
from verdiff.imaging.reading import read_labels, read_volume
from verdiff.imaging.resample import resize_matrix, resize_planes
from verdiff.imaging.slicing import SlicePlan, acquisition_view, plan_slices
from verdiff.imaging.volume import Geometry, Volume
from verdiff.imaging.volume_files import write_array

__all__ = [
    "Geometry",
    "IntensityRule",
    "SlicePlan",
    "Volume",
    "acquisition_view",
    "atomic_path",
    "intensity_bounds",
    "normalise",
    "plan_slices",
    "read_labels",
    "read_volume",
    "resize_matrix",
    "resize_planes",
    "sides_cut",
    "volume_from",
    "write_array",
]
