"""A graph that says it is written in an older set of ONNX's operators: some libraries have kernels for that one alone.

ONNX Runtime looks a kernel up by the version of the operator that a graph's operator set names. Its WebGPU provider
(up to 1.27) has AveragePool of version 11, which stands in operator sets up to 18; a graph in set 19 or 20 has version
19, another attribute the richer, and is computed on the processor. What a graph does not use of the newer versions it
loses nothing of. A library refuses attributes that the older version does not have, and the self-test compares.

The number is changed in the file's own bytes (protocol buffers), without the ``onnx`` package, which a lean runtime
does not have.
"""

from __future__ import annotations

from collections.abc import Iterator

from verdiff.diffusion.step_graph import varint

# Fields of ModelProto and OperatorSetIdProto in onnx.proto, and of the wire format the kinds of a value.
OPERATOR_SETS, DOMAIN, VERSION = 8, 1, 2
VARINT, FIXED_64, LENGTH, FIXED_32 = 0, 1, 2, 5
ONNX_DOMAINS = (b"", b"ai.onnx")


def declared_at_most(graph: bytes, version: int) -> bytes:
    """``graph`` with ``version`` as its set of ONNX's operators, if it names a newer one; itself if it cannot be read.

    Args:
        graph: A serialised ModelProto.
        version: An operator set, such as 18.
    """
    parts: list[bytes] = []
    try:
        for field, begin, start, end in _fields(graph):
            body = graph[start:end]
            if field == OPERATOR_SETS and _of_onnx(body) and _version(body) > version:
                body = _with_version(body, version)
                parts.append(varint(OPERATOR_SETS << 3 | LENGTH) + varint(len(body)) + body)
            else:
                parts.append(graph[begin:end])
    except (IndexError, ValueError):
        # Whoever loads it says what is wrong with it.
        return graph
    return b"".join(parts)


def _of_onnx(body: bytes) -> bool:
    domains = [body[start:end] for field, _, start, end in _fields(body) if field == DOMAIN]
    return (domains[-1] if domains else b"") in ONNX_DOMAINS


def _version(body: bytes) -> int:
    return max((_read(body, start)[0] for field, _, start, _ in _fields(body) if field == VERSION), default=0)


def _with_version(body: bytes, version: int) -> bytes:
    others = (body[begin:end] for field, begin, _, end in _fields(body) if field != VERSION)
    return b"".join(others) + varint(VERSION << 3 | VARINT) + varint(version)


def _fields(message: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Number of each field, and where it begins, where its value begins, and where that ends."""
    at = 0
    while at < len(message):
        begin = at
        tag, at = _read(message, at)
        kind = tag & 7
        if kind == VARINT:
            start, at = at, _read(message, at)[1]
        elif kind == LENGTH:
            length, start = _read(message, at)
            at = start + length
        elif kind in (FIXED_64, FIXED_32):
            start, at = at, at + (8 if kind == FIXED_64 else 4)
        else:
            raise ValueError(f"wire type {kind}")
        if at > len(message):
            raise ValueError("cut short")
        yield tag >> 3, begin, start, at


def _read(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(message) or shift > 63:
            raise ValueError("no number")
        value |= (message[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not message[at - 1] & 0x80:
            return value, at
