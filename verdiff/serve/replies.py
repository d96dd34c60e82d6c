"""What a worker sent, as the arrays and records of its host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from verdiff.serve.blocks import mapped
from verdiff.serve.job import Job, Reply

if TYPE_CHECKING:
    from verdiff.anatomy import Surface


def reply_of(job: Job, message: Mapping[str, Any], blocks: list[int], label_ids: Mapping[str, int]) -> Reply:
    """A mask of a job from the message and the blocks (labels, and uncertainty where it was asked for)."""
    provenance = message["provenance"]
    if job.identity is not None:
        provenance["scan"]["dicom"] = job.identity.described()
    # Copied, so that a host may keep as many masks as it has memory for: each block holds a file open.
    labels, *rest = (mapped(block, job.geometry.shape, np.uint8).copy() for block in blocks)
    return Reply(
        job.id,
        labels,
        rest[0] if rest else None,
        label_ids,
        job.geometry,
        message["outcome"],
        message["volumes_ml"],
        message["timings"],
        provenance,
        job.identity,
    )


def surfaces_of(message: Mapping[str, Any], blocks: list[int]) -> dict[str, Surface]:
    """The surfaces that came with the end of a job, by the name of their structure."""
    named = message.get("surfaces", ())
    if not named:
        return {}
    from verdiff.anatomy import Surface

    return {
        each["name"]: Surface(
            mapped(blocks[2 * at], (each["vertices"], 3), np.float64).copy(),
            mapped(blocks[2 * at + 1], (each["triangles"], 3), np.int64).copy(),
        )
        for at, each in enumerate(named)
    }
