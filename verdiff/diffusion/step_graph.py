"""The ``step`` graph: the denoiser with the sampler's update behind it, so that x never leaves the device.

    x_next = row[0] x + row[1] x0hat + row[2] prior + row[3] noise + row[4] previous

The row is an input: one graph, and one engine made of it, serves every sampler and every number of steps. It is made
where a network is loaded or an engine is built, and is never part of a bundle.

The update is the same few hundred bytes behind every denoiser, in whatever precision that computes: in protocol buffers
the bytes of two messages, one behind the other, are the two messages merged. So it is made without the ``onnx``
package, which a lean runtime does not have.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache

FLOAT, INT64 = 1, 7
COEFFICIENTS = 5
# Fields of ModelProto, GraphProto, NodeProto, TensorProto and ValueInfoProto in onnx.proto.
GRAPH = 7
NODE, INITIALIZER, INPUT, OUTPUT = 1, 5, 11, 12
NODE_INPUT, NODE_OUTPUT, NODE_NAME, OPERATOR = 1, 2, 3, 4
DIMENSIONS, DATA_TYPE, TENSOR_NAME, RAW_DATA = 1, 2, 8, 9
VALUE_NAME, VALUE_TYPE, TENSOR_TYPE, ELEMENT, SHAPE, DIMENSION, DIMENSION_VALUE = 1, 2, 1, 1, 2, 1, 1

TERMS = ("x", "x0hat", "prior", "noise", "previous")


def step_graph(denoiser: bytes) -> bytes:
    """A serialised ``denoiser`` graph with the update behind it.

    Inputs beside the denoiser's own: ``row`` [5], ``noise`` [N, K, H, W], and ``previous`` [N, K, H, W], the x0hat of
    the step before. Output beside ``x0hat``: ``x_next`` [N, K, H, W]. The update is float32 and wants a denoiser whose
    ``x``, ``prior`` and ``x0hat`` are. ``noise`` and ``previous`` must hold finite numbers even where their coefficient
    is zero: nothing is left out.
    """
    return denoiser + update()


@cache
def update() -> bytes:
    """What stands behind every denoiser.

    The sum goes from left to right, as :func:`verdiff.diffusion.run_loop` adds. Every product rounds to float32.
    """
    scalars = [f"step.row_{i}" for i in range(COEFFICIENTS)]
    ones = struct.pack(f"<{COEFFICIENTS}q", *([1] * COEFFICIENTS))
    nodes = [_node("Split", ["row", "step.ones"], scalars)]
    total = ""
    for i, (term, scalar) in enumerate(zip(TERMS, scalars, strict=True)):
        last = i == len(TERMS) - 1
        product = f"step.product_{i}"
        nodes.append(_node("Mul", [term, scalar], [product]))
        if total:
            nodes.append(_node("Add", [total, product], ["x_next" if last else f"step.sum_{i}"]))
        total = f"step.sum_{i}" if total else product
    graph = b"".join(_bytes(NODE, node) for node in nodes)
    graph += _bytes(
        INITIALIZER,
        _number(DIMENSIONS, COEFFICIENTS)
        + _number(DATA_TYPE, INT64)
        + _bytes(TENSOR_NAME, b"step.ones")
        + _bytes(RAW_DATA, ones),
    )
    graph += _bytes(INPUT, _value("row", [COEFFICIENTS]))
    graph += b"".join(_bytes(INPUT, _value(name, [None] * 4)) for name in ("noise", "previous"))
    graph += _bytes(OUTPUT, _value("x_next", [None] * 4))
    return _bytes(GRAPH, graph)


def _node(operator: str, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    parts = [_bytes(NODE_INPUT, name.encode()) for name in inputs]
    parts += [_bytes(NODE_OUTPUT, name.encode()) for name in outputs]
    parts += [_bytes(NODE_NAME, f"step/{outputs[0]}".encode()), _bytes(OPERATOR, operator.encode())]
    return b"".join(parts)


def _value(name: str, shape: Sequence[int | None]) -> bytes:
    """A float32 tensor's declaration; None is a dimension of any length."""
    dimensions = b"".join(
        _bytes(DIMENSION, b"" if length is None else _number(DIMENSION_VALUE, length)) for length in shape
    )
    tensor = _number(ELEMENT, FLOAT) + _bytes(SHAPE, dimensions)
    return _bytes(VALUE_NAME, name.encode()) + _bytes(VALUE_TYPE, _bytes(TENSOR_TYPE, tensor))


def _bytes(field: int, payload: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(payload)) + payload


def _number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def varint(value: int) -> bytes:
    """A whole number, 0 or more, as protocol buffers write it: seven bits a byte, the lowest first."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
