"""The picture at the top of README.md: ``make picture`` segments the sample with the model that ships."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from tools.import_graph import ROOT
from verdiff.cli import app

PICTURE = ROOT / "docs" / "mask-on-scan.png"
SAMPLE = ROOT / "examples" / "mr_t2_sample.nii.gz"
COLOURS = 128


def main() -> None:
    """Run ``verdiff infer --uncertainty --preview`` on the sample, and keep the preview with fewer colours."""
    with TemporaryDirectory() as folder:
        app(["infer", str(SAMPLE), "--uncertainty", "--preview", "--output", f"{folder}/"], standalone_mode=False)
        (preview,) = Path(folder).glob("*.png")
        picture = Image.open(preview).convert("P", palette=Image.Palette.ADAPTIVE, colors=COLOURS)
        picture.save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
