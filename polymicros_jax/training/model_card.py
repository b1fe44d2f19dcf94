"""A prior's card as a page: made from its JSON alone, so that the two cannot disagree."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from polymicros_jax.training.metrics import share_removed
from polymicros_jax.viz import canvas
from polymicros_jax.viz.correlations import LINES

_FACTS = {
    "trained_on": "trained on",
    "validated_on": "validated on",
    "initial": "started from",
    "previous": "compared with",
    "steps": "optimiser steps",
    "steps_before": "steps of the weights it started from",
    "patches_per_step": "patches per step",
    "patch": "side of a patch (voxels)",
    "seed": "seed",
    "noise_law": "training noise",
    "learning_rate": "learning rate",
    "augmentation": "augmentation",
    "centred": "mean of each volume taken out",
    "device": "hardware",
    "cost": "cost",
    "seconds": "wall time",
    "history": "history",
}

_GAUSSIAN = {"gsh4": ", 0.67 a Gaussian field", "rogsh3": ", 0.15 a Gaussian field"}
"""Distance of Gaussian fields of the deviations of uniform texture; most values of three channels are orientations."""


def page(name: str, card: Mapping[str, Any], curve: str, sheet: str) -> str:
    """The card as Markdown.

    Args:
      name: of the prior.
      card: as from `prior.read_card`.
      curve: address of the picture `error_curve` makes, relative to the page.
      sheet: address of a sample sheet, see `sheets.sample_sheet`; empty for none.
    """
    training, network = card["training"], card["network"]
    skip, kind = card.get("sigma_skip"), card["representation"]
    lines = [
        f"# Model card: {name}",
        "",
        "Generated from the JSON card beside the weights by `python launch/model_cards.py`; do not edit.",
        "",
        f"An unconditional diffusion model of {card['representation']} fields: {card['parameters'] / 1e6:.1f} M "
        f"parameters, width {network['width']}, multipliers {tuple(network['multipliers'])}, voxel blocks of "
        f"{network['patch']}^3 folded into channels, {_rounds(network)}. "
        f"`sigma_data` {card['sigma_data']:.4g}, `sigma_skip` {'as in EDM' if skip is None else f'{skip:.4g}'}.",
        "",
    ]
    if "relative_error" in training:
        lines += ["## Held-out scores", "", *_scores(card), "", f"![Error per noise level]({curve})", ""]
    lines += ["## Training", "", "| | |", "|---|---|"]
    lines += [
        f"| {label} | {_fact(key, training[key])} |" for key, label in _FACTS.items() if training.get(key, "") != ""
    ]
    lines += [
        "",
        "Patches for training and held-out patches share no voxel; where both come from one specimen they share",
        "texture, grain size and the grains that cross the cut (docs/data_card.md).",
        "",
    ]
    if sheet:
        lines += [
            "## Samples",
            "",
            f"![Unconditional draws beside real patches]({sheet})",
            "",
            "Unconditional draws of the averaged weights beside real patches. The distance above each is the mean",
            f"distance to the manifold of orientations over its norm: 0 is a polycrystal{_GAUSSIAN.get(kind, '')}.",
            "",
        ]
    lines += ["## Use", "", "```python", f'prior = polymicros_jax.load_prior("{name}")', "```"]
    return "\n".join(lines) + "\n"


def error_curve(card: Mapping[str, Any]) -> Figure:
    """Relative error against the noise level, and against the step where the card has the history.

    Raises:
      KeyError: the card has no held-out scores.
    """
    training = card["training"]
    history = training.get("validation_curve", [])
    figure = canvas.figure(7.6 if history else 4.2, 3.2)
    panels = figure.subplots(1, 2 if history else 1, squeeze=False)[0]
    levels = np.array([float(sigma) for sigma in training["relative_error"]])
    scale = _scale(card)
    axes = panels[0]
    axes.plot(levels, list(training["relative_error"].values()), "o-", color=LINES[0][0], label="these weights")
    if "previous_relative_error" in training:
        previous = training["previous_relative_error"]
        axes.plot(
            [float(s) for s in previous], list(previous.values()), "s--", color=LINES[1][0], label=_previous(card)
        )
    dense = np.geomspace(levels.min(), levels.max(), 100)
    axes.plot(dense, dense / scale, ":", color="0.5", label="doing nothing")
    axes.plot(dense, dense / np.hypot(dense, scale), "-.", color="0.5", label="Wiener filter, voxel by voxel")
    axes.set_xscale("log")
    axes.set_ylim(0.0, 1.05)
    axes.set_xlabel("noise level σ", fontsize=8)
    axes.set_ylabel("relative error of the denoised field", fontsize=8)
    axes.legend(fontsize=6)
    if history:
        steps = [line["step"] for line in history]
        for number, sigma in enumerate(training["relative_error"]):
            values = [line["relative_error"][sigma] for line in history]
            panels[1].plot(steps, values, color=LINES[number % len(LINES)][0], label=f"σ = {sigma}")
        panels[1].set_xlabel("optimiser step", fontsize=8)
        panels[1].legend(fontsize=6, ncols=2)
    for axes in panels:
        axes.tick_params(labelsize=7)
    return figure


def _scale(card: Mapping[str, Any]) -> float:
    """Root mean square of the held-out patches; cards older than that entry are of GSH-4, where it is sigma_data."""
    return float(card["training"].get("data_rms", card["sigma_data"]))


def _rounds(network: Mapping[str, Any]) -> str:
    parts = []
    if network.get("coarse"):
        parts.append(f"rounds on the folded grid: {network['coarse']}, of {network['width']} channels")
    if network.get("detail"):
        parts.append(f"rounds on the full grid: {network['rounds']}, of {network['detail']} channels")
    return ", ".join(parts or ["nothing on the full grid"])


def _previous(card: Mapping[str, Any]) -> str:
    return f"{card['training']['previous']} before"


def _scores(card: Mapping[str, Any]) -> list[str]:
    training, scale = card["training"], _scale(card)
    errors = training["relative_error"]
    removed = share_removed(errors, scale)
    columns = ["noise level", "relative error", "noise removed (%)"]
    before = training.get("previous_relative_error")
    if before is not None:
        columns[2:2] = [_previous(card)]
        columns += ["removed before (%)"]
        removed_before = share_removed(before, scale)
    columns.append("doing nothing")
    rows = []
    for sigma, error in errors.items():
        cells = [sigma, f"{error:.3f}", f"{100 * removed[sigma]:.1f}"]
        if before is not None:
            cells[2:2] = [f"{before[sigma]:.3f}" if sigma in before else ""]
            cells += [f"{100 * removed_before[sigma]:.1f}" if sigma in before else ""]
        rows.append([*cells, f"{float(sigma) / scale:.2f}"])
    return [
        "Relative error: root mean square error of the denoised field over the root mean square of the held-out",
        f"patches, {scale:.4g}. Noise removed: 1 - (error / sigma)^2, the share of the noise's variance that is gone.",
        "",
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def _fact(key: str, value: Any) -> str:
    if key == "noise_law":
        return f"ln sigma ~ N({value['mean']:g}, {value['std']:g}^2)"
    if key == "seconds":
        return f"{value / 3600:.2f} h"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return "; ".join(str(each) for each in value) or "none"
    return str(value)
