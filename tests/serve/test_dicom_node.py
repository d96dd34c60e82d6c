"""A DICOM node between peers that nobody here wrote: series in, masks back, and what it refuses."""

from __future__ import annotations

import socket
import ssl
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("highdicom")
pynetdicom = pytest.importorskip("pynetdicom")

from tests import peers  # noqa: E402
from tests.interop.dicom.phantom import as_array, contours_of, read_segments  # noqa: E402
from tests.interop.dicom.series import SERIES, STUDY, save_oriented  # noqa: E402
from tests.runtime.scans import mr_scan  # noqa: E402
from tests.runtime.tiny_bundle import LABELS  # noqa: E402
from tests.serve.dicom_peers import DICOMWEB, Receiver, eventually, free_port, orthanc, storescu  # noqa: E402
from verdiff.errors import InputError, ServiceError  # noqa: E402
from verdiff.imaging import read_volume  # noqa: E402
from verdiff.runtime import Segmenter  # noqa: E402
from verdiff.serve import Client  # noqa: E402
from verdiff.serve.dicom import Completion, Delivery, DicomNode, NodeLimits, Peer  # noqa: E402

SCAN = mr_scan()
FORCED = {"force": True}


def node(client: Client, receiver: Receiver, said: list[str], **more: Any) -> DicomNode:
    settings: dict[str, Any] = {
        "allowed": ("PACS",),
        "completion": Completion(quiet_s=0.4),
        "limits": NodeLimits(retry_s=0.05, network_s=5),
        "options": FORCED,
        "say": said.append,
        **more,
    }
    delivery = settings.pop("delivery", None) or Delivery(peer=receiver.peer)
    return DicomNode(client, 0, delivery, **settings)


def assert_masks(objects: list[Any], series: Path, bundle: Path) -> None:
    """The objects are the mask that the Segmenter gives."""
    volume = read_volume(series)
    expected = Segmenter.load(bundle, threads=1).segment(volume, force=True).labels
    (segments,) = (each for each in objects if each.Modality == "SEG")
    (contours,) = (each for each in objects if each.Modality == "RTSTRUCT")
    assert segments.StudyInstanceUID == contours.StudyInstanceUID == STUDY
    found = read_segments(segments)
    for label in LABELS:
        assert np.array_equal(as_array(found[label.name], volume.geometry) > 0, expected == label.id)
    assert {name for name, each in contours_of(contours).items() if each} == {
        label.name for label in LABELS if (expected == label.id).any()
    }


@peers.needs("storescu", "Orthanc")
def test_a_pacs_gets_its_masks_back(
    client: Client, bundle: Path, series: Path, tmp_path: Path, said: list[str]
) -> None:
    with orthanc(tmp_path / "pacs") as pacs:
        peer = Peer("PACS", "127.0.0.1", pacs.dicom)
        with node(client, Receiver(), said, delivery=Delivery(peer=peer)) as listening:
            done = storescu(listening.address[1], series)
            assert done.returncode == 0, done.stderr
            eventually(lambda: len(pacs.objects("SEG") + pacs.objects("RTSTRUCT")) == 2)
            assert_masks(pacs.objects("SEG") + pacs.objects("RTSTRUCT"), series, bundle)


@peers.needs("Orthanc", DICOMWEB)
def test_a_pacs_sends_a_series_itself_and_takes_its_masks_by_dicomweb(
    client: Client, bundle: Path, series: Path, tmp_path: Path, said: list[str]
) -> None:
    port = free_port()
    with orthanc(tmp_path / "pacs", port) as pacs:
        delivery = Delivery(stow=pacs.dicomweb)
        settings = {"allowed": ("PACS",), "completion": Completion(quiet_s=0.4), "options": FORCED, "say": said.append}
        with DicomNode(client, port, delivery, **settings):  # type: ignore[arg-type]
            for path in series.iterdir():
                pacs.ask("/instances", path.read_bytes())
            (stored,) = pacs.ask("/series")
            pacs.ask("/modalities/verdiff/store", stored.encode())
            eventually(lambda: len(pacs.objects("SEG") + pacs.objects("RTSTRUCT")) == 2)
        assert_masks(pacs.objects("SEG") + pacs.objects("RTSTRUCT"), series, bundle)


