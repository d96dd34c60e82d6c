"""TensorRT's timing cache: kernels measured once for a GPU and a version serve every later build."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from verdiff.engines import place_file
from verdiff.engines.library import Library
from verdiff.nvidia import Gpu

if TYPE_CHECKING:
    import tensorrt as trt


@dataclass(frozen=True)
class TimingCache:
    """The file of timings beside the engines. TensorRT-RTX, which measures where an engine runs, has none.

    Attributes:
        folder: Folder of the engines.
        library: Library that builds.
        gpu: GPU that kernels are measured on.
    """

    folder: Path
    library: Library
    gpu: Gpu | None

    @property
    def path(self) -> Path | None:
        """One file a GPU and version; None where there are no timings."""
        if self.library.is_rtx or self.gpu is None:
            return None
        name = hashlib.sha256(self.gpu.name.encode()).hexdigest()[:8]
        return self.folder / f"timings-{self.library.version}-sm{self.gpu.sm}-{name}.cache"

    def lend(self, config: trt.IBuilderConfig) -> None:
        """Give a build what is known; a file that cannot be read or that TensorRT refuses counts as nothing."""
        if self.path is None:
            return
        try:
            known = self.path.read_bytes()
        except OSError:
            known = b""
        for blob in (known, b""):
            timings = cast("trt.ITimingCache | None", config.create_timing_cache(blob))
            if timings is not None and cast(bool, config.set_timing_cache(timings, False)):
                return

    def keep(self, config: trt.IBuilderConfig) -> None:
        """Write down what a build knows now.

        Raises:
            OutputError: The folder cannot be written.
        """
        if self.path is None:
            return
        timings = cast("trt.ITimingCache | None", config.get_timing_cache())
        if timings is not None:
            place_file(self.path, bytes(memoryview(timings.serialize())))
