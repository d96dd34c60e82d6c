"""A thousand series by C-STORE: memory, files, threads and the folder of what came in are as they were."""

from __future__ import annotations

import os
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("highdicom")
pytest.importorskip("pynetdicom")

from tests.interop.dicom.series import save_oriented
from tests.runtime.scans import mr_scan
from tests.serve.dicom_peers import eventually, free_port
from tests.serve.test_client import resident
from verdiff.serve import Client
from verdiff.serve.dicom import Completion, Delivery, DicomNode, NodeLimits, Peer

SCAN = mr_scan(2, 24, 20)
ROUNDS, FIRST, AT_ONCE = 1000, 150, 10


@contextmanager
def counting_node() -> Iterator[tuple[Peer, list[int]]]:
    """A node that counts what it gets, and keeps none of it."""
    from pynetdicom import AE, evt
    from pynetdicom.sop_class import RTStructureSetStorage, SegmentationStorage

    count = [0]

    def stored(_: Any) -> int:
        count[0] += 1
        return 0

    entity = AE("PACS")
    for kind in (SegmentationStorage, RTStructureSetStorage):
        entity.add_supported_context(kind)
    port = free_port()
    entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, stored)])
    try:
        yield Peer("PACS", "127.0.0.1", port), count
    finally:
        entity.shutdown()


def instances(folder: Path) -> list[Any]:
    from pydicom import dcmread

    return [dcmread(path) for path in sorted(folder.iterdir())]


def send_series(port: int, slices: list[Any], numbers: range) -> None:
    """Series of their own over one association."""
    from pynetdicom import AE

    entity = AE("PACS")
    # What is asked of the node is what it holds on to, not how fast a machine that is shared lets it answer.
    entity.network_timeout = entity.dimse_timeout = 300
    entity.add_requested_context("1.2.840.10008.5.1.4.1.1.4")
    association = entity.associate("127.0.0.1", port, ae_title="VERDIFF")
    assert association.is_established
    for number in numbers:
        for index, each in enumerate(slices):
            each.SeriesInstanceUID = f"1.2.826.0.1.3680043.10.2.{number}"
            each.SOPInstanceUID = each.file_meta.MediaStorageSOPInstanceUID = f"{each.SeriesInstanceUID}.{index + 1}"
            assert association.send_c_store(each).Status == 0
    association.release()


def test_a_thousand_series_leave_memory_and_descriptors_as_they_were(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    slices = instances(save_oriented(tmp_path / "series", SCAN.array, SCAN.geometry))
    processes, said = (os.getpid(), client.worker_pid or 0), deque[str](maxlen=20)
    with counting_node() as (peer, count):
        settings: dict[str, Any] = {
            "allowed": ("PACS",),
            "completion": Completion(quiet_s=3600, instances=len(slices)),
            "limits": NodeLimits(keep_s=0.2, retry_s=0.05),
            "options": {"force": True, "prior_only": True},
            "say": said.append,
        }
        with DicomNode(client, 0, Delivery(peer=peer), **settings) as node:
            sent = 0

            def store(times: int) -> None:
                nonlocal sent
                for _ in range(times // AT_ONCE):
                    send_series(node.address[1], slices, range(sent, sent + AT_ONCE))
                    sent += AT_ONCE
                    # The next come while the last are computed and delivered; the queues stay short.
                    arrived(2 * (sent - AT_ONCE))
                arrived(2 * sent)

            def arrived(objects: int) -> None:
                eventually(lambda: count[0] >= objects, seconds=300)

            def files() -> list[int]:
                return [len(os.listdir(f"/proc/{process}/fd")) for process in processes]

            store(FIRST)
            memory, opened, threads = [resident(each) for each in processes], files(), threading.active_count()
            store(ROUNDS - FIRST)
            assert eventually(lambda: all(now <= then for now, then in zip(files(), opened, strict=True)))
            assert eventually(lambda: threading.active_count() <= threads)
            assert eventually(lambda: not list(tmp_path.glob("scratch/*/series-*"))), "what came in is forgotten"
            grown = [resident(each) - before for each, before in zip(processes, memory, strict=True)]
            assert max(grown) < 16 << 20, grown
