"""What a client sends and what it gets: images, masks in their pose, words, surfaces."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.runtime.scans import mr_scan
from tests.serve.igtl.wire import HEADER, IMAGE, LPS, RAS, STAMP, Got, Peer, image_body, pack
from verdiff.imaging import Geometry, Volume
from verdiff.runtime import Segmenter
from verdiff.serve import Client
from verdiff.serve.igtl import IgtlServer


def oblique_scan() -> Volume:
    """Nothing of it is symmetric: size, spacing, direction, position and content."""
    scan = mr_scan(6, 41, 34, pixel=1.05, step=3.3)
    a, b, c = 0.21, -0.17, 0.33
    turns = [
        np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]),
        np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]]),
        np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]]),
    ]
    direction = turns[0] @ turns[1] @ turns[2] @ scan.geometry.matrix
    array = scan.array.copy()
    array[:2, :10, :9] += 900
    geometry = Geometry(scan.geometry.size, (1.05, 0.95, 3.3), (-31.7, 44.2, -612.9), tuple(direction.ravel()))
    return Volume(array, geometry)


def centroid_mm(labels: np.ndarray, geometry: Geometry, label: int) -> np.ndarray:
    """Of one label, LPS."""
    return geometry.index_to_mm(np.argwhere(labels == label)[:, ::-1]).mean(axis=0)


def masks(seen: list[Got]) -> list[Got]:
    return [got for got in seen if got.kind == "IMAGE"]


@pytest.mark.parametrize("coordinates", [RAS, LPS])
@pytest.mark.parametrize("version", [1, 2])
def test_masks_come_back_in_the_pose_of_an_oblique_scan(
    peer: Peer, segmenter: Segmenter, coordinates: int, version: int
) -> None:
    scan = oblique_scan()
    expected = list(segmenter.stream(scan))
    body = image_body(scan, coordinates=coordinates)
    peer.send("IMAGE", body, version=version)
    seen = peer.answer()
    assert seen[0].kind == "STATUS" and seen[0].status[0] == 1 and seen[0].status[2] == "accepted"
    answers = masks(seen)
    assert answers and seen[-1].status[:3] == (1, 0, "complete")
    labels, geometry = answers[-1].image
    assert np.array_equal(labels, expected[-1].labels)
    assert geometry.matches(scan.geometry, tolerance_mm=0.001)
    for label in (1, 2, 7):
        found, true = centroid_mm(labels, geometry, label), centroid_mm(expected[-1].labels, scan.geometry, label)
        assert np.abs(found - true).max() < 0.01
    for got in answers:
        assert (got.stamp, got.device, got.version) == (STAMP, b"scan", version)
        assert got.content[6:60] == body[6:60], "the pose is the scan's to the last bit"


def several_masks(peer: Peer, scan: Volume, version: int) -> list[Got]:
    """Masks of a scan, the prior's first; on a busy machine the next may be ready before it is sent, in its place."""
    for _ in range(10):
        peer.send("IMAGE", image_body(scan), version=version)
        got = masks(peer.answer())
        if got[0].metadata["outcome"] == "prior":
            return got
    raise AssertionError("ten scans, and never the prior's mask")


def test_the_priors_mask_comes_first(segmenter: Segmenter, peer: Peer) -> None:
    scan = oblique_scan()
    prior, *_ = segmenter.stream(scan)
    first, *_, last = several_masks(peer, scan, 2)
    assert np.array_equal(first.image[0], prior.labels)
    assert not np.array_equal(last.image[0], prior.labels)


def test_version_2_says_what_made_the_mask(peer: Peer, client: Client) -> None:
    first, *_, last = several_masks(peer, mr_scan(), 2)
    assert first.metadata["outcome"] == "prior" and last.metadata["outcome"] == "complete"
    assert last.metadata["model"] == "tiny-mr" and last.metadata["model_version"] == "1.2.3"
    assert last.metadata["model_sha256"] == client.model["manifest_sha256"]
    assert json.loads(last.metadata["labels"]) == {"vertebra": 1, "disc": 2, "canal": 7}
    assert set(json.loads(last.metadata["volumes_ml"])) == {"vertebra", "disc", "canal"}
    assert first.id == last.id == 77, "the answers bear the id of the question"


