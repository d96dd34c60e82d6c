"""Many series in a row to ``verdiff serve``: what the server holds, and how long each takes, from first to last.

The server is the installed command in a process of its own. The study stands where a PACS would: it sends a generated
series under new UIDs, by C-STORE and by STOW-RS in turns, and waits for the segmentation object at its own node.
"""

from __future__ import annotations

import http.client
import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from studies.library.dicom_series import AXES, part_10, renamed, series_of
from studies.library.phantom import phantom
from studies.library.served import Served, served
from studies.options import StudyOptions
from studies.pages.endurance import draw_endurance, markdown_page
from verdiff.benchmarks.cases import Figure, Findings
from verdiff.benchmarks.timing import Timing
from verdiff.bundle import Manifest, open_bundle, resolve_model
from verdiff.errors import DataError
from verdiff.interop.dicom.libraries import library, require_libraries
from verdiff.progress import done, stage

C_STORE, STOW = "C-STORE", "STOW-RS"
ENTRANCES = (C_STORE, STOW)
SLICES, ALONG, DOWN = 3, 64, 96
# Looked at after so many requests, and so many are left out: allocators and caches fill.
LOOKS, WARM = 50, 0.1
GROWN_AT_MOST_MB, SLOWER_AT_MOST = 16.0, 1.1
_TITLE, _OWN, _ANSWER_S = "STUDY", "VERDIFF", 600


@dataclass(frozen=True)
class Look:
    """What the two processes held after a request (MiB, descriptors, threads), and the processor seconds till then."""

    request: int
    server_mib: float
    worker_mib: float
    server_files: int
    worker_files: int
    server_threads: int
    worker_threads: int
    processor_s: float


