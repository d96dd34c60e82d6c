"""Masks as a service: one supervised worker process a model, and the protocols in front of it.

``Client`` is the door to a worker from Python: it starts the worker, hands it jobs, and starts a new one whenever it
has to end the old one. Servers speak a protocol on one side and to a ``Client`` on the other. docs/serving.md is the
guide.
"""

from verdiff.limits import Limits
from verdiff.serve.client import Client
from verdiff.serve.job import Job, Reply

__all__ = ["Client", "Job", "Limits", "Reply"]