def test_version_1_is_spoken_until_the_client_speaks_2_and_says_the_model_in_words(peer: Peer, client: Client) -> None:
    peer.send("IMAGE", image_body(mr_scan()))
    seen = peer.answer()
    assert {got.version for got in seen} == {1}
    assert f"tiny-mr 1.2.3 sha256 {client.model['manifest_sha256']}" in seen[-1].status[3]
    peer.send("GET_STATUS", version=2)
    assert peer.receive().version == 2


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"])
def test_every_scalar_type_in_either_order_gives_the_same_mask(
    peer: Peer, segmenter: Segmenter, dtype: str, order: str
) -> None:
    scan = mr_scan(2)
    small = replace(scan, array=(scan.array / scan.array.max() * 120).astype(dtype))
    peer.send("IMAGE", image_body(small, order=order))
    assert np.array_equal(masks(peer.answer())[-1].image[0], segmenter.segment(small).labels)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"offset": (0, 0, 1)}, "sub-volume"),
        ({"part": (38, 45, 4)}, "sub-volume"),
        ({"components": 3}, "components"),
        ({"kind": 9}, "scalar type 9"),
        ({"endian": 0}, "byte order 0"),
        ({"coordinates": 3}, "coordinate system 3"),
        ({"version": 7}, "version 7"),
        ({"voxels": b""}, "bytes of voxels"),
        ({"size": (0, 45, 5), "part": (0, 45, 5)}, "at least one voxel"),
        ({"size": (65535, 65535, 65535), "part": (65535, 65535, 65535)}, "bytes of voxels"),
        ({"pose": (0.0,) * 12}, "no length"),
        ({"pose": (float("nan"),) * 12}, "not finite"),
        ({"pose": (1.0, 0, 0, 1.0, 0, 0, 0, 0, 1.0, 0, 0, 0)}, "sheared"),
        ({"pose": (1e30, 0, 0, 0, 1e30, 0, 0, 0, 1e30, 0, 0, 0)}, "spacing"),
    ],
)
def test_an_image_that_cannot_be_used_is_refused_by_name(peer: Peer, changes: dict[str, Any], says: str) -> None:
    peer.send("IMAGE", image_body(mr_scan(), **changes))
    got = peer.receive()
    code, sub_code, name, text = got.status
    assert (code, sub_code) == (10, 3) and name in ("Refused", "InputError")
    assert says in text and "expected:" in text and "to do:" in text
    assert got.device == b"scan"
    peer.send("IMAGE", image_body(mr_scan()))
    assert peer.answer()[-1].status[2] == "complete", "the connection goes on"


def test_an_unsuitable_scan_is_refused_with_the_reason(peer: Peer) -> None:
    peer.send("IMAGE", image_body(mr_scan(pixel=4.0)))
    code, sub_code, name, text = peer.answer()[-1].status
    assert (code, sub_code, name) == (10, 4, "UnsuitableScanError")
    assert "pixel" in text


def test_a_wrong_checksum_is_refused_and_the_next_message_is_read(peer: Peer) -> None:
    body = image_body(mr_scan())
    peer.send("IMAGE", body, crc=1)
    assert peer.receive().status[0] == 9
    peer.send("IMAGE", body[:-1] + bytes([body[-1] ^ 1]), crc=int.from_bytes(pack("IMAGE", body)[50:58], "big"))
    assert peer.receive().status[0] == 9
    peer.send("GET_STATUS")
    assert peer.receive().status[0] == 1


def test_capability_is_what_the_server_answers_to(peer: Peer) -> None:
    peer.send("GET_CAPABIL")
    content = peer.receive().content
    names = [content[at : at + 12].rstrip(b"\0").decode() for at in range(0, len(content), 12)]
    assert {"IMAGE", "STATUS", "STRING", "COMMAND", "POLYDATA", "GET_STATUS"} <= set(names)


def test_info_says_what_the_server_is(peer: Peer, client: Client) -> None:
    peer.say("info", device=b"console")
    got = peer.receive()
    assert got.kind == "STRING" and got.device == b"console"
    info = json.loads(got.text)
    assert info["model"]["manifest_sha256"] == client.model["manifest_sha256"]
    assert info["state"] == "ready" and info["deadline_ms"] is None


