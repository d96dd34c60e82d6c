"""What is asked for of a scan: how the model runs, which files are made of its mask, and the command that says so."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path

from verdiff.choices import SEGMENTATION_TYPES
from verdiff.errors import InputError
from verdiff.options import InferOptions
from verdiff.settings import words_of


@dataclass(frozen=True)
class AnatomyOptions:
    """What ``verdiff infer`` makes of the mask: ``--instances``, ``--stats``, ``--mesh`` and ``--lowest``.

    ``margin_probability`` and ``margin_share`` say what the no-go surfaces of ``--mesh`` promise; None is what the
    model's margins say (:func:`verdiff.bundle.margins.margin_of`).
    """

    instances: bool = False
    stats: bool = False
    mesh: bool = False
    lowest: str | None = None
    margin_probability: float | None = None
    margin_share: float | None = None

    @property
    def wanted(self) -> bool:
        """Whether any of it is asked for."""
        return self.instances or self.stats or self.mesh


@dataclass(frozen=True)
class DicomOptions:
    """The DICOM objects of ``verdiff infer``: ``--dicom-seg``, ``--seg-type`` and ``--rtstruct``."""

    segmentation: Path | None = None
    kind: str = SEGMENTATION_TYPES[0]
    contours: Path | None = None


@dataclass(frozen=True)
class Asked:
    """Everything that is asked for of each scan.

    Attributes:
        options: Options of the model and the sampling.
        uncertainty: Write the uncertainty map too.
        preview: Write a preview PNG too.
        anatomy: What to make of the vertebrae.
        dicom: Which DICOM objects to write too.
        overwrite: Replace files that verdiff did not write; never what the call reads, or a data set's JSON.
        identifiers: Put the UIDs of a scan read from DICOM into the report.
        page: An HTML page to look at, too.
        page_each: There are several scans, and ``page`` is the end of each page's name.
    """

    options: InferOptions = field(default_factory=InferOptions)
    uncertainty: bool = False
    preview: bool = False
    anatomy: AnatomyOptions = field(default_factory=AnatomyOptions)
    dicom: DicomOptions = field(default_factory=DicomOptions)
    overwrite: bool = False
    identifiers: bool = False
    page: Path | None = None
    page_each: bool = False

    @property
    def names_vertebrae(self) -> bool:
        """Whether a file is asked for in which vertebrae have names."""
        return self.anatomy.wanted or self.page is not None

    def __post_init__(self) -> None:
        if self.anatomy.lowest is not None and not self.names_vertebrae:
            raise InputError(
                f"--lowest {self.anatomy.lowest} and nothing to name",
                "--instances, --stats, --mesh or --report beside it",
                "add what you want of the vertebrae, or leave --lowest out",
            )

    def of_scan(self, *, lowest: str | None) -> Asked:
        """What is asked for of one scan of several. Its lowest vertebra counts where files name vertebrae."""
        if lowest is None or not self.names_vertebrae:
            return self
        return replace(self, anatomy=replace(self.anatomy, lowest=lowest))

    def extras(self) -> list[str]:
        """What is made beside the mask, as words; two calls with the same words make the same files."""
        made = self.anatomy
        given = {
            "--uncertainty": self.uncertainty,
            "--preview": self.preview,
            "--instances": made.instances,
            "--stats": made.stats,
            "--mesh": made.mesh,
            "--identifiers": self.identifiers,
        }
        words = [word for word, wanted in given.items() if wanted]
        numbers = {"--margin-probability": made.margin_probability, "--margin-share": made.margin_share}
        words += [] if made.lowest is None else ["--lowest", made.lowest]
        words += [] if self.page is None else ["--report", self.page.name]
        return words + [word for name, value in numbers.items() if value is not None for word in (name, f"{value:g}")]


def named_scan(scan: Path) -> Path:
    """The scan by a path that ends with its own name, which ``.`` and ``..`` do not."""
    return scan.resolve() if scan.name in ("", "..") else scan


def repeating_command(scan: Path, options: InferOptions) -> str:
    """The command line that makes the mask again; of each path its name alone."""
    words = ["verdiff", "infer", named_scan(scan).name]
    if options.model is not None:
        words += ["--model", Path(options.model).name]
    if options.orientation is not None:
        words += ["--orientation", options.orientation]
    if options.time_point is not None:
        words += ["--time-point", str(options.time_point)]
    if options.trusted_key is not None:
        options = replace(options, trusted_key=Path(options.trusted_key).name)
    return shlex.join([*words, *words_of(options)])
