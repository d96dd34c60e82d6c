"""Gzip streams: what Python's own gzip module packs and unpacks, in pieces of any size, and damage that is noticed."""

from __future__ import annotations

import gzip
import io
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verdiff.imaging import gzipped as module
from verdiff.imaging.gzipped import GzipReader, gzipped

TEXT = bytes(np.random.default_rng(0).integers(0, 4, 50_000, np.uint8)) + bytes(70_000)


def unpacked(packed: bytes, size: int = 4096) -> bytes:
    reader, view, found = GzipReader(io.BytesIO(packed)), memoryview(bytearray(size)), b""
    while count := reader.readinto(view):
        found += view[:count]
    return found


@settings(max_examples=30)
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4), st.integers(1, 400), st.integers(1, 50))
def test_one_member_after_another_is_read_in_pieces_of_any_size(parts: list[bytes], size: int, block: int) -> None:
    packed = b"".join(gzip.compress(part) for part in parts) + bytes(7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", block)
        assert unpacked(packed, size) == b"".join(parts)


@pytest.mark.parametrize("level", [0, 1, 9])
def test_what_is_packed_tightly_or_loosely_is_read(level: int) -> None:
    assert unpacked(gzip.compress(TEXT, level)) == TEXT


@pytest.mark.parametrize("end", [-1, -8, -9, 5000, 12, 5])
def test_a_stream_that_ends_early_is_noticed(end: int) -> None:
    with pytest.raises(EOFError):
        unpacked(gzip.compress(TEXT)[:end])


@pytest.mark.parametrize("where", [-8, -5])
def test_a_checksum_or_length_that_differs_is_noticed(where: int) -> None:
    packed = bytearray(gzip.compress(TEXT))
    packed[where] ^= 1
    with pytest.raises(zlib.error):
        unpacked(bytes(packed))


def test_what_follows_and_is_no_member_is_noticed() -> None:
    with pytest.raises(zlib.error):
        unpacked(gzip.compress(TEXT) + b"\0\0more")


def test_packed_parts_are_one_member_that_anyone_unpacks_and_always_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [memoryview(b"a header"), memoryview(TEXT)]
    packed = b"".join(gzipped(*parts))
    assert gzip.decompress(packed) == b"a header" + TEXT
    assert len(packed) < len(TEXT) / 5
    once = zlib.decompressobj(31)
    assert once.decompress(packed) == b"a header" + TEXT and once.eof and not once.unused_data
    assert b"".join(gzipped(*parts)) == packed
    # No time, name or operating system of the writer's own.
    assert packed[3:8] == bytes(5)
