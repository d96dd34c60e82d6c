"""The kernels that TensorRT-RTX compiles where an engine runs, kept beside it so that they are compiled once."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from verdiff.engines import place_file
from verdiff.errors import OutputError

SUFFIX = ".kernels"


class KernelCache:
    """TensorRT-RTX's runtime cache of one engine.

    The file lies in the folder of engines, which only this user can write: what is in it is code. TensorRT-RTX itself
    refuses one of another version, GPU or driver, and begins anew.

    Args:
        plan: Plan of the engine.
    """

    def __init__(self, plan: Path) -> None:
        self.path = plan.with_suffix(SUFFIX)
        self._cache: Any = None
        self._kept = b""

    def lend(self, config: Any) -> None:
        """Have the contexts made with ``config``, a runtime configuration of the engine's, take and give kernels."""
        if self._cache is None:
            self._cache = config.create_runtime_cache()
            with suppress(OSError):
                blob = self.path.read_bytes()
                if self._cache.deserialize(blob):
                    self._kept = blob
        config.set_runtime_cache(self._cache)

    def keep(self) -> None:
        """Write down what was compiled; a folder that cannot be written costs compiling again, and nothing else."""
        if self._cache is None:
            return
        made = self._cache.serialize()
        blob = b"" if made is None else bytes(memoryview(made))
        if blob and blob != self._kept:
            with suppress(OutputError):
                place_file(self.path, blob)
                self._kept = blob
