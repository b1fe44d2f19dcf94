"""Scores of a prior, and the log they go to."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from polymicros_jax.data.atomic import replacing
from polymicros_jax.diffusion.loss import denoising_error
from polymicros_jax.training.prior import Prior

VALIDATION_SIGMAS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)


@jax.jit
def _squared_error(key: jax.Array, prior: Prior, patches: jax.Array, sigma: jax.Array) -> jax.Array:
    return denoising_error(key, prior.denoiser(), patches, jnp.full(patches.shape[0], sigma))


def relative_errors(
    prior: Prior,
    patches: Float[np.ndarray, "n nx ny nz h"],
    sigmas: Sequence[float] = VALIDATION_SIGMAS,
    chunk: int = 8,
) -> dict[str, float]:
    """Root mean square denoising error over the root mean square of the patches, per noise level.

    Doing nothing gives sigma over that root mean square, answering zero gives 1. The noise is the same at every call,
    so that two priors are compared on the same work.

    Returns:
      ``{"0.1": error, ...}``.
    """
    scale = float(np.sqrt(np.mean(np.square(patches))))
    errors = {}
    for number, sigma in enumerate(sigmas):
        total, level = 0.0, jnp.float32(sigma)
        for start in range(0, len(patches), chunk):
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), number), start)
            total += float(jnp.sum(_squared_error(key, prior, jnp.asarray(patches[start : start + chunk]), level)))
        errors[f"{sigma:g}"] = math.sqrt(total / len(patches)) / scale
    return errors


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


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (json.JSONDecodeError, KeyError):  # a line cut short by a kill
        return math.inf
