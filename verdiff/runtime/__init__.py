"""The runtime: a verified bundle in, a mask in the scan's own grid out. It never imports torch or onnx.

``Segmenter`` is the door; docs/runtime.md is the guide. The inference library (ONNX Runtime or OpenVINO) and SimpleITK
are imported when they are first needed.
"""

from verdiff.runtime.backends import Backend, installed_backends
from verdiff.runtime.clock import STAGES, Cancelled
from verdiff.runtime.result import Segmentation
from verdiff.runtime.segmenter import Segmenter

__all__ = ["STAGES", "Backend", "Cancelled", "Segmentation", "Segmenter", "installed_backends"]
