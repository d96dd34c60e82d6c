"""Segment a scan from an application: load once, show better masks as they come, keep the last.

python examples/python/embed.py examples/mr_t2_sample.nii.gz
"""

from __future__ import annotations

import argparse
from pathlib import Path

from verdiff.imaging import read_volume, write_array
from verdiff.runtime import Segmenter


def main() -> None:
    """Read the scan, stream its masks, write the last one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path)
    parser.add_argument("--output", type=Path, default=Path("mask.nii.gz"))
    arguments = parser.parse_args()

    # Once: verifies the bundle's checksums, compares the networks with the bundle's own test case, warms them up.
    segmenter = Segmenter.load("spine-mr")
    volume = read_volume(arguments.scan)

    for partial in segmenter.stream(volume):  # the prior's mask first, then after more and more samples
        volumes = ", ".join(f"{name} {millilitres:.1f} ml" for name, millilitres in partial.volumes_ml().items())
        print(f"{partial.outcome} after {partial.timings['total']:.2f} s: {volumes}")
        result = partial

    uncertain = float((result.uncertainty > 127).mean())  # uint8 [z, y, x]: 0 is sure, 255 is undecided
    print(f"{100 * uncertain:.2f} % of the voxels are more uncertain than not")
    write_array(result.labels, volume, arguments.output)
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
