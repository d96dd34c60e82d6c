"""Many runs on one page."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from verdiff.errors import DataError
from verdiff.train.curves import METRICS, append_metrics, main, plot_runs


def train(run: Path, losses: tuple[float, ...]) -> Path:
    run.mkdir()
    for number, loss in enumerate(losses, start=1):
        append_metrics(
            run / METRICS, {"iteration": number, "minutes": number / 2, "loss_prior": loss, "dice_sampled": 1 - loss}
        )
    return run


def test_every_run_has_its_chart(tmp_path: Path) -> None:
    runs = [train(tmp_path / f"run{number}", (0.9, 0.5, 0.2)) for number in range(5)]
    single, many = tmp_path / "single.png", tmp_path / "many.png"
    plot_runs(runs[:1], single)
    plot_runs([*runs[:4], runs[4] / METRICS], many)
    one, page = Image.open(single), Image.open(many)
    assert page.size == (4 * one.width, 2 * one.height)
    # Every cell but those that no run fills has something drawn on its white.
    drawn = [
        page.crop((x * one.width, y * one.height, (x + 1) * one.width, (y + 1) * one.height))
        .convert("L")
        .getextrema()[0]
        for y in range(2)
        for x in range(4)
    ]
    assert [darkest < 100 for darkest in drawn] == [True] * 5 + [False] * 3


def test_a_run_without_metrics_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no metrics in "):
        plot_runs([tmp_path / "empty"], tmp_path / "page.png")
    assert not (tmp_path / "page.png").exists()


def test_the_page_is_made_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, page = train(tmp_path / "run", (0.9, 0.5)), tmp_path / "page.png"
    monkeypatch.setattr("sys.argv", ["curves", str(run), "-o", str(page)])
    main()
    assert Image.open(page).format == "PNG"
    monkeypatch.setattr("sys.argv", ["curves", str(tmp_path), "-o", str(page)])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
