"""A DICOM node in front of a worker: series in by C-STORE, masks back as DICOM objects; see docs/dicom-node.md.

Wants the extra ``[dicom]``.
"""

from verdiff.limits import Completion, NodeLimits
from verdiff.serve.dicom.node import DicomNode, check_node
from verdiff.serve.dicom.settings import OBJECTS, Delivery, Peer

__all__ = ["OBJECTS", "Completion", "Delivery", "DicomNode", "NodeLimits", "Peer", "check_node"]
