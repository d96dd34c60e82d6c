"""Damaged copies of sound files, and what the readers make of them.

``python -m tests.imaging.fuzzing COUNT [SEED]`` runs so many and prints the figures; a few run in the tests.
"""

from __future__ import annotations

import gzip
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from tests.imaging.make import nifti_bytes, packed, save_dicom, save_enhanced, textured
from verdiff.errors import InputError
from verdiff.imaging import read_volume

SHAPE = (4, 16, 12)
ARRAY = textured(SHAPE)
SLOWEST_S = 2.0


@dataclass(frozen=True)
class Seed:
    """A sound file: its bytes, where its voxels begin (None where they are packed), and its intensities."""

    data: bytes
    voxels: int | None
    array: np.ndarray

    @property
    def checked(self) -> bool:
        """Whether a checksum covers every voxel."""
        return self.data[:2] == b"\x1f\x8b" or b"encoding: gz" in self.data or b"CompressedData = True" in self.data


@dataclass
class Figures:
    """What came of the damaged files."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest_s: float = 0.0


def seeds(folder: Path) -> dict[str, Seed]:
    """A small sound file of every format and encoding, by the name it is read under."""
    image = sitk.GetImageFromArray(ARRAY)
    image.SetSpacing((0.5, 0.75, 3.0))
    image.SetDirection((0, 0, -1, 1, 0, 0, 0, -1, 0))
    plane = sitk.GetImageFromArray(ARRAY[0].astype(np.uint8))
    header = {"pixdim": (1.0, 0.5, 0.75, 3.0, 0, 0, 0, 0), "qoffset": (7.0, -8.0, 9.0)}
    (folder / "a.nii").write_bytes(nifti_bytes(ARRAY, **header))
    (folder / "big.nii").write_bytes(nifti_bytes(ARRAY, ">", slope=2.0, intercept=-7.0, **header))
    (folder / "a.nii.gz").write_bytes(gzip.compress(nifti_bytes(ARRAY, **header)))
    for name in ("a.nrrd", "z.nrrd", "a.mha", "z.mha"):
        sitk.WriteImage(image, str(folder / name), useCompression=name[0] == "z")
    for name in ("a.png", "a.jpg"):
        sitk.WriteImage(plane, str(folder / name))
    places = [-3.0 * index for index in range(SHAPE[0])]
    save_dicom(folder / "a.dcm", ARRAY[0])
    save_dicom(folder / "implicit.dcm", ARRAY[0], syntax="1.2.840.10008.1.2", RescaleSlope=2, RescaleIntercept=-9)
    save_enhanced(folder / "enhanced.dcm", ARRAY, places)
    save_enhanced(folder / "deflated.dcm", ARRAY, places, syntax="1.2.840.10008.1.2.1.99")
    for how in ("RLE", "JPEG", "JPEG2000"):
        packed(save_enhanced(folder / f"{how}.dcm", ARRAY, places), how)
    found = {}
    for path in sorted(folder.iterdir()):
        data, array = path.read_bytes(), read_volume(path).array
        raw = (array if "big" not in path.name else ((array + 7) / 2)).astype(">i2" if "big" in path.name else "<i2")
        start = data.find(raw.tobytes())
        found[path.name] = Seed(data, start if start > 0 else None, array)
    return found


def mutated(data: bytes, chosen: np.random.Generator) -> bytes:
    """One to eight damages: bits and bytes changed (the header above all), parts cut, doubled, zeroed or put in."""
    result = bytearray(data)
    for _ in range(int(chosen.integers(1, 9)) if chosen.random() < 0.4 else 1):
        size = len(result)
        if size < 2:
            break
        reach = min(size, 600) if chosen.random() < 0.7 else size
        at, length = int(chosen.integers(reach)), int(chosen.integers(1, 40))
        match int(chosen.integers(8)):
            case 0 | 1 | 2:
                result[at] ^= 1 << int(chosen.integers(8))
            case 3:
                result[at] = int(chosen.choice([0, 1, 0x20, 0x30, 0x39, 0x7F, 0x80, 0xFF]))
            case 4:
                result[at : at + length] = bytes([int(chosen.choice([0, 0x7F, 0xFF]))]) * len(result[at : at + length])
            case 5:
                del result[at : at + length]
            case 6:
                result[at:at] = result[at : at + length]
            case 7:
                del result[int(chosen.integers(size)) :]
    return bytes(result)


def judged(path: Path, seed: Seed, data: bytes) -> tuple[str, str]:
    """What the readers make of a damaged file, and what is wrong with that: nothing if all is well."""
    path.write_bytes(data)
    try:
        volume = read_volume(path)
    except InputError as error:
        return "refused", "" if error.found and error.expected and error.remedy else "an error without its three lines"
    except Exception as error:  # whatever else comes out is the finding
        return "failed", f"{type(error).__name__}: {error}"
    if volume.array.shape != volume.geometry.shape or not np.isfinite(volume.array).all():
        return "failed", "an array that does not fit its grid, or is not finite"
    if seed.checked and volume.array.shape == seed.array.shape and _header_apart(path, seed, data):
        return "read", "" if np.array_equal(volume.array, seed.array) else "voxels that a checksum covers are others"
    if seed.voxels is not None and len(data) == len(seed.data) and data[: seed.voxels] == seed.data[: seed.voxels]:
        before = np.frombuffer(seed.data, np.uint8, offset=seed.voxels)[: seed.array.size * 2].reshape(-1, 2)
        after = np.frombuffer(data, np.uint8, offset=seed.voxels)[: seed.array.size * 2].reshape(-1, 2)
        same = (before == after).all(axis=1)
        kept = np.array_equal(volume.array.ravel()[same], seed.array.ravel()[same])
        return "read", "" if kept else "a voxel that was not damaged is another"
    return "read", ""


def _header_apart(path: Path, seed: Seed, data: bytes) -> bool:
    """Whether what lies outside of the checksum, a text header, is as it was."""
    if path.name.endswith(".gz"):
        return True
    end = {".nrrd": b"\n\n", ".mha": b"LOCAL\n"}[path.suffix]
    cut = seed.data.find(end) + len(end)
    return data[:cut] == seed.data[:cut]


def run(count: int, number: int = 0, *, log: Path | None = None) -> Figures:
    """Read ``count`` damaged files, the formats in turn.

    Args:
        count: Of files.
        number: Of the random numbers.
        log: Keeps the file that is being read, for a reader that ends the process.
    """
    chosen, figures = np.random.default_rng(number), Figures()
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "sound").mkdir()
        sound = seeds(Path(name) / "sound")
        for index in range(count):
            file, seed = list(sound.items())[index % len(sound)]
            data = mutated(seed.data, chosen)
            if log is not None:
                log.write_bytes(file.encode() + b"\n" + data)
            begun = time.perf_counter()
            outcome, wrong = judged(Path(name) / file, seed, data)
            spent = time.perf_counter() - begun
            figures.outcomes[f"{file}: {outcome}"] += 1
            figures.slowest_s = max(figures.slowest_s, spent)
            if wrong or spent > SLOWEST_S:
                figures.failures.append(f"{file}, number {index} of seed {number}: {wrong or f'{spent:.1f} s'}")
    return figures


def main() -> None:
    """Run as many as the command line says and print the figures."""
    count, number = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    begun = time.perf_counter()
    figures = run(count, number, log=Path(tempfile.gettempdir()) / f"fuzzing-{number}.last")
    for outcome, times in sorted(figures.outcomes.items()):
        print(f"{outcome:<24} {times}")
    print(f"{count} files in {time.perf_counter() - begun:.0f} s, the slowest in {figures.slowest_s:.3f} s")
    if sys.platform == "linux":
        import resource

        print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MB")
    print("\n".join(figures.failures[:50]) or "no failure")


if __name__ == "__main__":
    main()