def send(
    port: int, folder: Path, *, calling: str = "PACS", called: str = "VERDIFF", tls: ssl.SSLContext | None = None
) -> list[int]:
    """The status of every file, sent by pynetdicom."""
    from pydicom import dcmread
    from pynetdicom import AE

    entity = AE(calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 10
    entity.add_requested_context("1.2.840.10008.5.1.4.1.1.4")
    shown = None if tls is None else (tls, "127.0.0.1")
    association = entity.associate("127.0.0.1", port, ae_title=called, tls_args=shown)
    if not association.is_established:
        return []
    codes = [association.send_c_store(dcmread(path)).get("Status", -1) for path in sorted(folder.iterdir())]
    association.release()
    return codes


def test_a_series_is_complete_at_its_number_without_waiting(
    client: Client, bundle: Path, series: Path, receiver: Receiver, said: list[str]
) -> None:
    completion = Completion(quiet_s=3600, instances=len(SCAN.array))
    with node(client, receiver, said, completion=completion) as listening:
        assert send(listening.address[1], series) == [0] * len(SCAN.array)
        eventually(lambda: len(receiver.objects) == 2)
    assert_masks(receiver.objects, series, bundle)


def test_instances_that_come_late_are_segmented_with_the_others(
    client: Client, bundle: Path, series: Path, receiver: Receiver, said: list[str], tmp_path: Path
) -> None:
    late = tmp_path / "late"
    late.mkdir()
    # The last slice: what came before is a series of its own, whose mask must not be the last word.
    (last,) = (path for path in series.iterdir() if path.name.endswith(f"_{len(SCAN.array) - 1}"))
    last.rename(late / last.name)
    with node(client, receiver, said) as listening:
        send(listening.address[1], series)
        eventually(lambda: len(receiver.objects) == 2)
        send(listening.address[1], late)
        eventually(lambda: len(receiver.objects) == 4)
    (late / last.name).rename(last)
    assert_masks(receiver.objects[2:], series, bundle)


def test_only_those_that_are_allowed_may_send_and_only_by_the_node_s_title(
    client: Client, series: Path, receiver: Receiver, said: list[str]
) -> None:
    with node(client, receiver, said) as listening:
        assert send(listening.address[1], series, calling="STRANGER") == []
        assert send(listening.address[1], series, called="OTHER") == []
        assert said == []


def test_it_listens_on_the_loopback_alone_unless_told_otherwise(
    client: Client, receiver: Receiver, said: list[str]
) -> None:
    with node(client, receiver, said) as listening:
        assert listening.address[0] == "127.0.0.1"


def test_a_series_that_is_no_volume_is_named_by_its_number_and_nothing_is_sent(
    client: Client, series: Path, receiver: Receiver, said: list[str]
) -> None:
    (gap,) = (path for path in series.iterdir() if path.name.endswith("_2"))
    gap.unlink()
    with node(client, receiver, said) as listening:
        send(listening.address[1], series)
        line = eventually(lambda: next((line for line in said if "mm apart" in line), None))
        assert line.startswith("series 1: ")
        assert receiver.objects == []
        assert send(listening.address[1], series) == [0] * (len(SCAN.array) - 1)


def test_lines_name_no_patient_and_no_uid(client: Client, series: Path, receiver: Receiver, said: list[str]) -> None:
    with node(client, receiver, said) as listening:
        send(listening.address[1], series)
        eventually(lambda: any("objects sent" in line for line in said))
    text = "\n".join(said)
    assert "Phantom" not in text and "P-4711" not in text and SERIES not in text and STUDY not in text


def test_no_word_of_a_message_becomes_a_path(
    client: Client, receiver: Receiver, said: list[str], tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    bad = "../../../../up"
    folder = save_oriented(
        tmp_path / "in", SCAN.array, SCAN.geometry, PatientID=bad, StudyID=bad, SeriesDescription=bad
    )
    with node(client, receiver, said) as listening:
        send(listening.address[1], folder)
        eventually(lambda: len(receiver.objects) == 2)
    assert sorted(path for path in tmp_path.rglob("*") if folder not in (path, *path.parents)) == before


def test_what_does_not_fit_is_refused_as_out_of_resources(
    client: Client, series: Path, receiver: Receiver, said: list[str]
) -> None:
    with node(client, receiver, said, limits=NodeLimits(held_instances=2)) as listening:
        assert send(listening.address[1], series) == [0, 0, *[0xA700] * (len(SCAN.array) - 2)]


def test_a_full_disk_is_out_of_resources_and_leaves_no_file(
    client: Client, series: Path, receiver: Receiver, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, data: bytes) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    with node(client, receiver, said) as listening:
        monkeypatch.setattr(Path, "write_bytes", full)
        assert set(send(listening.address[1], series)) == {0xA700}
        monkeypatch.undo()
        assert set(send(listening.address[1], series)) == {0}
        eventually(lambda: len(receiver.objects) == 2)


def test_an_instance_that_is_too_long_ends_its_association(
    client: Client, tmp_path: Path, receiver: Receiver, said: list[str]
) -> None:
    large = save_oriented(tmp_path / "large", np.zeros((1, 1024, 1024), np.uint16), SCAN.geometry)
    with node(client, receiver, said, limits=NodeLimits(instance_mb=1)) as listening:
        assert send(listening.address[1], large) != [0]
        assert any("more than 1 MiB" in line for line in said)


def raw(port: int, data: bytes) -> bytes:
    """What the node answers to bytes, until it closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as stream:
        stream.sendall(data)
        answer = b""
        while block := stream.recv(4096):
            answer += block
        return answer


def test_rude_clients_end_their_own_connection_and_nothing_else(
    client: Client, bundle: Path, series: Path, receiver: Receiver, said: list[str]
) -> None:
    with node(client, receiver, said, limits=NodeLimits(network_s=1, retry_s=0.05)) as listening:
        port = listening.address[1]
        raw(port, b"GET / HTTP/1.1\r\n\r\n")
        # A PDU that claims 4 GiB, an association request that ends early, a type that does not exist, and silence.
        raw(port, struct.pack(">BBI", 1, 0, 0xFFFFFFF0) + bytes(64))
        with socket.create_connection(("127.0.0.1", port)) as stream:
            stream.sendall(struct.pack(">BBI", 1, 0, 500) + bytes(90))
        raw(port, struct.pack(">BBI", 99, 0, 4) + bytes(4))
        raw(port, b"")
        assert set(send(port, series)) == {0}
        eventually(lambda: len(receiver.objects) == 2)
    assert_masks(receiver.objects, series, bundle)


def test_a_result_that_nobody_takes_is_tried_again_and_said(client: Client, series: Path, said: list[str]) -> None:
    with Receiver(status=0xA700).listening() as refusing, node(client, refusing, said) as listening:
        send(listening.address[1], series)
        line = eventually(lambda: next((line for line in said if "did not take" in line), None))
        assert "status A700" in line and refusing.attempts == 3


def test_a_destination_that_is_not_there_is_said(client: Client, series: Path, said: list[str]) -> None:
    delivery = Delivery(stow=f"http://127.0.0.1:{free_port()}/dicom-web")
    with node(client, Receiver(), said, delivery=delivery) as listening:
        send(listening.address[1], series)
        assert "cannot be reached" in eventually(lambda: next((one for one in said if "did not take" in one), None))


def test_a_node_that_ends_in_the_middle_sends_nothing(
    client: Client, series: Path, receiver: Receiver, said: list[str]
) -> None:
    long = {**FORCED, "steps": 500, "samples": 200}
    with node(client, receiver, said, options=long) as listening:
        send(listening.address[1], series)
        eventually(lambda: any("complete" in line for line in said))
        time.sleep(0.3)
    assert receiver.objects == []
    assert client.submit(SCAN, force=True).result(60).labels.any()


def test_a_port_in_use_and_an_address_that_is_none_are_refused_by_name(
    client: Client, receiver: Receiver, said: list[str]
) -> None:
    with node(client, receiver, said) as listening:
        other = DicomNode(client, listening.address[1], Delivery(peer=receiver.peer), allowed=("PACS",))
        with pytest.raises(ServiceError, match="cannot be listened on"):
            other.__enter__()
    for more in ({}, {"port": 0, "host": "127.0.0.1", "stow_in": 70000}):
        wrong = DicomNode(
            client, delivery=Delivery(peer=receiver.peer), allowed=("PACS",), **{"port": 0, "host": "10..0.1", **more}
        )
        with pytest.raises(ServiceError, match="cannot be listened on"):
            wrong.__enter__()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Delivery(),
        lambda: Delivery(stow="ftp://pacs"),
        lambda: Delivery(stow="http://pacs:804x/dicom-web"),
        lambda: Delivery(stow="http://pacs:99999/dicom-web"),
        lambda: Delivery(stow="http://[::1/dicom-web"),
        lambda: Delivery(stow="http://someone:secret@pacs/dicom-web"),
        lambda: Delivery(objects=("mesh",), stow="http://pacs/dicom-web"),
        lambda: Peer.parse("PACS@host"),
        lambda: Peer.parse("@host:104"),
        lambda: Peer.parse("A_TITLE_THAT_IS_TOO_LONG@host:104"),
        lambda: Peer.parse("PACS@host:99999"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: Any) -> None:
    with pytest.raises(InputError):
        wrong()


@pytest.mark.parametrize("allowed", [(), ("",), ("A" * 17,), ("BACK\\SLASH",)])
def test_a_node_for_nobody_or_for_no_title_is_refused(client: Client, allowed: tuple[str, ...]) -> None:
    with pytest.raises(InputError):
        DicomNode(client, 0, Delivery(stow="http://127.0.0.1/dicom-web"), allowed=allowed)
