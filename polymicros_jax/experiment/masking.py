"""What a reconstruction is given: its known voxels, from a mask section of a config, where it starts, how it draws."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from polymicros_jax.conditioners.known_voxels import METHODS
from polymicros_jax.config import ConfigError
from polymicros_jax.data import masks
from polymicros_jax.data.errors import DataError
from polymicros_jax.data.volume import OrientationVolume
from polymicros_jax.diffusion.schedule import karras
from polymicros_jax.orientation import grains
from polymicros_jax.training.prior import Prior

COMPLETE = ("unindexed", "insert")
"""Kinds that take away nothing of what the scan holds."""

LEAST_TILE = 16
"""Voxels of a side of a tile: a quarter of it is shared with the next one, which takes at least 4."""


def known_voxels(section: ConfigDict, reference: OrientationVolume, seed: int, name: str) -> np.ndarray:
    """Known voxels of a volume.

    Raises:
      ConfigError: an unknown kind, settings that do not fit the volume, or a mask that makes filling meaningless; the
        message says why.
    """
    kinds = re.split(r"\s*([&|])\s*", section.kind.strip())
    select: dict[str, Callable[[], np.ndarray]] = {
        "slices": lambda: masks.every_slice(reference.shape, section.axis, section.every, section.offset),
        "sections": lambda: masks.sections_at(reference.shape, section.axis, section.positions),
        "random": lambda: masks.random_voxels(reference.shape, section.share, seed),
        "box": lambda: masks.without_box(reference.shape, tuple(section.start), tuple(section.stop)),
        "orthogonal": lambda: masks.orthogonal_slices(reference.shape),
        "gaps": lambda: masks.scattered_gaps(reference.mask, _boundaries(reference), section.share, seed),
        **{kind: lambda: np.ones(reference.shape, bool) for kind in COMPLETE},
    }
    for kind in kinds[::2]:
        if kind not in select:
            raise ConfigError(f"{name}.kind: found {kind!r}, accepted are {', '.join(select)}, joined with & or |")
    if "insert" in kinds and len(kinds) > 1:
        raise ConfigError(f"{name}.kind: found {section.kind!r}, accepted is insert alone")
    try:
        known = select[kinds[0]]()
        for sign, kind in zip(kinds[1::2], kinds[2::2], strict=True):
            known = known & select[kind]() if sign == "&" else known | select[kind]()
        return masks.require_meaning(known, reference.mask, unequal="sections" in kinds)
    except DataError as error:
        raise ConfigError(f"{name}: {error}") from error


def from_shapes(initial: str, name: str) -> bool:
    """Whether warm starts begin at interpolated shapes.

    Raises:
      ConfigError: neither of the two.
    """
    if initial not in ("shapes", "linear"):
        raise ConfigError(f"{name}: found {initial!r}, accepted are shapes, linear")
    return initial == "shapes"


def check_draws(section: ConfigDict, name: str, start: float) -> None:
    """Refuses numbers of draws and steps, and a start, that no draw can have.

    Raises:
      ConfigError: one of them is out of range.
    """
    if section.draws < 1:
        raise ConfigError(f"{name}.draws: found {section.draws}, accepted is at least 1")
    if section.steps < 2:
        raise ConfigError(f"{name}.steps: found {section.steps}, accepted is at least 2")
    highest = float(karras(section.steps)[0])
    if not 0.0 <= start < highest:
        raise ConfigError(
            f"{name}: found the start {start}, accepted is a noise level below {highest:g}, or 0 for pure noise"
        )


def filling(section: ConfigDict, name: str, prior: Prior, *, method: str, start: float, theta: float) -> dict[str, Any]:
    """Keyword arguments of `filling_methods.fill_with_prior`; ``name`` is the section's, for errors.

    Raises:
      ConfigError: an unknown method, or a number out of range.
    """
    check_filling(section, name, prior.network.stride, method=method, start=start, theta=theta)
    return {
        "draws": section.draws,
        "steps": section.steps,
        "start": start or None,
        "method": method,
        "theta": theta,
        "tile": section.tile or None,
        "reach": section.snap,
    }


def check_filling(section: ConfigDict, name: str, stride: int, *, method: str, start: float, theta: float) -> None:
    """Refuses what no draw of `filling` can have; ``stride`` is the network's.

    Raises:
      ConfigError: an unknown method, or a number out of range.
    """
    check_draws(section, name, start)
    if method not in METHODS:
        raise ConfigError(f"{name}: found the method {method!r}, accepted are {', '.join(METHODS)}")
    if not 0.0 <= theta <= 1.0:
        raise ConfigError(f"{name}: found theta {theta}, accepted is a share of the steps, 0 to 1")
    # A quarter is shared with the next tile, which must begin a stride further on at least.
    least = max(LEAST_TILE, 2 * stride)
    if section.tile and (section.tile < least or section.tile % stride):
        raise ConfigError(
            f"{name}.tile: found {section.tile}, accepted is 0 for none, or a multiple of {stride} from {least} on"
        )


def describe(section: ConfigDict) -> str:
    """A mask in words, for tables."""
    words = {
        "slices": f"one section in {section.every} along {section.axis} known"
        + (f", from {section.offset}" if section.offset else ""),
        "sections": f"sections {', '.join(map(str, section.positions))} along {section.axis} known",
        "random": f"{100 * section.share:g} % of the voxels known, at random",
        "box": f"all but a box of {' x '.join(str(b - a) for a, b in zip(section.start, section.stop, strict=True))}"
        f" at {', '.join(map(str, section.start))}",
        "orthogonal": "three orthogonal sections known",
        "gaps": f"{100 * section.share:g} % of the points lost",
        "unindexed": "what the scan holds",
        "insert": f"{section.every - 1} sections inserted along {section.axis}",
    }
    parts = re.split(r"\s*([&|])\s*", section.kind.strip())
    joined = {"&": "and", "|": "or"}
    return " ".join(words.get(part, joined.get(part, part)) for part in parts)


def _boundaries(reference: OrientationVolume) -> np.ndarray:
    """Voxels with a face neighbour of another grain."""
    labels = grains.segment(reference.quaternions, group=reference.group, mask=reference.mask)
    edge = np.zeros(labels.shape, bool)
    for axis in range(3):
        along = np.moveaxis(labels, axis, 0)
        differ, marked = along[1:] != along[:-1], np.moveaxis(edge, axis, 0)  # a view: writing marks `edge`
        marked[1:] |= differ
        marked[:-1] |= differ
    return edge
