"""Ablation figures show the numbers they were given."""

import numpy as np
import pytest

from polymicros_jax.viz import ablation


def test_curves_hold_the_values_and_the_levels() -> None:
    drawing = ablation.curves(
        [0.0, 0.5, 1.0], {"a": [3.0, 2.0, 1.0], "b": [1.0, 1.5, 4.0]}, xlabel="theta", ylabel="°", levels={"c": 2.5}
    )
    (axes,) = drawing.axes
    lines = {line.get_label(): line for line in axes.lines}
    np.testing.assert_array_equal(lines["a"].get_xydata(), [[0.0, 3.0], [0.5, 2.0], [1.0, 1.0]])
    np.testing.assert_array_equal(lines["b"].get_ydata(), [1.0, 1.5, 4.0])
    assert set(lines["c"].get_ydata()) == {2.5}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("theta", "°")
    assert {text.get_text() for text in axes.get_legend().get_texts()} == {"a", "b", "c"}


def test_bars_leave_a_space_where_a_method_has_no_value() -> None:
    drawing = ablation.bars({"sections": {"a": 1.0, "b": 2.0}, "box": {"a": 3.0, "c": None}}, ylabel="°")
    (axes,) = drawing.axes
    widths = {box.get_label(): [bar.get_width() for bar in box] for box in axes.containers}
    assert widths == {"a": [1.0, 3.0], "b": [2.0], "c": []}
    assert [text.get_text() for text in axes.get_yticklabels()] == ["sections", "box"]
    # Bars of a task stand around its tick, apart from each other.
    a, b = axes.containers[0][0], axes.containers[1][0]
    assert a.get_y() + a.get_height() <= b.get_y() + 1e-9
    assert -0.5 < a.get_y() < 0.5


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: ablation.curves([1.0], {}, xlabel="", ylabel=""), "none"),
        (lambda: ablation.curves([1.0], {"a": [1.0, 2.0]}, xlabel="", ylabel=""), "'a': holds 2 values, x has 1"),
        (lambda: ablation.bars({}, ylabel=""), "none"),
    ],
)
def test_empty_figures_are_refused(call, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        call()