def test_words_are_obeyed_or_listed(peer: Peer) -> None:
    for words, answer in (
        ("deadline 2500", "deadline 2500 ms"),
        ("deadline 1e308", "deadline 1e+308 ms"),
        ("Deadline OFF", "no deadline"),
        ("surfaces on", "surfaces on"),
        ("cancel", "nothing to cancel"),
        ("help", "info | cancel"),
    ):
        peer.say(words)
        assert answer in peer.receive().text
    for words in ("deadline soon", "deadline -1", "deadline inf", "rm -rf /", ""):
        peer.say(words)
        code, _, _, text = peer.receive().status
        assert code == 12 and "info | cancel | deadline" in text


@pytest.mark.parametrize("name_size", [20, 32, 128])
def test_a_command_is_answered_in_its_own_form(peer: Peer, name_size: int) -> None:
    def command(number: int, name: bytes, text: bytes) -> bytes:
        return struct.pack(f"!I{name_size}sHI", number, name, 3, len(text)) + text

    peer.send("COMMAND", command(41, b"Deadline", b"1500"), version=2)
    got = peer.receive()
    assert got.kind == "RTS_COMMAND" and got.metadata["Status"] == "SUCCESS"
    number, name, encoding, length = struct.unpack_from(f"!I{name_size}sHI", got.content)
    assert (number, name.rstrip(b"\0"), encoding) == (41, b"Deadline", 3)
    assert got.content[-length:] == b"deadline 1500 ms"
    peer.send("COMMAND", command(42, b"SendText", b"<Command/>"), version=2)
    got = peer.receive()
    assert got.metadata["Status"] == "FAILURE" and got.content[:4] == (42).to_bytes(4, "big")


def test_cancel_ends_a_job_with_the_mask_there_is(client: Client) -> None:
    with IgtlServer(client, 0, options={"steps": 500, "samples": 200}) as server, Peer(server.address[1]) as peer:
        peer.send("IMAGE", image_body(mr_scan(20)))
        peer.until(lambda got: got.kind == "IMAGE")
        peer.say("cancel")
        seen = peer.until(lambda got: got.kind == "STATUS")
        assert any(got.kind == "STRING" and got.text.startswith("cancelled ") for got in seen)
        assert seen[-1].status[:3] == (1, 0, "cancelled")
        assert len(masks(seen)) >= 1


def test_a_deadline_gives_the_best_mask_by_then(client: Client) -> None:
    with IgtlServer(client, 0, options={"steps": 500, "samples": 200}) as server, Peer(server.address[1]) as peer:
        peer.say("deadline 2500")
        peer.receive()
        peer.send("IMAGE", image_body(mr_scan(20)))
        seen = peer.answer()
        assert seen[-1].status[2] in ("budget", "cancelled", "prior") and masks(seen)


def test_the_newest_image_wins(client: Client, segmenter: Segmenter) -> None:
    with IgtlServer(client, 0, options={"samples": 60}) as server, Peer(server.address[1]) as peer:
        old, new = mr_scan(30), oblique_scan()
        peer.send("IMAGE", image_body(old), stamp=111)
        peer.until(lambda got: got.kind == "IMAGE")
        peer.send("IMAGE", image_body(new), stamp=222)
        seen = peer.answer()
        overtaken = [got for got in seen if got.kind == "STATUS" and got.status[2] == "overtaken"]
        assert len(overtaken) == 1
        after = seen[next(at for at, got in enumerate(seen) if got.kind == "STATUS" and got.status[2] == "accepted") :]
        assert {got.stamp for got in masks(after)} == {222}
        assert np.array_equal(masks(after)[-1].image[0], segmenter.segment(new, samples=60).labels)


def test_images_of_two_devices_do_not_overtake_each_other(peer: Peer) -> None:
    peer.send("IMAGE", image_body(mr_scan(3)), device=b"first")
    peer.send("IMAGE", image_body(mr_scan(4)), device=b"second")
    seen = peer.answer() + peer.answer()
    assert {got.device for got in masks(seen)} == {b"first", b"second"}


