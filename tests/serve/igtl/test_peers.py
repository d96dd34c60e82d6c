"""Clients that nobody here wrote: the C++ reference library with its examples, and pyigtl."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyigtl
import pytest

from tests.peers import needs
from tests.serve.igtl.test_faults import is_served
from tests.serve.igtl.test_messages import centroid_mm, oblique_scan
from verdiff.imaging import Volume
from verdiff.runtime import Segmenter
from verdiff.serve import Client
from verdiff.serve.igtl import IgtlServer

HEADERS = "/usr/include/openigtlink/igtlImageMessage.h"
EXAMPLES = Path("/usr/share/doc/openigtlink-examples/examples")
TO_RAS = np.array([-1.0, -1.0, 1.0])

reference_library = needs("g++", HEADERS)
reference_examples = needs("g++", HEADERS, str(EXAMPLES))


def compiled(source: Path, folder: Path) -> Path:
    """A program of the reference library."""
    program = folder / source.stem
    command = ["g++", "-std=c++11", "-w", "-I", str(Path(HEADERS).parent), str(source), "-o", str(program)]
    done = subprocess.run([*command, "-lOpenIGTLink", "-lpthread"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return program


@pytest.fixture(scope="session")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(Path(__file__).with_name("peer.cxx"), tmp_path_factory.mktemp("peer"))


def pose_of(scan: Volume) -> list[float]:
    """Size, spacing, unit vectors and centre in RAS, as the library takes them."""
    geometry = scan.geometry
    vectors = (geometry.matrix * TO_RAS[:, None]).T.ravel()
    centre = geometry.index_to_mm([(n - 1) / 2 for n in geometry.size]) * TO_RAS
    return [*geometry.size, *geometry.spacing_mm, *vectors, *centre]


@reference_library
def test_the_reference_library_gets_the_masks_where_they_belong(
    server: IgtlServer, peer: Path, segmenter: Segmenter, tmp_path: Path
) -> None:
    scan = oblique_scan()
    expected = list(segmenter.stream(scan))
    (tmp_path / "voxels").write_bytes(scan.array.astype("<i2").tobytes())
    numbers = " ".join(map(str, [*pose_of(scan), 1764460800, 250000000]))
    command = [peer, str(server.address[1]), tmp_path / "voxels", tmp_path / "mask"]
    done = subprocess.run(command, input=numbers, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    lines = [line.split() for line in done.stdout.splitlines()]

    assert {"IMAGE", "STATUS", "POLYDATA"} <= {line[1] for line in lines if line[0] == "CAPABILITY"}
    assert ["STRING", "surfaces", "on"] in lines
    (command,) = (line for line in done.stdout.splitlines() if line.startswith("RTS_COMMAND info "))
    answer = ElementTree.fromstring(command.removeprefix("RTS_COMMAND info "))
    assert ("id", "tiny-mr") in {(item.get("Name"), item.get("Value")) for item in answer.iter("Item")}
    assert [line[1:] for line in lines if line[0] == "STATUS"] == [["1", "accepted"], ["1", "complete"]]
    images = [line[1:] for line in lines if line[0] == "IMAGE"]
    # The library's own rounding of nanoseconds is in both.
    (sent,) = (line[1:] for line in lines if line[0] == "SENT")
    assert sent[:2] == ["oblique", "1764460800"] and all(each == sent for each in images)

    masks = sorted(tmp_path.glob("mask.*"), key=lambda path: int(path.suffix[1:]))
    assert len(masks) == len(images) >= 1
    # A mask that is not sent yet when the next is ready never is: some of all come, in order, and the last.
    got = [np.frombuffer(path.read_bytes(), np.uint8).reshape(scan.array.shape) for path in masks]
    refining = iter(expected)
    assert all(any(np.array_equal(labels, each.labels) for each in refining) for labels in got)
    assert np.array_equal(got[-1], expected[-1].labels)

    last = max(at for at, line in enumerate(lines) if line[0] == "IMAGE")
    centroids = {int(label): np.array(where, float) for kind, label, *where in filter_kind(lines[last:], "CENTROID")}
    assert set(centroids) == {1, 2, 7}
    for label, found in centroids.items():
        true_mm = centroid_mm(expected[-1].labels, scan.geometry, label) * TO_RAS
        assert np.abs(found - true_mm).max() < 0.01

    surfaces = {line[1]: line[2:] for line in lines if line[0] == "POLYDATA"}
    assert set(surfaces) == {"vertebra", "disc", "canal"}
    for points, triangles, corners, *where in surfaces.values():
        assert int(points) > 4 and int(corners) == 3 * int(triangles)
        inside = scan.geometry.corners_mm() * TO_RAS
        assert (np.array(where, float) > inside.min(axis=0)).all() and (
            np.array(where, float) < inside.max(axis=0)
        ).all()


def filter_kind(lines: list[list[str]], kind: str) -> Iterator[list[str]]:
    return (line for line in lines if line[0] == kind)


@reference_examples
def test_the_example_that_sends_images_and_never_reads_harms_nobody(client: Client, tmp_path: Path) -> None:
    """A hundred images at two hundred a second, in random poses; every newer one overtakes the one before."""
    imager = compiled(EXAMPLES / "Imager" / "ImagerClient.cxx", tmp_path)
    with IgtlServer(client, 0, options={"force": True}) as server:
        command = [imager, "127.0.0.1", str(server.address[1]), "200", EXAMPLES / "Imager" / "img"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        is_served(server)


@reference_examples
def test_the_example_that_listens_understands_the_last_word(client: Client, tmp_path: Path) -> None:
    receiver = compiled(EXAMPLES / "Receiver" / "ReceiveClient.cxx", tmp_path)
    server = IgtlServer(client, 0)
    server.start()
    process = subprocess.Popen([receiver, "127.0.0.1", str(server.address[1])], stderr=subprocess.PIPE, text=True)
    is_served(server)
    server.close()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Receiving STATUS data type." in said and "19" in said and "shutting down" in said


def test_pyigtl_gets_the_mask_in_its_own_geometry(server: IgtlServer, segmenter: Segmenter) -> None:
    scan = oblique_scan()
    expected = segmenter.segment(scan)
    matrix = np.eye(4)
    matrix[:3, :3] = scan.geometry.matrix * scan.geometry.spacing_mm
    matrix[:3, 3] = scan.geometry.origin_mm
    for version in (1, 2):
        connection = pyigtl.OpenIGTLinkClient("127.0.0.1", server.address[1])
        message = pyigtl.ImageMessage(
            scan.array, ijk_to_world_matrix=matrix, device_name="oblique", timestamp=1764460800.25
        )
        message.header_version = version
        assert connection.send_message(message)
        got = None
        # pyigtl keeps the newest message of a name: masks take each other's place until the best one is there.
        for _ in range(100):
            got = connection.wait_for_message("oblique", timeout=10)
            if got is None or np.array_equal(got.image, expected.labels):
                break
        connection.stop()
        assert isinstance(got, pyigtl.ImageMessage) and np.array_equal(got.image, expected.labels)
        assert np.abs(got.ijk_to_world_matrix - matrix).max() < 1e-3
        assert abs(got.timestamp - 1764460800.25) < 1e-6 and got.header_version == version
        for label in (1, 2, 7):
            index = np.argwhere(got.image == label)[:, ::-1].mean(axis=0)
            where = got.ijk_to_world_matrix[:3, :3] @ index + got.ijk_to_world_matrix[:3, 3]
            assert np.abs(where - centroid_mm(expected.labels, scan.geometry, label)).max() < 0.01
        assert got.metadata.get("model") == ("tiny-mr" if version == 2 else None)


def test_pyigtl_is_told_what_it_says_in_words(server: IgtlServer) -> None:
    connection = pyigtl.OpenIGTLinkClient("127.0.0.1", server.address[1])
    connection.send_message(pyigtl.StringMessage("info", device_name="console"))
    answer = connection.wait_for_message("console", timeout=20)
    connection.stop()
    assert '"tiny-mr"' in answer.string
