"""A mask's bits depend on model, scan and sampling, and on nothing about how the work was split."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.runtime.scans import mr_scan, numpy_segmenter
from tests.runtime.tiny_bundle import NumpyBackend
from verdiff.choices import BACKENDS
from verdiff.imaging import Volume
from verdiff.runtime import Segmentation, Segmenter


def same(first: Segmentation, second: Segmentation) -> bool:
    return (
        np.array_equal(first.labels, second.labels)
        and np.array_equal(first.uncertainty, second.uncertainty)
        and all(
            np.array_equal(first.probabilities(label.name), second.probabilities(label.name))
            for label in first.label_table
        )
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_chunk_size_and_threads_do_not_change_a_bit(bundle_path: Path, backend: str) -> None:
    scan = mr_scan()
    first = Segmenter.load(bundle_path, backend=backend, threads=1, chunk=1).segment(scan)
    for threads, chunk in ((2, 1), (1, 2), (2, 3), (1, 5), (2, 64)):
        segmenter = Segmenter.load(bundle_path, backend=backend, threads=threads, chunk=chunk, self_test=False)
        assert same(segmenter.segment(scan), first), (threads, chunk)


def test_numpys_own_threads_do_not_change_a_bit() -> None:
    """BLAS splits large products among its threads and rounds differently; resampling must not give it one."""
    digests = set()
    for threads in ("1", "2", "3"):
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
        command = [sys.executable, "-m", "tests.runtime.blas_bits"]
        found = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        digests.add(found.stdout)
    assert len(digests) == 1


@pytest.mark.parametrize("fusion", ["mean", "steps", "steps-published", "staple"])
@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_chunk_size_does_not_change_a_bit_for_any_sampling(fusion: str, sampler: str) -> None:
    scan = mr_scan()
    masks = [
        numpy_segmenter(chunk=chunk).segment(scan, samples=3, fusion=fusion, sampler=sampler) for chunk in (1, 2, 5)
    ]
    assert same(masks[0], masks[1])
    assert same(masks[0], masks[2])


def test_a_slice_does_not_know_its_neighbours() -> None:
    """Cut to its first slices, a scan keeps their probabilities: noise is bound to the slice, bounds are given."""
    window = {"intensity": {"kind": "window", "low": 0.0, "high": 1600.0}}
    whole = numpy_segmenter(chunk=4, **window).segment(mr_scan(5))
    scan = mr_scan(5)
    # Canonical slice 0 is the patient's right, which is this scan's last plane.
    geometry = replace(
        scan.geometry,
        size=(*scan.geometry.size[:2], 2),
        origin_mm=tuple(float(v) for v in scan.geometry.index_to_mm((0, 0, 3))),
    )
    part = numpy_segmenter(chunk=1, **window).segment(Volume(scan.array[-2:], geometry))
    assert np.array_equal(part.labels, whole.labels[-2:])


@pytest.mark.parametrize("batch", [2, 3, 8])
def test_every_call_has_the_backends_batch_size(batch: int) -> None:
    backend = NumpyBackend(batch)
    result = numpy_segmenter(backend).segment(mr_scan(), samples=3)
    assert set(backend.calls) == {batch}
    assert same(result, numpy_segmenter().segment(mr_scan(), samples=3))


def test_samples_are_nested() -> None:
    """The first sample of four is the one sample of one: adding samples never replaces the earlier ones."""
    segmenter, scan = numpy_segmenter(), mr_scan()
    streamed = list(segmenter.stream(scan, samples=4))
    for partial, samples in zip(streamed[1:], (1, 2, 4), strict=True):
        assert partial.provenance["reached"]["samples"] == [samples, samples]
        assert same(partial, segmenter.segment(scan, samples=samples))


@pytest.mark.parametrize("fusion", ["mean", "steps", "steps-published", "staple"])
def test_the_stream_starts_with_the_prior_and_ends_with_the_answer(fusion: str) -> None:
    segmenter, scan = numpy_segmenter(chunk=2), mr_scan()
    streamed = list(segmenter.stream(scan, samples=3, fusion=fusion))
    assert [partial.outcome for partial in streamed] == ["prior", "sampling", "sampling", "complete"]
    assert same(streamed[0], segmenter.segment(scan, prior_only=True))
    assert same(streamed[-1], segmenter.segment(scan, samples=3, fusion=fusion))


def test_calls_share_nothing(bundle_path: Path) -> None:
    segmenter = Segmenter.load(bundle_path, backend="onnxruntime", threads=1)
    first = segmenter.segment(mr_scan())
    segmenter.segment(mr_scan(3, 60, 25), seed=4)
    assert same(segmenter.segment(mr_scan()), first)


def test_features_not_kept_give_the_same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    from verdiff.runtime import memory

    segmenter, scan = numpy_segmenter(), mr_scan()
    expected = segmenter.segment(scan, samples=4)
    monkeypatch.setattr(memory, "KEEP_BYTES", 0)
    streamed = list(segmenter.stream(scan, samples=4))
    assert [partial.outcome for partial in streamed] == ["prior", "complete"]
    assert same(streamed[-1], expected)


@pytest.mark.parametrize("sides", [((0, 0), (3, 0), (0, 0)), ((1, 2), (0, 5), (7, 1)), ((0, 0), (40, 40), (40, 40))])
def test_uniform_margins_do_not_change_a_bit(sides: tuple[tuple[int, int], ...]) -> None:
    scan = mr_scan()
    padded = np.pad(scan.array, sides, constant_values=scan.array.min())
    geometry = replace(scan.geometry, size=(padded.shape[2], padded.shape[1], padded.shape[0]))
    segmenter = numpy_segmenter()
    plain = segmenter.segment(scan)
    framed = segmenter.segment(replace(scan, array=padded, geometry=geometry), force=True)
    assert framed.geometry == geometry
    np.testing.assert_array_equal(framed.labels, np.pad(plain.labels, sides))
    np.testing.assert_array_equal(framed.uncertainty, np.pad(plain.uncertainty, sides))
