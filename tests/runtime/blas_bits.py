"""Prints a digest of a mask; run with different BLAS thread counts by ``test_invariance``."""

from __future__ import annotations

import hashlib

from tests.runtime.scans import mr_scan, numpy_segmenter

result = numpy_segmenter().segment(mr_scan(2, 320, 300, pixel=0.5))
digest = hashlib.sha256()
for array in (result.labels, result.uncertainty, *(result.probabilities(label.name) for label in result.label_table)):
    digest.update(array.tobytes())
print(digest.hexdigest())
