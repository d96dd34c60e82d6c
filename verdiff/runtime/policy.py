"""Policies: where a call computes and where it does not, by name.

Every policy costs something in Dice or nothing; what each costs with the default model is in docs/results.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verdiff.choices import WHOLE
from verdiff.errors import InputError

# Dice between the masks of a slice before and after its samples were doubled, from which on they agree.
AGREED = 0.99


@dataclass(frozen=True)
class Policy:
    """Which computation a call leaves out; all off is ``"whole"``: every pixel of every slice, every sample.

    Attributes:
        locate: The prior looks at a few whole slices; everything else is computed in the window around what it found,
            or on whole slices after all when a structure reaches the window's border.
        skip: A slice in which the prior finds no structure is not sampled; the prior's answer stands.
        agree: The sampling of a slice ends once doubling its samples has left its mask as it was.
    """

    locate: bool = False
    skip: bool = False
    agree: bool = False

    def __str__(self) -> str:
        chosen = [each.name for each in fields(self) if getattr(self, each.name)]
        return "+".join(chosen) or WHOLE

    @classmethod
    def parse(cls, text: str) -> Policy:
        """The policy of names joined by ``+``, such as ``"locate+skip"``, or of ``"whole"``.

        Raises:
            InputError: There is no policy of such a name.
        """
        known = [each.name for each in fields(cls)]
        names = text.split("+") if text != WHOLE else []
        if not set(names) <= set(known):
            raise InputError(
                f"policy {text!r}", f"{WHOLE}, or one or more of {', '.join(known)} joined by '+'", "choose among them"
            )
        return cls(**dict.fromkeys(names, True))


EVERYTHING = Policy()


def masks_agree(before: NDArray[np.floating[Any]], after: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Whether the masks of [n, K, H, W] probabilities are alike, [n]: Dice of every structure ``AGREED`` at least.

    Structures are taken one by one, so that a canal of a few pixels counts as much as a vertebra.
    """
    first, second = before > 0.5, after > 0.5
    common = np.count_nonzero(first & second, axis=(2, 3))
    sizes = np.count_nonzero(first, axis=(2, 3)) + np.count_nonzero(second, axis=(2, 3))
    alike: NDArray[np.bool_] = (2 * common >= AGREED * sizes).all(axis=1)
    return alike
