"""What a training leaves behind for people: ``metrics.jsonl``, TensorBoard's events, sample sheets."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from polymicros_jax.training.metrics import EventLog, MetricsLog
from polymicros_jax.training.prior import Prior, save_prior
from polymicros_jax.training.sheets import draws, sample_sheet
from polymicros_jax.viz import canvas

DRAWS = 3
"""Draws on a sheet."""


class TrainingRecord:
    """Writes ``metrics.jsonl``, ``tensorboard/``, ``sheets/`` and ``latest.safetensors`` into a training's folder."""

    def __init__(self, workdir: Path, resume_step: int = 0, about: Mapping[str, Any] | None = None):
        """Opens the folder; lines after ``resume_step`` are dropped, ``about`` goes into the card of the weights."""
        self._workdir = workdir
        self._about = dict(about or {})
        self._sheets = workdir / "sheets"
        self._lines = MetricsLog(workdir / "metrics.jsonl", resume_step)
        self._events = EventLog(workdir / "tensorboard", resume_step)

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Records numbers, or nested mappings of numbers, at once."""
        self._lines.write(step, dict(values))
        self._events.write(step, values)

    def validated(self, step: int, prior: Prior, scores: Mapping[str, Mapping[str, float]]) -> None:
        """Records held-out scores, and writes the prior that has them: a training that is stopped leaves weights."""
        self.write(step, scores)
        save_prior(self._workdir / "latest.safetensors", prior, {**self._about, "steps": step, **scores}, "float16")

    def sheet(self, step: int, prior: Prior, real: Float[np.ndarray, "n nx ny nz h"]) -> Path:
        """Draws from the prior and shows it beside real patches; the same noise at every step, so that sheets compare.

        Args:
          step: optimiser steps done.
          prior: with averaged parameters.
          real: patches; at most as many as are drawn are shown, spread over all of them.

        Returns:
          Path of the picture.
        """
        chosen = np.linspace(0, len(real) - 1, min(DRAWS, len(real))).round().astype(int)
        drawn = np.asarray(draws(jax.random.key(0), prior, count=DRAWS, size=real.shape[1]))
        figure = sample_sheet(drawn, real[chosen], prior.representation, f"step {step}")
        path = canvas.save(figure, self._sheets / f"step_{step:07d}.png")
        self._events.picture(step, "sheet", canvas.pixels(figure))
        return path

    def close(self) -> None:
        """Ends the event file."""
        self._events.close()
