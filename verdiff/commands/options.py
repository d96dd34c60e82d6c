"""What several commands parse alike."""

from __future__ import annotations

from typing import Annotated

import typer

Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; every core by default.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

Steps = Annotated[int | None, typer.Option(min=1, help="Denoiser passes a sample.")]
Samples = Annotated[int | None, typer.Option(min=1, help="Members of the ensemble.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Key of the noise.")]
Sampler = Annotated[str | None, typer.Option(help="ddim, ddpm or dpmpp-2m.")]
Fusion = Annotated[str | None, typer.Option(help="mean, steps, steps-published or staple.")]
Policy = Annotated[
    str | None, typer.Option(help="What not to compute: locate, skip, agree joined by '+'; whole; or fast.")
]
PriorOnly = Annotated[bool, typer.Option("--prior-only", help="The prior's answer, without sampling.")]
BackendName = Annotated[
    str, typer.Option(help="auto, onnxruntime, openvino, tensorrt or tensorrt-rtx; see docs/runtime.md.")
]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")]
Precision = Annotated[str, typer.Option(help="fp32, fp16, bf16 or int8; auto: the fastest that passed.")]
BudgetMs = Annotated[float | None, typer.Option(help="Best mask in so many milliseconds (loading apart).")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace files there that verdiff did not write, or that were changed.")
]
Force = Annotated[bool, typer.Option("--force", help="Go on with a scan unlike the training data.")]
