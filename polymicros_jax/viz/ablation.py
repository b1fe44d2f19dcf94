"""How an error changes with a setting, and from task to task: the paper's Figs. 8 and 9 in degrees."""

import textwrap
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from polymicros_jax.viz import canvas
from polymicros_jax.viz.correlations import LINES

_LEVELS = ("--", "-.", ":", (0, (5, 1)), (0, (1, 3)))


def curves(
    x: Sequence[float],
    series: Mapping[str, Sequence[float]],
    *,
    xlabel: str,
    ylabel: str,
    levels: Mapping[str, float] | None = None,
    title: str = "",
) -> Figure:
    """One line per method over a setting; methods that do not have the setting as horizontal lines.

    Args:
        x: Values of the setting.
        series: Name to one value per entry of `x`.
        xlabel: The setting.
        ylabel: Quantity and unit.
        levels: Name to the value of a method without the setting.
        title: Heading.

    Raises:
        ValueError: no series, or one of another length than `x`.

    >>> errors = {"prior": [4.0, 4.2, 5.0]}
    >>> drawing = curves([2.0, 3.0, 4.0], errors, xlabel="factor", ylabel="error (°)", levels={"nearest": 6.6})
    >>> [line.get_label() for line in drawing.axes[0].lines]
    ['prior', 'nearest']
    """
    if not series:
        raise ValueError("series: got none, at least one is needed")
    drawing = canvas.figure(5.2, 3.6)
    axes = drawing.subplots()
    for number, (name, values) in enumerate(series.items()):
        if len(values) != len(x):
            raise ValueError(f"series {name!r}: holds {len(values)} values, x has {len(x)}")
        colour, marker = LINES[number % len(LINES)]
        axes.plot(x, values, color=colour, marker=marker, linewidth=1.6, label=name)
    for number, (name, value) in enumerate((levels or {}).items()):
        axes.axhline(value, color="0.35", linewidth=1.0, linestyle=_LEVELS[number % len(_LEVELS)], label=name)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    if title:
        axes.set_title(title, fontsize=10)
    return drawing


def dots(groups: Mapping[str, Mapping[str, float | None]], *, xlabel: str) -> Figure:
    """One line per task with a mark per method (Cleveland's dot plot); a method that cannot do a task has no mark.

    Args:
        groups: Name of a task to the value of each method, None where there is none.
        xlabel: Quantity and unit.

    Raises:
        ValueError: no task.

    >>> tasks = {"sections": {"nearest": 6.6, "prior": 4.3}, "gaps": {"nearest": 2.0, "prior": None}}
    >>> drawing = dots(tasks, xlabel="error (°)")
    >>> [len(line.get_xdata()) for line in drawing.axes[0].lines]
    [2, 1]
    """
    if not groups:
        raise ValueError("groups: got none, at least one is needed")
    methods = list(dict.fromkeys(name for rows in groups.values() for name in rows))
    labels = [textwrap.fill(name, 46) for name in groups]
    drawing = canvas.figure(7.0, 1.3 + 0.16 * sum(2 + label.count("\n") for label in labels))
    axes = drawing.subplots()
    for number, method in enumerate(methods):
        values = [rows.get(method) for rows in groups.values()]
        places = [row for row, value in enumerate(values) if value is not None]
        colour, marker = LINES[number % len(LINES)]
        face = colour if number < len(LINES) else "none"
        found = [value for value in values if value is not None]
        axes.plot(found, places, marker, color=colour, markerfacecolor=face, markersize=5, alpha=0.85, label=method)
    axes.set_yticks(range(len(groups)), labels, fontsize=7)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_xlim(left=0.0)
    axes.set_xlabel(xlabel)
    axes.grid(alpha=0.3)
    drawing.legend(fontsize=7, frameon=False, loc="outside lower center", ncols=3)
    return drawing
