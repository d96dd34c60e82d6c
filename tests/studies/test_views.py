"""Views of a slice: what they show comes back to its place, and what they pushed out has no vote."""

from __future__ import annotations

import numpy as np
import pytest

from studies.library.views import AS_IT_IS, CANDIDATES, View, Votes, choose_views


def blob(rows: int = 48, cols: int = 40) -> np.ndarray:
    """Smooth, bright in the middle, dark at the border."""
    y, x = np.mgrid[0:rows, 0:cols]
    return (2 * np.exp(-((y - 20) ** 2 + (x - 22) ** 2) / 60.0) - 1).astype(np.float32)


def test_the_slice_as_it_is_comes_first_and_is_not_touched() -> None:
    image = blob()
    assert CANDIDATES[0] == AS_IT_IS and AS_IT_IS.look(image) is image
    assert len({view.name for view in CANDIDATES}) == len(CANDIDATES)


@pytest.mark.parametrize("view", [view for view in CANDIDATES if view.gamma == 1], ids=lambda view: view.name)
def test_what_a_view_shows_comes_back_to_its_place(view: View) -> None:
    image = blob()
    seen = (view.look(image) + 1) / 2
    back, vote = view.put_back(seen[None])[0], view.vote(image.shape)
    sure = vote > 0.999
    assert sure.mean() > 0.5 and vote.max() <= 1 + 1e-5
    # Two linear interpolations blur the peak a little; a view put back wrongly would be off by tenths.
    assert np.abs(back - (image + 1) / 2)[sure].max() < 0.03


def test_a_shift_goes_down_and_to_the_right_and_leaves_padding() -> None:
    image = blob()
    seen = View(shift=(4, 2)).look(image)
    np.testing.assert_allclose(seen[4:, 2:], image[:-4, :-2], atol=1e-6)
    assert (seen[:4] == -1).all() and (seen[:, :2] == -1).all()


def test_what_was_pushed_out_has_no_vote() -> None:
    vote = View(shift=(8, 0)).vote((48, 40))
    assert (vote[-8:] == 0).all() and (vote[:-8] == 1).all()


def test_gamma_keeps_black_and_white() -> None:
    seen = View(gamma=0.5).look(np.array([[-1.0, 0.0, 1.0]], np.float32))
    np.testing.assert_allclose(seen, [[-1.0, 2 * np.sqrt(0.5) - 1, 1.0]], atol=1e-6)


def test_the_mean_weighs_each_view_by_its_vote() -> None:
    vote = np.array([1.0, 0.5, 0.0], np.float32)[:, None, None, None, None]
    placed = (np.array([0.2, 0.8, 0.9], np.float32)[:, None, None, None, None] * vote).astype(np.float16)
    votes = Votes(placed, vote)
    assert votes.mean([0, 1]).item() == pytest.approx((0.2 + 0.4) / 1.5, abs=1e-3)
    assert votes.mean([0, 2]).item() == pytest.approx(0.2, abs=1e-3)


def test_views_join_greedily_where_they_help_most() -> None:
    worth = [0.0, 3.0, 1.0, -2.0]
    series, scores = choose_views(lambda members: sum(worth[i] for i in members), 4, 3)
    assert series == [0, 1, 2] and scores == [0.0, 3.0, 4.0]
    assert choose_views(lambda members: sum(worth[i] for i in members), 4, 9)[0] == [0, 1, 2, 3]
