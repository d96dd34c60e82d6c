"""The picture at the top of README.md: ``make picture`` segments the sample with the model that ships."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from tools.import_graph import ROOT
from verdiff.cli import app

PICTURE = ROOT / "docs" / "mask-on-scan.png"
SAMPLE = ROOT / "examples" / "mr_t2_sample.nii.gz"
COLOURS, ROUNDS = 256, 3


def main() -> None:
    """Run ``verdiff infer --uncertainty --preview`` on the sample, and keep the preview with fewer colours."""
    with TemporaryDirectory() as folder:
        app(["infer", str(SAMPLE), "--uncertainty", "--preview", "--output", f"{folder}/"], standalone_mode=False)
        (preview,) = Path(folder).glob("*.png")
        # Colours of few pixels, as those of outlines are, have to stay.
        few = Image.open(preview).quantize(COLOURS, Image.Quantize.MAXCOVERAGE, ROUNDS, dither=Image.Dither.NONE)
        few.save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
