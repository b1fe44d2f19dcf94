"""Whether a generated volume is a polycrystal at all."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from polymicros_jax.orientation import grains, representation
from polymicros_jax.types import ArrayLike

GRAIN_VOXELS = 8
"""Smaller grains do not count: noise makes any number of them."""


class Limits(NamedTuple):
    """What a volume must satisfy to be kept.

    Attributes:
      distance: largest mean distance to the orientation manifold, in units of the manifold's norm. A Gaussian field
        of the right variance lies at 0.67, a crystal with noise of a quarter in each channel at 0.39 (measured, GSH-4).
      grains: least number of grains of at least `GRAIN_VOXELS` voxels; 0 does not count them.
      threshold: disorientation in radians above which neighbours belong to different grains.
    """

    distance: float = 0.4
    grains: int = 0
    threshold: float = float(np.radians(5.0))


class Rejection(NamedTuple):
    """Why a volume is not kept.

    Attributes:
      check: name of the measured value that is out of its limit.
      reason: a sentence with the value and the limit.
    """

    check: str
    reason: str


def check(
    field: Float[ArrayLike, "nx ny nz h"], name: str, limits: Limits
) -> tuple[dict[str, float | int], Rejection | None]:
    """Measures a volume and says whether it is within the limits.

    Args:
      field: channels of the representation, about its own origin.
      name: of the representation.
      limits: what is required.

    Returns:
      The measured values, and the first one out of its limit or None.
    """
    kind = representation.get(name)
    quaternions, distance = kind.decode(field)
    relative = np.asarray(distance) / kind.norm
    mean = float(relative.mean(dtype=np.float64))
    measured: dict[str, float | int] = {"distance_mean": mean, "distance_p95": float(np.quantile(relative, 0.95))}
    if mean > limits.distance:
        reason = f"mean distance to the manifold {mean:.3f} above {limits.distance:g}"
        return measured, Rejection("distance_mean", reason)
    if limits.grains > 0:
        labels = grains.segment(quaternions, limits.threshold, kind.group, periodic=True)
        found = count_grains(labels)
        return {**measured, "grains": found}, too_few(found, limits)
    return measured, None


def count_grains(labels: Int[np.ndarray, "nx ny nz"]) -> int:
    """Number of grains of at least `GRAIN_VOXELS` voxels.

    >>> count_grains(np.repeat(np.arange(3), [8, 7, 9]).reshape(4, 3, 2))
    2
    """
    return int((grains.sizes(labels) >= GRAIN_VOXELS).sum())


def too_few(found: int, limits: Limits) -> Rejection | None:
    """Why a volume of so many grains is not kept, if it is not."""
    return Rejection("grains", f"{found} grains, fewer than {limits.grains}") if found < limits.grains else None
