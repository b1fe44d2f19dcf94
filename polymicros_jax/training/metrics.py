"""Scores of a prior, and the logs they go to: ``metrics.jsonl`` and TensorBoard's event files."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8
from tensorboardX import SummaryWriter

from polymicros_jax.data.atomic import replacing
from polymicros_jax.diffusion.loss import denoising_error
from polymicros_jax.training.prior import Prior

VALIDATION_SIGMAS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)

VALIDATION_CHUNK = 8
"""Patches denoised at a time."""


@jax.jit
def _squared_error(key: jax.Array, prior: Prior, patches: jax.Array, sigma: jax.Array) -> jax.Array:
    return denoising_error(key, prior.denoiser(), patches, jnp.full(patches.shape[0], sigma))


def relative_errors(
    prior: Prior,
    patches: Float[np.ndarray, "n nx ny nz h"],
    sigmas: Sequence[float] = VALIDATION_SIGMAS,
    chunk: int = VALIDATION_CHUNK,
) -> dict[str, float]:
    """Relative error of the denoised field: root mean square error over root mean square of the patches.

    Doing nothing gives sigma over that root mean square, answering zero gives 1. The noise is the same at every call,
    so that two priors are compared on the same work.

    Returns:
      ``{"0.1": error, ...}``.
    """
    scale = root_mean_square(patches)
    errors = {}
    for number, sigma in enumerate(sigmas):
        total, level = 0.0, jnp.float32(sigma)
        for start in range(0, len(patches), chunk):
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), number), start)
            total += float(jnp.sum(_squared_error(key, prior, jnp.asarray(patches[start : start + chunk]), level)))
        errors[f"{sigma:g}"] = math.sqrt(total / len(patches)) / scale
    return errors


def root_mean_square(patches: Float[np.ndarray, "*shape"]) -> float:
    """The scale that relative errors refer to; 1/2 for every field of GSH-4, whose norm is constant.

    >>> root_mean_square(np.full((2, 4, 4, 4, 9), -0.5, np.float32))
    0.5
    """
    return math.sqrt(float(np.mean(np.square(patches), dtype=np.float64)))


def share_removed(relative_error: Mapping[str, float], scale: float) -> dict[str, float]:
    """Share of the noise's variance that the denoised field is free of: ``1 - (error / sigma)^2``.

    1 is a perfect answer, 0 is what doing nothing gives, and less than 0 is worse than that. Beyond the scale of the
    data the share says little: answering zero removes ``1 - (scale / sigma)^2``.

    Args:
      relative_error: as from `relative_errors`, by noise level.
      scale: what the errors are relative to, as from `root_mean_square`.

    >>> share_removed({"0.1": 0.1, "1.0": 0.5}, scale=0.5)
    {'0.1': 0.75, '1.0': 0.9375}
    """
    return {sigma: 1.0 - (error * scale / float(sigma)) ** 2 for sigma, error in relative_error.items()}


class MetricsLog:
    """Appends one JSON object a line to ``metrics.jsonl``; lines of steps that a killed run will repeat are dropped."""

    def __init__(self, path: Path, resume_step: int = 0):
        self._path = path
        if path.exists():
            lines = [line for line in path.read_text().splitlines() if _step(line) <= resume_step]
            with replacing(path) as temporary:
                temporary.write_text("".join(f"{line}\n" for line in lines))

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Appends a line at once."""
        with self._path.open("a") as stream:
            stream.write(json.dumps({"step": step, **values}) + "\n")


def validations(path: Path) -> list[dict[str, Any]]:
    """The validations of a ``metrics.jsonl``: ``[{"step": 500, "relative_error": {"0.1": ..., ...}}, ...]``."""
    lines = [json.loads(line) for line in path.read_text().splitlines() if math.isfinite(_step(line))]
    return [{key: line[key] for key in ("step", "relative_error")} for line in lines if "relative_error" in line]


class EventLog:
    """TensorBoard's record of a training: scalars and pictures by step, in an event file of its own for each run.

    A resumed run marks the step it begins at, and TensorBoard drops what an earlier, killed run wrote from there on.
    """

    def __init__(self, folder: Path, resume_step: int = 0):
        folder.mkdir(parents=True, exist_ok=True)
        before = any(folder.iterdir())
        self._writer = SummaryWriter(str(folder), purge_step=resume_step + 1 if before else None)

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Writes numbers; those of a nested mapping stand under ``name/key``."""
        for name, value in values.items():
            if isinstance(value, Mapping):
                self.write(step, {f"{name}/{key}": each for key, each in value.items()})
            else:
                self._writer.add_scalar(name, float(value), step)
        self._writer.flush()

    def picture(self, step: int, name: str, pixels: UInt8[np.ndarray, "rows columns rgb"]) -> None:
        """Writes a picture of three or four bytes a pixel."""
        self._writer.add_image(name, pixels, step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Ends the file."""
        self._writer.close()


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (json.JSONDecodeError, KeyError):  # a line cut short by a kill
        return math.inf
