"""The naive loop computes what the runtime does, only naively: the same chain, in float64, with other noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest

from studies.library.naive_loop import naive_answer
from tests.runtime.tiny_bundle import NumpyBackend, write_tiny
from verdiff.bundle import Bundle, open_bundle
from verdiff.diffusion import make_table, run_loop


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_bundle(write_tiny(tmp_path_factory.mktemp("bundle") / "tiny.verdiff"))


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (2, 1, 24, 20)).astype(np.float32)


def drawn_by_the_naive_loop(bundle: Bundle, steps: int, count: int, shape: tuple[int, ...]) -> list[np.ndarray]:
    random = np.random.default_rng(bundle.manifest.defaults.seed)
    return [random.standard_normal(shape) for _ in range((steps + 1) * count)]


@pytest.mark.parametrize(("sampler", "eta"), [("ddim", 0.0), ("ddim", 1.0), ("dpmpp-2m", 0.0)])
def test_the_chain_is_the_host_loop_s(bundle: Bundle, images: np.ndarray, sampler: Any, eta: float) -> None:
    table = make_table(bundle.manifest.process, sampler=sampler, steps=4, eta=eta)
    found = naive_answer(bundle, table, 1, threads=1)(images, [0, 1])
    backend = NumpyBackend()
    drawn = drawn_by_the_naive_loop(bundle, 4, 2, (1, 3, 24, 20))
    for index, image in enumerate(images):
        prior, features = backend.prior(image[None])
        noise = drawn[5 * index : 5 * index + 5]
        expected = run_loop(
            lambda x, t, p=prior, f=features: backend.denoise(x, t, p, f),  # type: ignore[misc]
            table,
            prior,
            lambda step, n=noise: n[step].astype(np.float32),  # type: ignore[misc]
        )
        np.testing.assert_allclose(found[index], (expected[0] + 1) / 2, atol=2e-5)


def test_every_sample_asks_for_the_prior_again(
    bundle: Bundle, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []

    class Counted:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.session, self.calls = onnxruntime_session(*args, **kwargs), 0
            opened.append(self)

        def run(self, *args: Any) -> Any:
            self.calls += 1
            return self.session.run(*args)

    onnxruntime_session = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", Counted)
    table = bundle.manifest.table
    naive_answer(bundle, table, 2, threads=1)(images, [0, 1])
    assert [session.calls for session in opened] == [2 * 2, 2 * 2 * len(table)]
