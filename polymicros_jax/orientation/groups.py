"""The proper rotation groups of the 11 Laue classes, as tables of unit quaternions.

A diffraction pattern cannot tell a crystal from its inverse, so an orientation is known up to the proper rotations of
its Laue class.

Axes: rotations of highest order about crystal z (the monoclinic two-fold too), two-folds of the dihedral groups about
crystal x (the hexagonal x-axis is then along `a`), cube axes along x, y, z.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import numpy as np


class LaueGroup(NamedTuple):
    """A Laue class: the name of its proper rotation group, its usual symbol and the number of proper rotations."""

    name: str
    laue: str
    order: int


LAUE_GROUPS: dict[str, LaueGroup] = {
    group.name: group
    for group in (
        LaueGroup("1", "-1", 1),
        LaueGroup("2", "2/m", 2),
        LaueGroup("222", "mmm", 4),
        LaueGroup("3", "-3", 3),
        LaueGroup("32", "-3m", 6),
        LaueGroup("4", "4/m", 4),
        LaueGroup("422", "4/mmm", 8),
        LaueGroup("6", "6/m", 6),
        LaueGroup("622", "6/mmm", 12),
        LaueGroup("23", "m-3", 12),
        LaueGroup("432", "m-3m", 24),
    )
}

_TWO_FOLD_X = (0.0, 1.0, 0.0, 0.0)
_THREE_FOLD_111 = (0.5, 0.5, 0.5, 0.5)


def _about_z(order: int) -> tuple[float, float, float, float]:
    return (float(np.cos(np.pi / order)), 0.0, 0.0, float(np.sin(np.pi / order)))


_GENERATORS: dict[str, tuple[tuple[float, float, float, float], ...]] = {
    "1": (),
    "2": (_about_z(2),),
    "222": (_about_z(2), _TWO_FOLD_X),
    "3": (_about_z(3),),
    "32": (_about_z(3), _TWO_FOLD_X),
    "4": (_about_z(4),),
    "422": (_about_z(4), _TWO_FOLD_X),
    "6": (_about_z(6),),
    "622": (_about_z(6), _TWO_FOLD_X),
    "23": (_about_z(2), _THREE_FOLD_111),
    "432": (_about_z(4), _THREE_FOLD_111),
}

# Every component of every element is 0, 1/2, 1/sqrt2, sqrt3/2 or 1 up to sign; products are snapped to these, so that
# tables are exact.
_EXACT = np.array([0.0, 0.5, np.sqrt(0.5), np.sqrt(0.75), 1.0])


def hamilton(a: Iterable[Any], b: Iterable[Any]) -> tuple[Any, Any, Any, Any]:
    """Hamilton product of two quaternions given as components: numbers, or arrays of NumPy or JAX that broadcast.

    >>> hamilton((0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0))  # i j = k
    (0.0, 0.0, 0.0, 1.0)
    """
    aw, ax, ay, az = a
    bw, bx, by, bz = b
    return (
        aw * bw - ax * bx - ay * by - az * bz,
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
    )


def _canonical(q: np.ndarray) -> np.ndarray:
    """Snaps the magnitudes to their exact values and makes the first non-zero component positive."""
    magnitude = _EXACT[np.argmin(np.abs(np.abs(q)[:, None] - _EXACT[None, :]), axis=1)]
    snapped = np.where(q < 0, -magnitude, magnitude) + 0.0
    first = snapped[np.flatnonzero(snapped)[0]]
    return snapped * np.sign(first) + 0.0


@cache
def operators(group: str) -> np.ndarray:
    """The rotations of a Laue class as unit quaternions: float64 `(order, 4)`, read-only, the identity first.

    An operation `s` takes crystal coordinates to crystal coordinates and acts on an orientation from the left, `s * q`.

    Raises:
        ValueError: the name is none of the 11 proper rotation groups.

    >>> {group: len(operators(group)) for group in ("1", "222", "432", "622")}
    {'1': 1, '222': 4, '432': 24, '622': 12}
    """
    if group not in LAUE_GROUPS:
        raise ValueError(f"group: found {group!r}; accepted are the proper rotation groups {', '.join(LAUE_GROUPS)}")
    elements = [np.array([1.0, 0.0, 0.0, 0.0])]
    for element in elements:  # the list grows while it is walked: closure under the generators
        for generator in _GENERATORS[group]:
            product = _canonical(np.array(hamilton(generator, element)))
            if not any(np.array_equal(product, known) for known in elements):
                elements.append(product)
    table = np.stack(elements)
    if len(table) != LAUE_GROUPS[group].order:
        raise AssertionError(f"group {group}: closure has {len(table)} elements, {LAUE_GROUPS[group].order} expected")
    table.setflags(write=False)
    return table