def run(options: StudyOptions) -> Findings:
    """Send ``options.requests`` series and look at the server in between.

    Raises:
        DataError: The model takes no volumes.
        BundleError: The bundle cannot be opened.
        BackendError: The extra ``[dicom]`` is not installed, or the server did not answer a request.
    """
    require_libraries("pydicom", "highdicom", "pynetdicom")
    model = resolve_model(options.bundle)
    bundle = open_bundle(model)
    scan, view = _scan(bundle.manifest, options.seed)
    seconds: dict[str, list[float]] = {name: [] for name in ENTRANCES}
    masks, looks = set[str](), list[Look]()
    every = max(1, options.requests // LOOKS)
    with _receiving() as (port, arrived):
        words = ["--model", str(model), "--threads", str(options.threads), "--dicom", "0", "--stow-in", "0"]
        words += ["--allow", _TITLE, "--send-to", f"{_TITLE}@127.0.0.1:{port}", "--objects", "seg"]
        with served([*words, "--instances", str(SLICES)]) as server, stage("sending series"):
            send = {C_STORE: _c_store(server.port), STOW: _stow(server.url)}
            series = series_of(scan, view)
            for number in range(options.requests):
                done(number / options.requests)
                uid, entrance = renamed(series, number), ENTRANCES[number % len(ENTRANCES)]
                begun = perf_counter()
                try:
                    send[entrance](series)
                    masks.add(_answer(arrived, uid))
                except (DataError, OSError, queue.Empty) as error:
                    raise server.failed(f"lost request {number + 1} ({error or 'no answer'})") from error
                seconds[entrance].append(perf_counter() - begun)
                if (number + 1) % every == 0:
                    looks.append(_look(server, number + 1))
            code = server.end()
    tenths = _tenths(seconds, looks)
    results: dict[str, Any] = {
        "requests": options.requests,
        "different_masks": len(masks),
        "exit_code": code,
        "looks": [asdict(look) for look in looks],
        "tenths": tenths,
    }
    return Findings(
        timings={name: Timing(tuple(taken)) for name, taken in seconds.items()},
        baseline=None,
        figures=figures(looks, results),
        subject={
            "model": f"{bundle.manifest.model_id} {bundle.manifest.version}",
            "bundle_sha256": bundle.manifest_sha256,
            "scan": f"generated, {SLICES} slices of {DOWN} x {ALONG} pixels",
            "steps": bundle.manifest.defaults.steps,
            "samples": bundle.manifest.defaults.samples,
            "threads": options.threads,
        },
        notes=(
            "Processor time is the server's and the worker's; other work changes it less than the time on the clock.",
            "A request is one series, from its first byte until its segmentation object has come; the next one begins "
            "then. C-STORE opens an association for each, STOW-RS a connection.",
            f"Growth is from the first {WARM:.0%} of the requests to the end. The node keeps each series for ten "
            "minutes after its end, which is part of it.",
        ),
        results=results,
        page=markdown_page(results),
        draw=partial(draw_endurance, results),
    )


def figures(looks: Sequence[Look], results: Mapping[str, Any]) -> tuple[Figure, ...]:
    """What has an aim: memory, descriptors and threads as they were, one mask, and an end in order."""
    first = next(look for look in looks if look.request >= WARM * results["requests"])
    found = []
    for process in ("server", "worker"):
        for what, unit, most in (("mib", "MiB", GROWN_AT_MOST_MB), ("files", "", 0.0), ("threads", "", 0.0)):
            grown = getattr(looks[-1], f"{process}_{what}") - getattr(first, f"{process}_{what}")
            name = {"mib": "memory", "files": "descriptors", "threads": "threads"}[what]
            found.append(Figure(f"growth of {name}, {process}", float(grown), unit, at_most=most))
    tenths = [row["processor_s_a_request"] for row in results["tenths"]]
    slower = float(np.median(tenths[5:]) / np.median(tenths[:5]))
    return (
        *found,
        Figure(
            "processor time a request, second half over the first",
            slower,
            "",
            at_most=SLOWER_AT_MOST,
        ),
        Figure("different masks of the one scan", float(results["different_masks"]), "", at_most=1.0),
        Figure("exit code of the server at SIGTERM", float(results["exit_code"]), "", at_most=0.0),
    )


def _scan(manifest: Manifest, seed: int) -> tuple[Any, str]:
    if manifest.view not in AXES:
        raise DataError(f"a model of the view {manifest.view}", "a model of volumes", "choose another with --model")
    across, along, down = AXES[manifest.view]
    size = [0, 0, 0]
    size[across], size[along], size[down] = SLICES, ALONG, DOWN
    return phantom(manifest, (size[0], size[1], size[2]), seed=seed), manifest.view


def _look(server: Served, request: int) -> Look:
    front, worker = server.held()
    return Look(
        request,
        front.memory / 2**20,
        worker.memory / 2**20,
        front.descriptors,
        worker.descriptors,
        front.threads,
        worker.threads,
        front.seconds + worker.seconds,
    )


def _tenths(seconds: Mapping[str, Sequence[float]], looks: Sequence[Look]) -> list[dict[str, Any]]:
    """Each tenth of the requests: medians and 95th percentiles in seconds, and the last look at the processes."""
    rows: list[dict[str, Any]] = []
    # What the first tenth took begins at the first look, when the model is loaded.
    before = looks[0]
    for tenth in range(10):
        parts = {name: np.array_split(np.asarray(taken), 10)[tenth] for name, taken in seconds.items()}
        look = looks[min(len(looks) - 1, (tenth + 1) * len(looks) // 10 - 1)]
        rows.append(
            {
                "upto": look.request,
                "median_s": {name: float(np.median(part)) for name, part in parts.items()},
                "p95_s": {name: float(np.percentile(part, 95)) for name, part in parts.items()},
                "processor_s_a_request": (look.processor_s - before.processor_s)
                / max(1, look.request - before.request),
                **asdict(look),
            }
        )
        before = look
    return rows


@contextmanager
def _receiving() -> Iterator[tuple[int, queue.SimpleQueue[Any]]]:
    """A node that takes segmentation objects, and the queue that they come into."""
    pynetdicom = library("pynetdicom")
    arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def stored(event: Any) -> int:
        arrived.put(event.dataset)
        return 0

    entity = pynetdicom.AE(_TITLE)
    entity.add_supported_context(library("pynetdicom.sop_class").SegmentationStorage)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(pynetdicom.evt.EVT_C_STORE, stored)])
    try:
        yield server.socket.getsockname()[1], arrived
    finally:
        entity.shutdown()


def _answer(arrived: queue.SimpleQueue[Any], uid: str) -> str:
    """The hash of the next mask, which must be that of the series."""
    mask = arrived.get(timeout=_ANSWER_S)
    of = str(mask.ReferencedSeriesSequence[0].SeriesInstanceUID)
    if of != uid:
        raise DataError(f"a mask of the series {of}", f"one of {uid}", "see what the server says")
    return sha256(mask.PixelData).hexdigest()


def _c_store(port: int) -> Callable[[Sequence[Any]], None]:
    entity = library("pynetdicom").AE(_TITLE)

    def send(series: Sequence[Any]) -> None:
        entity.requested_contexts = []
        entity.add_requested_context(series[0].SOPClassUID, series[0].file_meta.TransferSyntaxUID)
        association = entity.associate("127.0.0.1", port, ae_title=_OWN)
        if not association.is_established:
            raise OSError("no association")
        for each in series:
            status = association.send_c_store(each)
            if status.get("Status") != 0:
                association.abort()
                raise OSError(f"C-STORE was answered with {status.get('Status')}")
        association.release()

    return send


def _stow(url: str) -> Callable[[Sequence[Any]], None]:
    address = urlsplit(url)
    kind = 'multipart/related; type="application/dicom"; boundary=edge'
    headers = {"Content-Type": kind, "Accept": "application/dicom+json"}

    def send(series: Sequence[Any]) -> None:
        parts = [b"--edge\r\nContent-Type: application/dicom\r\n\r\n" + part_10(each) + b"\r\n" for each in series]
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=_ANSWER_S)
        try:
            connection.request("POST", f"{address.path}/studies", b"".join(parts) + b"--edge--\r\n", headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise OSError(f"STOW-RS was answered with {answer.status}")
        finally:
            connection.close()

    return send
