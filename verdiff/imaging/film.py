"""Films in PNG and JPEG files: grey values as they are stored, in the picture as it is stored."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

from verdiff.errors import InputError
from verdiff.imaging import checks
from verdiff.imaging.itk import path_for_itk, reason, simpleitk
from verdiff.imaging.quiet import heard
from verdiff.imaging.volume import FILM, Geometry, Volume
from verdiff.imaging.voxels import damaged, most_bytes

# The tag of EXIF that says how a viewer turns a picture, and its words; 1 is as stored.
_ORIENTATION = 0x0112
_TURNED = {
    2: "mirrored",
    3: "turned by 180 degrees",
    4: "turned by 180 degrees and mirrored",
    5: "turned by 90 degrees and mirrored",
    6: "turned by 90 degrees",
    7: "turned by 270 degrees and mirrored",
    8: "turned by 270 degrees",
}
# Modes of Pillow that are no single grey value.
_COLOURS = {"LA": "grey and transparency", "PA": "a palette of colours and transparency", "P": "a palette of colours"}


def read(path: Path) -> Volume:
    """A film. It has no scale: its pixel counts as 1 mm.

    Raises:
        InputError: If it is damaged or in colour, claims more than it holds, or is to be shown turned.
    """
    sitk = simpleitk()

    reader = sitk.ImageFileReader()
    reader.SetFileName(path_for_itk(path))
    kind, notes = _looked_at(path)
    # Told by content: ITK goes by the suffix, and by its letter case.
    reader.SetImageIO("PNGImageIO" if kind == "PNG" else "JPEGImageIO")
    try:
        with heard(path):
            image = reader.Execute()
    except RuntimeError as error:
        raise InputError(
            f"{path} is truncated, damaged or not an image ({reason(error)})",
            "a complete image file",
            "copy or export it again",
        ) from error
    checks.check_scalar(image.GetNumberOfComponentsPerPixel(), str(path))
    if image.GetDimension() != 2:
        raise damaged(path, f"it has {image.GetDimension()} dimensions, though its name is a film's")
    array = sitk.GetArrayFromImage(image)[None]
    # The resolution stored in such files is a printer's, not the detector's.
    geometry = Geometry((array.shape[2], array.shape[1], 1), (1.0, 1.0, 1.0), oriented=False)
    return Volume(array, geometry, FILM, path, notes=notes)


def _refuse_claims(path: Path, kind: str, width: int, height: int) -> None:
    """Refuse a film that is of another kind than its name says, or claims more pixels than its file can hold.

    Raises:
        InputError: It is or does.
    """
    if kind not in ("PNG", "JPEG", "MPO"):
        raise damaged(path, f"it holds {kind}, though its name is a PNG's or JPEG's")
    if height * math.ceil(width * _bits(path, kind) / 8) > most_bytes(path, "zlib"):
        raise damaged(path, f"its header claims {width} x {height} pixels, more than {path.stat().st_size} bytes hold")


def _bits(path: Path, kind: str) -> int:
    """Bits that a pixel takes in the file before compression, at least."""
    if kind != "PNG":
        return 8
    with path.open("rb") as file:
        # Behind the signature, the first chunk's length and name, the width and the height.
        return file.read(25)[24]


def _looked_at(path: Path) -> tuple[str, tuple[str, ...]]:
    """PNG or JPEG, and what has to be said, once a film's claims are compared with what its file can hold."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # The claim is judged here, by the file's own length.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                kind, mode, frames = str(image.format), image.mode, int(getattr(image, "n_frames", 1))
                _refuse_claims(path, kind, *image.size)
                # Asked for its EXIF, Pillow decodes a PNG.
                transparent, turned = "transparency" in image.info, image.getexif().get(_ORIENTATION, 1)
    except Image.DecompressionBombError as error:
        raise damaged(path, f"its header claims more pixels than any film has ({error})") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(
            f"{path} is truncated, damaged or not an image ({type(error).__name__})",
            "a complete PNG or JPEG",
            "copy or export it again",
        ) from error
    if mode in _COLOURS or transparent:
        raise InputError(
            f"{path} has more than a grey value a pixel ({_COLOURS.get(mode, 'a transparent one among them')})",
            "one grey value a pixel",
            "save it as a greyscale image without transparency",
        )
    if turned in _TURNED:
        raise InputError(
            f"{path} is stored {_TURNED[turned]}: its EXIF orientation is {turned}, by which viewers turn it back",
            "a picture that is stored as it is shown",
            "save it turned and without that field, for example with exiftran -a or ImageMagick's -auto-orient",
        )
    if kind != "PNG":
        # The decoder fills what is missing with grey and says so only on the terminal.
        data = path.read_bytes()
        if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
            raise damaged(path, "the JPEG ends before its end marker")
    return kind, (f"it holds {frames} pictures, of which the first is taken",) if frames > 1 else ()
