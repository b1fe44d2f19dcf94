"""Distributions side by side: grain sizes, disorientations, spreads, of a reference and its reconstructions."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from polymicros_jax.viz import canvas
from polymicros_jax.viz.correlations import LINES

_STYLES = ("-", "--", "-.", ":")  # lines that coincide still show each other


def densities(
    samples: Mapping[str, Float[np.ndarray, " _"]],
    *,
    xlabel: str,
    bins: int = 40,
    limits: tuple[float, float] | None = None,
    title: str = "",
) -> Figure:
    """Histograms as step lines on common bins, each of unit area, so that samples of different size compare.

    Args:
        samples: Name to values; the number of values is written in the legend.
        xlabel: Quantity and unit.
        bins: Number of bins between the limits.
        limits: Range of the bins; smallest to largest value of all samples by default. Values outside are left out.
        title: Heading.

    Raises:
        ValueError: no samples, or a sample without finite values.

    >>> drawing = densities({"measured": np.arange(50.0), "drawn": np.arange(20.0)}, xlabel="diameter (µm)")
    >>> [text.get_text() for text in drawing.axes[0].get_legend().get_texts()]
    ['measured (n = 50)', 'drawn (n = 20)']
    """
    if not samples:
        raise ValueError("samples: got none, at least one is needed")
    finite = {name: values[np.isfinite(values)] for name, values in samples.items()}
    for name, values in finite.items():
        if values.size == 0:
            raise ValueError(f"sample {name!r}: holds no finite value")
    low, high = limits or (min(v.min() for v in finite.values()), max(v.max() for v in finite.values()))
    edges = np.linspace(low, high if high > low else low + 1.0, bins + 1)
    drawing = canvas.figure(5.2, 3.4)
    axes = drawing.subplots()
    for number, (name, values) in enumerate(finite.items()):
        colour, _ = LINES[number % len(LINES)]
        density, _ = np.histogram(values, bins=edges, density=True)
        axes.stairs(
            density,
            edges,
            color=colour,
            linewidth=1.6,
            linestyle=_STYLES[number % len(_STYLES)],
            label=f"{name} (n = {values.size})",
        )
    axes.set_xlabel(xlabel)
    axes.set_ylabel("density")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False)
    if title:
        axes.set_title(title, fontsize=11)
    return drawing
