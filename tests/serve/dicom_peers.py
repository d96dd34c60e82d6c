"""Programs of Debian's on the other side of a DICOM node: DCMTK's storescu, and an Orthanc server as the PACS."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import peers
from verdiff.serve.dicom import Peer

DICOMWEB = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Receiver:
    """A node that keeps what it gets, or refuses it with a status."""

    def __init__(self, status: int = 0) -> None:
        self.status, self.objects, self.attempts = status, [], 0
        self.port = free_port()

    @property
    def peer(self) -> Peer:
        return Peer("PACS", "127.0.0.1", self.port)

    def _keep(self, event: Any) -> int:
        self.attempts += 1
        if not self.status:
            data = event.dataset
            data.file_meta = event.file_meta
            self.objects.append(data)
        return self.status

    @contextmanager
    def listening(self) -> Iterator[Receiver]:
        from pynetdicom import AE, evt
        from pynetdicom.sop_class import RTStructureSetStorage, SegmentationStorage

        entity = AE("PACS")
        for kind in (SegmentationStorage, RTStructureSetStorage):
            entity.add_supported_context(kind)
        entity.start_server(("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._keep)])
        try:
            yield self
        finally:
            entity.shutdown()


def eventually(true: Callable[[], Any], seconds: float = 60) -> Any:
    """What a condition gives once it holds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := true():
            return found
        time.sleep(0.02)
    raise AssertionError("it never came about")


def storescu(
    port: int, files: Path, *, calling: str = "PACS", called: str = "VERDIFF", tls: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Send a folder as DCMTK does; -R proposes only what the files need."""
    words = [str(peers.program("storescu")), *tls, "-R", "-aet", calling, "-aec", called, "+sd", "127.0.0.1", str(port)]
    return subprocess.run([*words, str(files)], capture_output=True, text=True, timeout=120)


@dataclass
class Orthanc:
    """A server that listens.

    Attributes:
        http, dicom: Its ports.
    """

    http: int
    dicom: int

    @property
    def dicomweb(self) -> str:
        return f"http://127.0.0.1:{self.http}/dicom-web"

    def ask(self, path: str, body: bytes | None = None) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", data=body)
        with urllib.request.urlopen(request, timeout=60) as answer:
            data = answer.read()
        return json.loads(data) if "json" in answer.headers.get("Content-Type", "") else data

    def objects(self, modality: str) -> list[Any]:
        """The data sets of a modality that it holds."""
        from pydicom import dcmread

        found = []
        for instance in self.ask("/instances"):
            if self.ask(f"/instances/{instance}/simplified-tags").get("Modality") == modality:
                found.append(dcmread(io.BytesIO(self.ask(f"/instances/{instance}/file"))))
        return found


@contextmanager
def orthanc(folder: Path, verdiff_port: int = 0, verdiff_web: str = "", **more: Any) -> Iterator[Orthanc]:
    """A server of the test's own, which ends with the block; it knows the node's port and its DICOMweb address."""
    server = Orthanc(free_port(), free_port())
    settings = {
        "Name": "PACS",
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "HttpPort": server.http,
        "DicomPort": server.dicom,
        "DicomAet": "PACS",
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomModalities": {"verdiff": ["VERDIFF", "127.0.0.1", verdiff_port or free_port()]},
        "DicomWeb": {"Servers": {"verdiff": [verdiff_web]} if verdiff_web else {}},
        "Plugins": [DICOMWEB] if Path(DICOMWEB).exists() else [],
        **more,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "orthanc.json").write_text(json.dumps(settings), "utf-8")
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [str(peers.program("Orthanc")), str(folder / "orthanc.json")], stdout=log, stderr=log, cwd=folder
        )
        try:
            eventually(lambda: process.poll() is not None or _answers(server))
            assert process.poll() is None, (folder / "log.txt").read_text("utf-8", "replace")
            yield server
        finally:
            process.terminate()
            process.wait(30)


def _answers(server: Orthanc) -> bool:
    try:
        return bool(server.ask("/system"))
    except OSError:
        return False
