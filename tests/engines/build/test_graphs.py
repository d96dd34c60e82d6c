"""What each engine is built from, and what its inputs may be."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.engines.build.graphs import convolution
from verdiff.bundle import Bundle, graph_name
from verdiff.engines import Bucket, TensorRange
from verdiff.engines.build.graphs import engine_graph, engine_roles, profile_of
from verdiff.errors import BackendError

BUCKET = Bucket(320, 256, 1, 5, 25)


def ranges(both: Bundle, role: str) -> dict[str, TensorRange]:
    profile = profile_of(engine_graph(both, role, "fp32"), BUCKET, both.manifest)
    assert profile.bucket.size == "320x256"
    return {each.name: each for each in profile.ranges}


def test_the_step_is_made_of_the_stored_denoiser(both: Bundle) -> None:
    graph = engine_graph(both, "step", "fp16")
    assert graph.sha256 == both.manifest.files[graph_name("denoiser", "fp16")]
    assert {tensor.name for tensor in graph.tensors() if tensor.mode == "output"} == {"x_next", "x0hat"}
    assert engine_roles(both) == ("prior", "step")


def test_weights_are_plain_and_every_node_has_a_name(both: Bundle) -> None:
    for role in ("prior", "step", "pipeline"):
        graph = engine_graph(both, role, "fp32").model.graph
        stored = {tensor.name for tensor in graph.initializer}
        assert not [node.name for node in graph.node if node.op_type == "Cast" and node.input[0] in stored]
        names = [node.name for node in graph.node]
        assert all(names) and len(set(names)) == len(names)


def test_a_profile_takes_every_slice_up_to_its_bucket_and_is_tuned_for_full_ones(both: Bundle) -> None:
    step = both.manifest.multiple
    assert ranges(both, "prior") == {
        "image": TensorRange("image", (1, 1, step, step), (5, 1, 320, 256), (25, 1, 320, 256))
    }
    found = ranges(both, "step")
    assert found["x"] == TensorRange("x", (1, 3, step, step), (5, 3, 320, 256), (25, 3, 320, 256))
    assert found["timestep"] == TensorRange("timestep", (1,), (5,), (25,))
    for feature in both.manifest.features:
        rows, cols, least = 320 // feature.stride, 256 // feature.stride, step // feature.stride
        assert found[feature.name].minimum == (1, feature.channels, least, least)
        assert found[feature.name].maximum == (25, feature.channels, rows, cols)
    # The row has one shape always, so no profile speaks of it.
    assert set(found) == {"x", "timestep", "prior", "noise", "previous", *(f.name for f in both.manifest.features)}


def test_the_pipeline_s_profile_has_the_numbers_of_its_size(both: Bundle) -> None:
    found = ranges(both, "pipeline")
    assert found["size"] == TensorRange("size", (1, 1), (320, 256), (320, 256), values=True)
    samples = both.manifest.defaults.samples
    assert found["noise"].maximum == (samples, 25 // samples, 3, 320, 256)
    assert found["slices"].maximum[1:] >= (320, 256)
    assert "bounds" not in found


def test_a_pipeline_in_bf16_is_refused(both: Bundle) -> None:
    with pytest.raises(BackendError, match="pipeline in bf16"):
        engine_graph(both, "pipeline", "bf16")


def test_only_weights_count_as_weights() -> None:
    graph = convolution(np.float16)
    graph.model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(99, np.int64), "indices"))
    assert {each.dtype.name for each in graph.weights()} == {"float16"}
