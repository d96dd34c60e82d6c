"""Levels from the picture: what is seen of bodies, the share of odds, what is refused, and how it is told."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.anatomy.phantom import LABELS, Phantom, spine
from verdiff.anatomy import find_vertebrae
from verdiff.anatomy.anchor import AnchorModel, Sight, anchor_model, sight_of
from verdiff.anatomy.files import levels_of, statistics_of
from verdiff.anatomy.naming import names_of
from verdiff.anatomy.picture import Surroundings
from verdiff.anatomy.vertebrae import bodies_seen
from verdiff.errors import VerdiffError
from verdiff.imaging import Geometry


def picture(made: Phantom) -> np.ndarray:
    """Bright bone, dark discs and bright fluid."""
    return np.select([made.labels == 1, made.labels == 2, made.labels == 3], [300, 120, 900], 60).astype(np.int16)


def seen(index: int, of: int = 4, *, below: float = 1.0, pitch_mm: float = 33.0) -> list[Surroundings]:
    """Bodies of which the one at ``index`` looks like the last above the sacrum to :func:`pointing`."""
    size = len(anchor_model().mean)
    found = []
    for each in range(of):
        features = np.zeros(size)
        features[0], features[-2] = float(each == index), 1.0
        found.append(Surroundings(features, below, pitch_mm, (0.0, 0.0)))
    return found


def pointing(strength: float = 8.0) -> AnchorModel:
    """A model that looks at the first feature alone."""
    size = len(anchor_model().mean)
    weights = np.zeros(size)
    weights[0] = strength + 4
    return AnchorModel(np.zeros(size), np.ones(size), weights, -4.0, 1.0, 0.0, 0.95, 0.5, (25.0, 45.0))


def test_what_is_seen_is_the_same_in_every_orientation_spacing_and_contrast() -> None:
    made = spine(5, slices=9)
    image = picture(made)
    (lowest, *_) = bodies_seen(made.labels, made.geometry, LABELS, image)
    assert np.isfinite(lowest.features).mean() > 0.5
    brighter = bodies_seen(made.labels, made.geometry, LABELS, 3000 - 2 * image)[0]
    np.testing.assert_allclose(brighter.features, lowest.features, rtol=1e-6, atol=1e-6)
    x, y, z = made.geometry.size
    turned = replace(
        made.geometry,
        size=(x, y, z),
        origin_mm=tuple(made.geometry.index_to_mm((x - 1.0, y - 1.0, 0.0)).tolist()),
        direction=tuple((made.geometry.matrix @ np.diag([-1.0, -1.0, 1.0])).ravel().tolist()),
    )
    flipped = bodies_seen(made.labels[:, ::-1, ::-1].copy(), turned, LABELS, image[:, ::-1, ::-1].copy())[0]
    np.testing.assert_allclose(flipped.features, lowest.features, rtol=1e-6, atol=1e-6)


def test_what_the_picture_does_not_show_is_not_known_and_counts_for_nothing() -> None:
    made = spine(5, slices=9)
    rows = made.labels.shape[1] - 20
    geometry = Geometry(
        (made.geometry.size[0], rows, made.geometry.size[2]),
        made.geometry.spacing_mm,
        made.geometry.origin_mm,
        made.geometry.direction,
    )
    cut = bodies_seen(made.labels[:, :rows], geometry, LABELS, picture(made)[:, :rows])[0]
    whole = bodies_seen(made.labels, made.geometry, LABELS, picture(made))[0]
    assert cut.seen_below < whole.seen_below
    assert np.isnan(cut.features).sum() > np.isnan(whole.features).sum()
    assert np.isfinite(anchor_model().raw(cut.features[None])).all()


@pytest.mark.parametrize("index", [0, 1])
def test_the_probabilities_of_all_bodies_and_of_none_add_up_to_one(index: int) -> None:
    found = seen(index)
    likely = pointing().probabilities(np.array([each.features for each in found]))
    assert 0 < likely.sum() < 1 and likely.argmax() == index
    sight = sight_of(found, pointing())
    assert sight is not None and (sight.index, sight.refused) == (index, None)
    assert sight.probability == pytest.approx(likely.max())


@pytest.mark.parametrize(
    ("found", "model", "why"),
    [
        (seen(0), pointing(1.0), "less than 0.95"),
        (seen(0, below=0.2), pointing(), "ends too near"),
        (seen(0, pitch_mm=15.0), pointing(), "15 mm apart"),
    ],
)
def test_what_is_not_sure_or_unlike_the_training_is_refused(
    found: list[Surroundings], model: AnchorModel, why: str
) -> None:
    sight = sight_of(found, model)
    assert sight is not None and sight.refused is not None and why in sight.refused
    names = names_of((1, 2, 3, 4, 5), lowest=None, sight=sight)
    assert names.levels == (None,) * 5 and names.source is None and names.probability is None
    assert why in names.remarks[0]


def test_levels_are_counted_from_the_last_body_and_what_is_below_it_has_none() -> None:
    names = names_of((1, 2, 3, 5), lowest=None, sight=Sight(1, 0.97))
    assert names.levels == (None, "L5", "L4", "L2")
    assert (names.source, names.probability) == ("picture", 0.97)
    assert any("taken for sacrum" in remark for remark in names.remarks)


def test_what_is_told_counts_before_the_picture() -> None:
    names = names_of((1, 2), lowest="L3", sight=Sight(0, 0.99))
    assert (names.levels, names.source, names.probability) == (("L3", "L2"), "told", None)
    names = names_of((1, 2), lowest=None, on_sacrum=True, sight=Sight(1, 0.99))
    assert names.source == "sacrum"


def test_a_phantom_without_a_sacrum_stays_unknown_and_the_reason_is_told() -> None:
    made = spine(5, slices=9)
    found = find_vertebrae(made.labels, made.geometry, LABELS, image=picture(made))
    assert found.named_by is None and all(vertebra.level is None for vertebra in found.vertebrae)
    assert levels_of(found)["levels_from"] == "unknown" and levels_of(found)["level_probability"] is None
    assert any("in the picture" in remark for remark in found.remarks)


def test_levels_from_the_picture_carry_their_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verdiff.anatomy.vertebrae.sight_of", lambda bodies: Sight(0, 0.98765))
    made = spine(4, slices=9)
    found = find_vertebrae(made.labels, made.geometry, LABELS, image=picture(made))
    assert [vertebra.level for vertebra in found.vertebrae] == ["L5", "L4", "L3", "L2"]
    assert found.says_levels == "levels from the picture, probability 0.987"
    written = statistics_of(found)
    assert (written["levels_from"], written["level_probability"]) == ("picture", 0.9877)
    assert written["levels"] == {"1": "L5", "2": "L4", "3": "L3", "4": "L2"}
    assert {row["level_probability"] for row in written["vertebrae"]} == {0.9877}


def test_too_few_bodies_say_nothing() -> None:
    made = spine(2, slices=9)
    assert bodies_seen(made.labels, made.geometry, LABELS, picture(made)) == ()
    assert sight_of(()) is None


def test_the_weights_in_the_package_say_where_they_come_from_and_how_often_they_were_wrong() -> None:
    from importlib import resources

    written = json.loads(resources.files("verdiff.anatomy").joinpath("anchor.json").read_text("utf-8"))
    assert written["training"]["licence"] == "CC BY 4.0" and "Dataset102" not in written["training"]["statement"]
    measured = written["measured"]
    assert measured["named_wrong"] <= (1 - written["model"]["threshold"]) * measured["named"]
    assert AnchorModel.from_dict(written["model"]).to_dict() == written["model"]


def test_weights_of_other_features_are_refused() -> None:
    written = anchor_model().to_dict()
    with pytest.raises(VerdiffError, match="studies levels"):
        AnchorModel.from_dict({**written, "weights": written["weights"][1:]})
