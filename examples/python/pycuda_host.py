"""A pycuda program that segments slices where they are: its own context, stream and memory; nothing passes the host.

    pip install '.[tensorrt,pycuda]' && verdiff build
    python examples/python/pycuda_host.py examples/mr_t2_sample.nii.gz

It has not run on a GPU yet; tests/interop/test_pycuda.py runs it against a recording context.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pycuda.autoinit
import pycuda.driver as cuda
import pycuda.gpuarray as gpuarray

from verdiff.imaging import intensity_bounds, plan_slices, read_volume
from verdiff.interop.pycuda import PycudaHost


def main() -> None:
    """Upload a scan's slices with pycuda, segment them on its stream, count the labels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path)
    parser.add_argument("--model", default="spine-mr")
    parser.add_argument("--backend", default="tensorrt", choices=["tensorrt", "tensorrt-rtx"])
    parser.add_argument("--precision", default="fp32")
    arguments = parser.parse_args()

    stream = cuda.Stream()
    host = PycudaHost(pycuda.autoinit.context, stream)
    segmenter = host.load(arguments.model, device="cuda:0", backend=arguments.backend, precision=arguments.precision)

    # In a real host the slices are on the device already: a volume being rendered, or one just reconstructed.
    volume = read_volume(arguments.scan)
    plan = plan_slices(volume.geometry, view=segmenter.manifest.view, spacing_mm=segmenter.manifest.spacing_mm)
    planes = np.ascontiguousarray(plan.extract(volume.array), np.float32)
    bounds = intensity_bounds(volume.array, segmenter.manifest.intensity)
    slices = gpuarray.to_gpu_async(planes, stream=stream)

    with host.session(segmenter, planes.shape, plan.pixel_spacing_mm) as session:
        answer = session.segment(slices, bounds)  # returns at once: the work is on the stream
        labels = host.gpuarray(answer.labels)  # pycuda's array on verdiff's memory
        answer.wait()
        found = labels.get()
        for label in segmenter.manifest.labels:
            print(f"{label.name}: {np.count_nonzero(found == label.id)} voxels")
    segmenter.close()


if __name__ == "__main__":
    main()
