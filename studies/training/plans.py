"""Which models each table trains, under which name, and which published figures stand beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from verdiff.errors import InputError

WALL, PROCESSOR = "wall", "processor"
TITLES: Mapping[str, str] = MappingProxyType({"nnunet": "nnunet-like"})
"""What tables call a system where that is not its own name: nnU-Net's network in verdiff's training is not nnU-Net."""


@dataclass(frozen=True)
class TableModel:
    """A line of a table.

    Attributes:
        name: What the table calls it.
        configuration: The shipped configuration that it is trained with.
        settings: ``TABLE.KEY=VALUE`` in place of what stands there.
        main: Whether it has the table's full budget, or the smaller one of the others.
        joined: Whether it is trained on the further data sets, too.
        real: Whether it is trained by the package nnunetv2; of its configuration only the memory to plan for counts.
        network_of: The line whose trained network it samples with other ``[sampling]``; empty where it is trained
            itself.
    """

    name: str
    configuration: str
    settings: tuple[str, ...] = ()
    main: bool = True
    joined: bool = False
    real: bool = False
    network_of: str = ""

    @property
    def folder(self) -> str:
        """The name as a folder has it."""
        return "".join(letter if letter.isalnum() or letter in "-." else "-" for letter in self.name.lower())


@dataclass(frozen=True)
class TablePlan:
    """One table.

    Attributes:
        title: Heading of its page.
        question: What it answers, for ``python -m studies list``.
        data: The shipped configuration whose ``[data]`` prepares the one cache that all models train from.
        models: Its lines, in the order of training.
        reference: The model that is compared with each other one.
        budget: Minutes of training of each main model, where none is given.
        others: Minutes of the others.
        seeds: How many seeds each model is trained with.
        published: Modality -> model -> Dice in per cent, as its paper prints it.
        notes: What a reader must know of the published figures and the models.
        within: The difference of Dice, in every structure, up to which the reference stands for each other model; None
            where that is not the question.
    """

    title: str
    question: str
    data: str
    models: tuple[TableModel, ...]
    reference: str
    budget: float
    others: float
    seeds: int = 1
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    within: float | None = None

    def chosen(self, names: Sequence[str] | None, *, joined: bool) -> tuple[TableModel, ...]:
        """The models by name, in that order; all that can be trained where none is named.

        Raises:
            InputError: There is no such model, or it needs a further data set or another line and there is none.
        """
        there = {model.name: model for model in self.models if joined or not model.joined}
        unknown = [name for name in names or () if name not in there]
        needed = {there[name].network_of for name in names or () if name in there} - {"", *(names or ())}
        if needed:
            raise InputError(
                f"a line that samples the network of {needed.pop()!r}, without that",
                "the line whose network it samples, too",
                "add it to --models, in front",
            )
        if unknown:
            lacking = any(model.name == unknown[0] for model in self.models)
            raise InputError(
                f"the model {unknown[0]!r}" + (" without a further data set" if lacking else ""),
                "one of " + ", ".join(there),
                "name its data with --beside" if lacking else "correct --models",
            )
        return tuple(there[name] for name in dict.fromkeys(names)) if names else tuple(there.values())


def _system(name: str, *, main: bool = True) -> TableModel:
    # Verdiff-Net's too is the configuration of its own name: the default model's is made for scans from anywhere.
    return TableModel(TITLES.get(name, name), name, main=main)


def _spinesegdiff(name: str, *settings: str, joined: bool = False) -> TableModel:
    return TableModel(name, "spinesegdiff", settings, joined=joined)


def _losses(mse: float, bce: float, dice: float) -> tuple[str, ...]:
    return f"training.loss_mse={mse}", f"training.loss_bce={bce}", f"training.loss_dice={dice}"


def _chain(timesteps: int, start: int) -> TableModel:
    """SpineSegDiff trained on a chain of T timesteps, up to the one that it starts from."""
    settings = (f"process.timesteps={timesteps}", f"sampling.start_step={start}")
    return _spinesegdiff(f"T {timesteps} from {start}", *settings)


def _sampled(chain: TableModel, **sampling: Sequence[int]) -> tuple[TableModel, ...]:
    """A trained chain sampled otherwise: a line for each value of each setting."""
    return tuple(
        TableModel(
            f"{chain.name} with {key.removesuffix('_step')} {value}",
            chain.configuration,
            (*chain.settings, f"sampling.{key}={value}"),
            network_of=chain.name,
        )
        for key, values in sampling.items()
        for value in values
    )


def _parts(name: str, configuration: str, main: bool = True, **switches: bool) -> TableModel:
    settings = tuple(f"network.{key}={str(value).lower()}" for key, value in switches.items())
    return TableModel(name, configuration, settings, main=main)


_SHIPPED = _spinesegdiff("T 30 from 20")

_NNUNET = (
    "nnunet-like is nnU-Net's plan and network in verdiff's training, not the package nnunetv2: no claim about nnU-Net "
    "follows from it."
)
_PUBLISHED = "The papers' figures are of other patients, mostly private, on a GPU; they orient, they do not compare."

PLANS: Mapping[str, TablePlan] = MappingProxyType(
    {
        "table1": TablePlan(
            title="Table 1: the 2D systems",
            question="Verdiff-Net's table 1: 2D systems at equal wall-clock budget, paired per patient",
            data="spine-mr",
            models=(
                *map(_system, ("verdiff-net", "unet", "nnunet", "medsegdiff", "spinesegdiff")),
                *(_system(name, main=False) for name in ("fcn", "deeplabv3", "swin-unet", "sam")),
            ),
            reference="verdiff-net",
            budget=45,
            others=15,
            published={
                "XR": {
                    "verdiff-net": 88.74, "unet": 60.78, "nnunet-like": 89.77, "medsegdiff": 87.59, "fcn": 65.30,
                    "deeplabv3": 72.44, "swin-unet": 68.93, "sam": 67.89,
                },
                "MR": {
                    "verdiff-net": 93.86, "unet": 91.23, "nnunet-like": 92.16, "medsegdiff": 92.96, "fcn": 91.50,
                    "deeplabv3": 91.06, "swin-unet": 85.86, "sam": 81.00,
                },
            },
            notes=(_NNUNET, f"{_PUBLISHED} On MR the paper segments vertebrae alone."),
        ),
        "nnunetv2": TablePlan(
            title="Does nnunet-like stand for nnU-Net?",
            question="the real nnunetv2, trained once at the budget of nnunet-like: do they differ by more than 0.005?",
            data="spine-mr",
            models=(TableModel("nnunetv2", "nnunet", real=True), _system("nnunet")),
            reference="nnunet-like",
            budget=45,
            others=45,
            notes=(
                "nnunetv2 is the package's own planner, preprocessing, augmentation, network, loss and SGD. Its batch "
                "is planned for the memory that nnunet-like is planned for; its rate decays over the budget, not over "
                "1000 epochs; where the processor has bf16 its network computes in it, as every training here does.",
                "nnunetv2 takes the slices that all models here take. Left alone, it slices across the axis of the "
                "largest spacing, which is an accident where voxels are nearly cubic.",
                "nnunetv2 predicts with its own windows and mirroring. Its class probabilities are brought to the "
                "pixels that all are scored on, and the most probable class counts. Its seconds begin at the file.",
                "--set says nothing to nnunetv2, but for network.memory_gb.",
            ),
            within=0.005,
        ),
        "ablation": TablePlan(
            title="Table 2: MSFM and NSA",
            question="Verdiff-Net's table 2: without and with MSFM and NSA, three seeds, so that the spread is known",
            data="spine-mr",
            models=(
                _parts("MSFM and NSA", "verdiff-net"),
                _parts("neither", "verdiff-net", msfm=False, nsa=False),
                _parts("MSFM alone", "verdiff-net", nsa=False),
                _parts("NSA alone", "verdiff-net", msfm=False),
            ),
            reference="MSFM and NSA",
            budget=20,
            others=20,
            seeds=3,
            published={"MR": {"neither": 88.68, "MSFM alone": 91.96, "NSA alone": 90.27, "MSFM and NSA": 93.86}},
            notes=(_PUBLISHED, "A 3 x 3 convolution stands in the place of the MSFM."),
        ),
        "spinesegdiff": TablePlan(
            title="SpineSegDiff: the chain, its start, its loss",
            question="SpineSegDiff: T and start step against Dice and time, pre-segmentation, loss terms, T1w",
            data="spine-mr",
            models=(
                _SHIPPED,
                *map(_chain, (30, 100, 1000), (27, 90, 900)),
                *_sampled(_SHIPPED, start_step=(10, 15), steps=(1, 2, 10), samples=(1, 5)),
                *_sampled(_chain(30, 27), start_step=(10, 20)),
                *_sampled(_chain(100, 90), start_step=(33, 67)),
                *_sampled(_chain(1000, 900), start_step=(333, 667)),
                _spinesegdiff(
                    "from noise without pre-segmentation",
                    *("process.timesteps=30", "sampling.start=noise", "sampling.start_step=30"),
                    *("sampling.steps=10", "training.from_prior=0.0"),
                ),
                _spinesegdiff("MSE alone", *_losses(0.25, 0.0, 0.0)),
                _spinesegdiff("BCE alone", *_losses(0.0, 1.0, 0.0)),
                _spinesegdiff("Dice alone", *_losses(0.0, 0.0, 1.0)),
                _spinesegdiff("Dice and BCE", *_losses(0.0, 1.0, 1.0)),
                _spinesegdiff("T1w and T2w", joined=True),
            ),
            reference="T 30 from 20",
            budget=20,
            others=20,
            published={},
            notes=(
                "The paper has a mean Dice of 0.91 on mid-slices of SPIDER, T1w and T2w; every slice counts here.",
                "'T 30 from 20' is the shipped configuration; each other line says what differs.",
                "'with start', 'with steps' and 'with samples' are the network of the line that is named first, "
                "sampled otherwise. A network is trained on all timesteps up to its start, so it has seen those of an "
                "earlier one. The shipped chain has 5 steps and 2 samples.",
            ),
        ),
        "safnet": TablePlan(
            title="SAFNet and the 3D systems",
            question="SAFNet's tables: the 3D systems, and ASPP, multiscale fusion and self-attention one by one",
            data="safnet",
            models=(
                *map(_system, ("safnet", "unet3d", "resunet3d", "deeplabv3-3d", "cfnet3d")),
                _parts("base", "safnet", False, aspp=False, fusion=False, attention=False),
                _parts("base and ASPP", "safnet", False, fusion=False, attention=False),
                _parts("base and multiscale fusion", "safnet", False, aspp=False, attention=False),
                _parts("base and self-attention", "safnet", False, aspp=False, fusion=False),
            ),
            reference="safnet",
            budget=45,
            others=45,
            published={
                "MR": {
                    "safnet": 80.32, "base": 77.15, "base and ASPP": 81.12, "base and multiscale fusion": 80.53,
                    "base and self-attention": 79.76,
                }
            },
            notes=(f"{_PUBLISHED} SAFNet's are means over 17 structures; its ablation has SAFNet itself at 81.37.",),
        ),
    }
)  # fmt: skip
"""The tables by the name of their command."""
