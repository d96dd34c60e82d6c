"""Films in PNG and JPEG: what is not one upright grey picture is refused by its own name, or said."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from verdiff.errors import InputError
from verdiff.imaging import read_labels, read_volume

GREY = (np.add.outer(np.arange(40) * 3, np.arange(30) * 2) % 256).astype("u1")


def png(
    path: Path,
    *chunks: tuple[bytes, bytes],
    depth: int = 8,
    rows: list[bytes] | None = None,
    size: tuple[int, int] = (30, 40),
) -> Path:
    """A grey PNG of GREY, or of rows of a picture of another size, with further chunks before its pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = [bytes(row) for row in GREY] if rows is None else rows
    head = chunk(b"IHDR", struct.pack(">2I5B", *size, depth, 0, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + head + b"".join(chunk(*each) for each in chunks) + body + chunk(b"IEND", b"")
    )
    return path


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
@pytest.mark.parametrize("turned", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
def test_a_picture_that_viewers_turn_is_refused(tmp_path: Path, name: str, turned: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turned
    Image.fromarray(GREY).save(tmp_path / name, exif=exif)
    if turned in (0, 1, 9):
        assert read_volume(tmp_path / name).array.shape == (1, 40, 30)
        return
    with pytest.raises(InputError, match=f"its EXIF orientation is {turned}"):
        read_volume(tmp_path / name)


@pytest.mark.parametrize("mode", ["LA", "P", "RGB", "RGBA"])
def test_what_is_no_single_grey_value_is_said_to_be_that(tmp_path: Path, mode: str) -> None:
    Image.fromarray(GREY).convert(mode).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"more than a grey value a pixel|values a pixel"):
        read_volume(tmp_path / "a.png")


def test_a_transparent_grey_is_no_damage(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a transparent one among them"):
        read_volume(png(tmp_path / "a.png", (b"tRNS", b"\0\5")))


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_further_pictures_in_a_file_are_said(tmp_path: Path, name: str) -> None:
    kind = "PNG" if name == "a.png" else "MPO"
    more = [Image.fromarray(255 - GREY)]
    Image.fromarray(GREY).save(tmp_path / name, format=kind, save_all=True, append_images=more)
    film = read_volume(tmp_path / name)
    assert film.notes == ("it holds 2 pictures, of which the first is taken",)
    assert np.abs(film.array[0].astype(int) - GREY).mean() < 3


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_few_bits_are_spread_over_eight(tmp_path: Path, depth: int) -> None:
    values = GREY >> (8 - depth)
    bits = np.unpackbits(values[..., None], axis=2)[..., -depth:].reshape(40, -1)
    rows = [np.packbits(row).tobytes() for row in bits]
    film = read_volume(png(tmp_path / "a.png", depth=depth, rows=rows))
    np.testing.assert_array_equal(film.array[0], values.astype(int) * 255 // ((1 << depth) - 1))


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_an_empty_mask_of_few_bits_is_no_damage(tmp_path: Path, depth: int) -> None:
    """Deflate stores it in about a thousandth of its bytes, each of which holds several pixels."""
    width, height = 2000, 3000
    rows = [bytes(width * depth // 8)] * height
    film = read_labels(png(tmp_path / "a.png", depth=depth, rows=rows, size=(width, height)))
    assert film.array.shape == (1, height, width) and not film.array.any()


@pytest.mark.parametrize("depth", [1, 8])
def test_a_claim_beyond_what_the_file_can_hold_is_damage(tmp_path: Path, depth: int) -> None:
    with pytest.raises(InputError, match="2000 x 3000 pixels, more than"):
        read_volume(png(tmp_path / "a.png", depth=depth, rows=[b""], size=(2000, 3000)))


def test_a_size_beyond_any_film_is_called_so(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png")
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">2I", 60000, 60000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    with pytest.raises(InputError, match="claims more pixels than any film has"):
        read_volume(path)


def test_what_the_decoder_says_of_other_chunks_stands_nowhere(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png", icc_profile=b"x" * 200)
    read_volume(tmp_path / "a.png")
    assert capfd.readouterr() == ("", "")
