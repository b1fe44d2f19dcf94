"""Model cards: page and figure say what the JSON says, and the pages in docs/ are those of the shipped weights."""

from pathlib import Path

import pytest

from polymicros_jax.training.model_card import error_curve, page
from polymicros_jax.training.prior import read_card, shipped

DOCS = Path(__file__).parents[2] / "docs" / "model_cards"

CARD = {
    "representation": "rogsh3",
    "sigma_data": 0.3,
    "network": {"width": 8, "multipliers": [1, 2], "patch": 2},
    "parameters": 1_234_567,
    "training": {
        "initial": "old",
        "previous": "old",
        "steps": 40,
        "steps_before": 7,
        "seconds": 5400.0,
        "noise_law": {"mean": -1.2, "std": 1.2},
        "centred": True,
        "augmentation": [],
        "data_rms": 0.25,
        "relative_error": {"0.1": 0.2, "0.5": 0.6},
        "previous_relative_error": {"0.1": 0.4, "0.5": 0.8},
        "validation_curve": [
            {"step": 20, "relative_error": {"0.1": 0.3, "0.5": 0.7}},
            {"step": 40, "relative_error": {"0.1": 0.2, "0.5": 0.6}},
        ],
    },
}


def test_the_table_stands_beside_the_previous_weights():
    text = page("new", CARD, "c.png", "s.png")
    rows = [line for line in text.splitlines() if line.startswith("| 0.")]
    # 0.2 of 0.25 is 0.05: half of the noise 0.1, a quarter of its variance is left; before 0.1, nothing was removed.
    assert rows == ["| 0.1 | 0.200 | 0.400 | 75.0 | 0.0 | 0.40 |", "| 0.5 | 0.600 | 0.800 | 91.0 | 84.0 | 2.00 |"]
    assert (
        "| noise level | relative error | old before | noise removed (%) | removed before (%) | doing nothing |" in text
    )
    for line in ("| augmentation | none |", "| wall time | 1.50 h |", "| training noise | ln sigma ~ N(-1.2, 1.2^2) |"):
        assert line in text
    assert "1.2 M parameters" in text
    assert "folded into channels, nothing on the full grid." in text
    rounds = {"detail": 16, "rounds": 2, "coarse": 3, "width": 32}
    deeper = page("new", {**CARD, "network": CARD["network"] | rounds}, "c.png", "")
    assert "rounds on the folded grid: 3, of 32 channels, rounds on the full grid: 2, of 16 channels." in deeper
    assert "`sigma_skip` as in EDM" in text
    assert "![Unconditional draws beside real patches](s.png)" in text
    assert "## Samples" not in page("new", CARD, "c.png", "")


def test_the_curve_has_the_scores_and_the_history():
    left, right = error_curve(CARD).axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in left.lines}
    assert lines["these weights"] == [[0.1, 0.2], [0.5, 0.6]]
    assert lines["old before"] == [[0.1, 0.4], [0.5, 0.8]]
    assert lines["doing nothing"][-1] == pytest.approx([0.5, 2.0])
    assert {line.get_label(): line.get_xydata().tolist() for line in right.lines} == {
        "σ = 0.1": [[20, 0.3], [40, 0.2]],
        "σ = 0.5": [[20, 0.7], [40, 0.6]],
    }


@pytest.mark.parametrize("name", shipped())
def test_the_page_in_docs_is_that_of_the_shipped_weights(name):
    written = (DOCS / f"{name}.md").read_text()
    sheet = f"{name}_sheet.png"
    assert written == page(name, read_card(name), f"{name}_curve.png", sheet if sheet in written else ""), (
        "weights were replaced: run python launch/model_cards.py"
    )
    for picture in DOCS.glob(f"{name}_*.png"):
        assert picture.name in written
