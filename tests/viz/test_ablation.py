"""Ablation figures show the numbers they were given."""

import itertools

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


def test_dots_leave_a_space_where_a_method_has_no_value() -> None:
    drawing = ablation.dots({"sections": {"a": 1.0, "b": 2.0}, "box": {"a": 3.0, "c": None}}, xlabel="°")
    (axes,) = drawing.axes
    marks = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}
    assert marks == {"a": ([1.0, 3.0], [0, 1]), "b": ([2.0], [0]), "c": ([], [])}
    assert [text.get_text() for text in axes.get_yticklabels()] == ["sections", "box"]


def test_long_names_of_many_tasks_leave_room_for_the_marks() -> None:
    name = "in100/evaluate, one section in 4 along z known and all but a box of 12 x 12 x 12 at 12, 18, "
    drawing = ablation.dots({f"{name}{number}": {"a": 1.0, "b": 2.0} for number in range(16)}, xlabel="°")
    drawing.canvas.draw()
    (axes,) = drawing.axes
    assert axes.get_position().width > 0.4
    page = drawing.bbox
    boxes = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert min(box.x0 for box in boxes) >= page.x0
    # One below the other, from the first task on.
    assert all(upper.y0 >= lower.y1 for upper, lower in itertools.pairwise(boxes))


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: ablation.curves([1.0], {}, xlabel="", ylabel=""), "none"),
        (lambda: ablation.curves([1.0], {"a": [1.0, 2.0]}, xlabel="", ylabel=""), "'a': holds 2 values, x has 1"),
        (lambda: ablation.dots({}, xlabel=""), "none"),
    ],
)
def test_empty_figures_are_refused(call, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        call()