def test_surfaces_are_in_ras_and_enclose_the_mask(peer: Peer, segmenter: Segmenter) -> None:
    scan = oblique_scan()
    peer.say("surfaces on")
    peer.receive()
    peer.send("IMAGE", image_body(scan))
    seen = peer.answer()
    surfaces = [got for got in seen if got.kind == "POLYDATA"]
    assert {got.device for got in surfaces} == {b"vertebra", b"disc", b"canal"}
    for got in surfaces:
        counts = struct.unpack_from("!10I", got.content)
        assert counts[1:5] == (0,) * 4 and counts[7:] == (0,) * 3 and counts[6] == 16 * counts[5]
        points = np.frombuffer(got.content, ">f4", 3 * counts[0], 40).reshape(-1, 3)
        cells = np.frombuffer(got.content, ">u4", 4 * counts[5], 40 + points.nbytes).reshape(-1, 4)
        assert len(got.content) == 40 + points.nbytes + cells.nbytes
        assert (cells[:, 0] == 3).all() and cells[:, 1:].max() == counts[0] - 1
        label = {b"vertebra": 1, b"disc": 2, b"canal": 7}[got.device]
        mask = scan.geometry.index_to_mm(np.argwhere(segmenter.segment(scan).labels == label)[:, ::-1])
        ras = mask * (-1, -1, 1)
        assert (points.min(axis=0) <= ras.min(axis=0) + 0.5).all() and (points.min(axis=0) > ras.min(axis=0) - 4).all()
        assert (points.max(axis=0) >= ras.max(axis=0) - 0.5).all() and (points.max(axis=0) < ras.max(axis=0) + 4).all()
    peer.send("GET_POLYDATA")
    assert peer.receive().content == surfaces[0].content


def test_the_last_mask_can_be_asked_for_again_and_nothing_is_an_empty_body(peer: Peer) -> None:
    for kind in ("GET_IMAGE", "GET_POLYDATA"):
        peer.send(kind)
        got = peer.receive()
        assert got.kind == kind[4:] and got.content == b""
    peer.send("IMAGE", image_body(mr_scan()))
    last = masks(peer.answer())[-1]
    for device in (b"scan", b""):
        peer.send("GET_IMAGE", device=device)
        assert peer.receive().content == last.content
    peer.send("GET_IMAGE", device=b"another")
    assert peer.receive().content == b""


def test_a_suffix_names_the_mask_within_twenty_bytes(client: Client) -> None:
    with IgtlServer(client, 0, suffix="_seg") as server, Peer(server.address[1]) as peer:
        for device, name in ((b"scan", b"scan_seg"), (b"a" * 20, b"a" * 16 + b"_seg")):
            peer.send("IMAGE", image_body(mr_scan()), device=device)
            assert {got.device for got in masks(peer.answer())} == {name}


def test_two_scans_whose_masks_would_have_one_name_are_refused(client: Client) -> None:
    with IgtlServer(client, 0, suffix="_seg") as server, Peer(server.address[1]) as peer:
        first, second = b"Lumbar spine T2 sag1", b"Lumbar spine T2 sag2"
        for device, refused in ((first, False), (second, True), (first, False)):
            peer.send("IMAGE", image_body(mr_scan()), device=device)
            *_, last = answer = peer.answer()
            assert (last.status[0] == 10) is refused
            assert {got.device for got in masks(answer)} == (set() if refused else {b"Lumbar spine T2 _seg"})
            assert ("both be called Lumbar spine T2 _seg" in last.status[3]) is refused


@pytest.mark.parametrize("scan", ["refused", "unreadable"])
def test_the_mask_of_an_earlier_scan_is_not_given_as_that_of_a_newer_one(peer: Peer, scan: str) -> None:
    peer.send("IMAGE", image_body(mr_scan()))
    assert masks(peer.answer())
    peer.send("GET_IMAGE")
    assert peer.receive().content
    body = image_body(mr_scan(), voxels=bytes(mr_scan().array.nbytes)) if scan == "refused" else b"no image"
    peer.send("IMAGE", body)
    assert not masks(peer.answer())
    for kind in ("GET_IMAGE", "GET_POLYDATA"):
        peer.send(kind)
        assert peer.receive().content == b""


def test_messages_for_somebody_else_are_refused_once(peer: Peer) -> None:
    for _ in range(3):
        peer.send("TRANSFORM", bytes(48), device=b"tracker")
    peer.send("STATUS", bytes(31))
    peer.send("GET_STATUS")
    assert peer.receive().status[0] == 12
    assert peer.receive().status[2] == "ready"


def test_the_example_of_the_specification_has_the_sizes_it_says() -> None:
    assert (HEADER.size, IMAGE.size) == (58, 72)
