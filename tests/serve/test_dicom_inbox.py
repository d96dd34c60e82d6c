"""Instances on their way to a series: what they take of memory, and for how long a series is added to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pynetdicom")
import pydicom

from tests.imaging.make import save_dicom
from verdiff.limits import Completion, NodeLimits
from verdiff.serve.dicom.inbox import CANNOT_UNDERSTAND, OUT_OF_RESOURCES, STORED, Inbox

DEFLATED = "1.2.840.10008.1.2.1.99"


def instance(folder: Path, number: int, zeros: int = 0, syntax: str = DEFLATED) -> bytes:
    """An instance, with so many bytes in an element of its own that deflate to a thousandth."""
    path = save_dicom(folder / f"{number}.dcm", np.ones((4, 4), np.uint16), SOPInstanceUID=f"1.2.9.{number}")
    data = pydicom.dcmread(path)
    data.add_new(0x00090010, "LO", "nobody")
    data.add_new(0x00091001, "OB", bytes(zeros))
    data.file_meta.TransferSyntaxUID = syntax
    data.save_as(path)
    return path.read_bytes()


def test_an_instance_that_unpacks_to_more_than_it_may_hold_is_not_taken(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, Completion(), NodeLimits(instance_mb=1))
    packed = instance(tmp_path, 1, zeros=3 << 20)
    assert len(packed) < 50_000
    assert inbox.store("PACS", packed).status == CANNOT_UNDERSTAND
    assert inbox.store("PACS", instance(tmp_path, 2, zeros=1000)).status == STORED


def test_what_is_held_counts_unpacked(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, Completion(), NodeLimits(instance_mb=1, held_mb=1))
    assert inbox.store("PACS", instance(tmp_path, 1, zeros=700_000)).status == STORED
    assert inbox.store("PACS", instance(tmp_path, 2, zeros=700_000)).status == OUT_OF_RESOURCES


def test_a_series_is_kept_from_its_answer_on_however_long_it_waited_for_that(tmp_path: Path) -> None:
    now = [0.0]
    inbox = Inbox(tmp_path, Completion(quiet_s=10), NodeLimits(keep_s=600), clock=lambda: now[0])
    assert inbox.store("PACS", instance(tmp_path, 1)).status == STORED
    now[0] = 20
    (series,) = inbox.complete()
    now[0] = 900
    inbox.done_with(series)
    now[0] = 950
    assert inbox.complete() == []
    assert inbox.store("PACS", instance(tmp_path, 2)).status == STORED
    now[0] = 970
    assert inbox.complete() == [series] and len(series.files) == 2
    inbox.done_with(series)
    now[0] = 1600
    inbox.complete()
    assert not series.folder.exists()
