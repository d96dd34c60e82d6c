"""Where one vertebra ends and the next begins along the spine's curve, with the discs as witnesses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from verdiff.anatomy.libraries import library

Floats = NDArray[np.float64]

_SMOOTH_MM = 1.5
_PROMINENCE = 0.2
_LEAST_APART_MM = 6
# A cut that a disc fills by this share, or where so little bone is left, needs no further witness.
_DISC_SHARE, _CLEAR = 0.2, 0.8
# Neighbouring vertebrae differ in height by less than a tenth; a collapsed one keeps its discs as witnesses.
_MERGE_BELOW, _SPLIT_ABOVE = 1.35, 1.6
# The space between two bodies, as a share of a body's height.
_SPACE = 0.3
# No single body is taller.
TALLEST_MM = 42.0
# Of what is expected of a whole body. Less at the lowest place is a leak into the sacrum, unless the scan ends there or
# a disc lies below.
_LEAST_LOWEST, _LEAST_CUT_OFF, _LEAST_BETWEEN = 0.4, 0.08, 0.15
# A topmost body less tall than this is cut off, whether by the scan or because the mask stops before the scan does,
# unless a disc lies above: then its upper end plate is there, and it has collapsed.
_STUMP = 0.6
_BORDER_MM = 2.5


@dataclass(frozen=True)
class Cut:
    """A boundary between two bodies.

    Attributes:
        at_mm: Where on the curve.
        evidence: Share of the cross section that is not bone, in [0, 1]; how clearly the bodies are apart.
        witness: ``"disc"``, ``"gap"`` (no disc, but hardly any bone), ``"waist"`` (less bone than around it) or
            ``"height"`` (nothing but that the piece would be two vertebrae tall).
    """

    at_mm: float
    evidence: float
    witness: str

    @property
    def sure(self) -> bool:
        """Whether it stands without regard to the heights beside it."""
        return self.witness in ("disc", "gap")


@dataclass(frozen=True)
class Segment:
    """The body of one vertebra on the curve.

    Attributes:
        top_mm, bottom_mm: Its end plates.
        above, below: The cuts that bound it; None at the ends of the column.
        filled_mm: Millimetres of whole cross section in it.
        cut_off: Whether the scan, or at the top the mask, ends in it.
        dropped: Whether it is too little to be a vertebra.
    """

    top_mm: float
    bottom_mm: float
    above: Cut | None
    below: Cut | None
    filled_mm: float
    cut_off: bool
    dropped: bool = False

    @property
    def height_mm(self) -> float:
        """Height from end plate to end plate."""
        return self.bottom_mm - self.top_mm

    @property
    def middle_mm(self) -> float:
        """Half way between the end plates."""
        return (self.top_mm + self.bottom_mm) / 2

    @property
    def separation(self) -> float:
        """How clearly it is apart from its neighbours, in [0, 1]: the weaker of its cuts."""
        return min((cut.evidence for cut in (self.above, self.below) if cut is not None), default=1.0)


def segments_of(bone: Floats, disc: Floats, *, open_top: bool, open_bottom: bool) -> list[Segment]:
    """The bodies from top to bottom.

    Candidates are the peaks of what is not bone. Those without a good witness are given up where the two pieces
    together are no taller than one vertebra is expected to be; a piece of two heights is cut once more, where there is
    least bone. What is expected is the median of the sure neighbours, since heights change slowly along a spine.

    Args:
        bone: Share of bone in the cross section at every millimetre of the curve, [n].
        disc: Share of disc, [n].
        open_top: Whether the scan, and not only the bone, ends at the curve's top.
        open_bottom: Whether the scan, and not only the bone, ends at the curve's bottom.
    """
    ndimage, signal = library("scipy.ndimage"), library("scipy.signal")
    empty = ndimage.gaussian_filter1d(1 - bone, _SMOOTH_MM, mode="nearest")
    filling = ndimage.maximum_filter1d(disc, 5)
    peaks, _ = signal.find_peaks(empty, prominence=_PROMINENCE, distance=_LEAST_APART_MM)
    cuts = [_cut(int(at), bone, empty, filling) for at in peaks]
    cuts = _merged(cuts, bone)
    cuts = _split(cuts, bone, empty, filling)
    pieces = _pieces(cuts, bone, open_top, open_bottom)
    return _judged(pieces, filling)


def expected_height_mm(pieces: Sequence[Segment], index: int) -> float | None:
    """Median height of the nearest pieces that are whole and surely bounded, up to two on each side; None if none."""
    sure = [
        (abs(other - index), piece.height_mm)
        for other, piece in enumerate(pieces)
        if other != index
        and not piece.cut_off
        and all(cut is None or cut.sure for cut in (piece.above, piece.below))
        # A piece at the end may be a sliver; one of two heights is still to be cut.
        and piece.above is not None
        and piece.below is not None
        and piece.height_mm <= TALLEST_MM
    ]
    nearest = [height for _, height in sorted(sure)[:4]]
    return float(np.median(nearest)) if nearest else None


def _whole_height_mm(pieces: Sequence[Segment], index: int) -> float | None:
    """What a whole body would measure in place of a piece that may be two; None where too little says so.

    Not the median of those beside it: collapsed ones would have a healthy one cut to pieces. Of a piece that may be
    one body, the tallest beside it says what is usual, at the ends of the column too; of a taller one, the second.
    """
    beside = [
        (abs(other - index), piece)
        for other, piece in enumerate(pieces)
        if other != index
        and not piece.cut_off
        and all(cut is None or cut.sure for cut in (piece.above, piece.below))
        and piece.height_mm <= TALLEST_MM
    ]
    within = sum(piece.above is not None and piece.below is not None for _, piece in beside)
    possible = pieces[index].height_mm <= TALLEST_MM
    if within < 1 + possible:
        return None
    heights = sorted(piece.height_mm for _, piece in sorted(beside, key=lambda each: each[0])[:4])
    return heights[-1] if possible or len(heights) < 3 else heights[-2]


def pitch_mm(segments: Sequence[Segment]) -> Floats:
    """Distance from each body to the next ones, [n]: the median around it; a usual one where there is but one body."""
    middles = np.array([segment.middle_mm for segment in segments])
    if len(middles) < 2:
        return np.full(len(middles), 1.3 * max((segment.height_mm for segment in segments), default=25.0))
    steps = np.diff(middles)
    return np.array([np.median(steps[max(0, i - 2) : i + 2]) for i in range(len(middles))])


def _cut(at: int, bone: Floats, empty: Floats, filling: Floats, *, by_height: bool = False) -> Cut:
    evidence = float(np.clip(max(empty[at], 1 - bone[max(0, at - 1) : at + 2].min()), 0, 1))
    if filling[at] >= _DISC_SHARE:
        witness = "disc"
    elif evidence >= _CLEAR:
        witness = "gap"
    else:
        witness = "height" if by_height else "waist"
    return Cut(float(at), evidence, witness)


def _pieces(cuts: Sequence[Cut], bone: Floats, open_top: bool, open_bottom: bool) -> list[Segment]:
    ends: list[Cut | None] = [None, *cuts, None]
    pieces = []
    for above, below in pairwise(ends):
        start = 0 if above is None else round(above.at_mm)
        stop = len(bone) if below is None else round(below.at_mm) + 1
        within = bone[start:stop]
        body = np.flatnonzero(within > 0.5 * within.max()) if within.size and within.max() > 0 else np.array([], int)
        if body.size == 0:
            continue
        top, bottom = start + int(body[0]), start + int(body[-1]) + 1
        cut_off = (open_top and top <= _BORDER_MM) or (open_bottom and bottom >= len(bone) - _BORDER_MM)
        pieces.append(Segment(float(top), float(bottom), above, below, float(within.sum()), cut_off))
    return pieces


def _merged(cuts: list[Cut], bone: Floats) -> list[Cut]:
    """Without the cuts whose two pieces make one vertebra; the least evident are looked at first.

    A disc is never given up. A clear gap without one is, where the mask knows discs elsewhere: a body torn in two.
    """
    kept, discs = list(cuts), any(cut.witness == "disc" for cut in cuts)
    doubtful = [cut for cut in cuts if not cut.sure or (discs and cut.witness == "gap")]
    for cut in sorted(doubtful, key=lambda cut: cut.evidence):
        pieces = _pieces(kept, bone, False, False)
        sides = [i for i, piece in enumerate(pieces) if cut in (piece.above, piece.below)]
        if len(sides) < 2:
            kept.remove(cut)
            continue
        together = pieces[sides[1]].bottom_mm - pieces[sides[0]].top_mm
        expected = expected_height_mm([piece for i, piece in enumerate(pieces) if i != sides[1]], sides[0])
        most = _MERGE_BELOW * expected if expected is not None else 0.0 if cut.sure else TALLEST_MM
        if together <= most:
            kept.remove(cut)
    return kept


def _split(cuts: list[Cut], bone: Floats, empty: Floats, filling: Floats) -> list[Cut]:
    """The segments, with cuts in the pieces that are two vertebrae tall or more."""
    pieces, more = _pieces(cuts, bone, False, False), []
    for index, piece in enumerate(pieces):
        expected = _whole_height_mm(pieces, index)
        if expected is None or piece.height_mm <= _SPLIT_ABOVE * expected:
            continue
        space = _SPACE * expected
        parts = max(2, round((piece.height_mm + space) / (expected + space)))
        for part in range(1, parts):
            middle = piece.top_mm + piece.height_mm * part / parts
            reach = max(2, round(0.25 * expected))
            near = slice(max(0, round(middle) - reach), min(len(bone), round(middle) + reach + 1))
            # Nearer the middle where the evidence does not say otherwise.
            away = np.abs(np.arange(near.start, near.stop) - middle) / (100 * reach)
            at = near.start + int(np.argmax(empty[near] - away))
            more.append(_cut(at, bone, empty, filling, by_height=True))
    return sorted([*cuts, *more], key=lambda cut: cut.at_mm)


def _judged(pieces: list[Segment], filling: Floats) -> list[Segment]:
    """The segments, with those marked that are too little to be a vertebra."""
    judged = []
    for index, piece in enumerate(pieces):
        expected = expected_height_mm(pieces, index)
        cut_off, least = piece.cut_off, _LEAST_BETWEEN
        ends_above = filling[: round(piece.top_mm)].max(initial=0.0) >= _DISC_SHARE
        if expected is not None and index == 0 and piece.height_mm < _STUMP * expected and not ends_above:
            cut_off = True
        if piece.cut_off:
            least = _LEAST_CUT_OFF
        elif index == len(pieces) - 1 and filling[round(piece.bottom_mm) :].max(initial=0.0) < _DISC_SHARE:
            least = _LEAST_LOWEST
        dropped = expected is not None and piece.filled_mm < least * expected
        judged.append(replace(piece, cut_off=cut_off, dropped=dropped))
    return judged
