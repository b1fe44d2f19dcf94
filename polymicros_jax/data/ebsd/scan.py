"""From a list of scan points to a volume: what all readers share."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from polymicros_jax.data.ebsd.frames import to_map
from polymicros_jax.data.errors import DataError
from polymicros_jax.data.volume import OrientationVolume
from polymicros_jax.orientation import quaternion

FULL_TURNS = 4 * np.pi
"""EDAX writes this for every angle of a point without a solution; no angle is larger."""


@dataclasses.dataclass
class Scan:
    """Scan points as a file lists them, in any order.

    Attributes:
        path: where they come from, for messages.
        euler: ``(n, 3)`` Bunge angles in radians.
        phase: ``(n,)`` 1 for the first phase, 0 where there is no solution.
        observed: ``(n,)`` True where there is a solution.
        x: ``(n,)`` micrometres.
        y: ``(n,)`` micrometres.
        groups: proper rotation group of every phase.
        names: name of every phase.
        fields: further values per point.
        hexagonal: True where the points are on a hexagonal grid, rows along x.
        provenance: what the reader knows beyond that.
    """

    path: Path
    euler: np.ndarray
    phase: np.ndarray
    observed: np.ndarray
    x: np.ndarray
    y: np.ndarray
    groups: list[str]
    names: list[str]
    fields: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    hexagonal: bool = False
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)


def to_volume(scan: Scan, frame: str) -> OrientationVolume:
    """Places the points on a grid; points that are missing from it are unobserved. The step along z of a map is that
    along x.

    Raises:
        DataError: angles out of range, an unknown phase, or positions that are on no grid.
    """
    _check_positions(scan)
    if scan.hexagonal:
        source, spacing = _from_hexagonal_grid(scan)
    else:
        index, spacing, shape = _square_grid(scan)
        source = np.full(shape, -1, dtype=np.int64)
        source[index] = np.arange(len(scan.x))
    return gather(scan, source[:, :, None], (*spacing, spacing[0]), frame)


def gather(scan: Scan, source: np.ndarray, spacing: tuple[float, float, float], frame: str) -> OrientationVolume:
    """The volume whose voxel takes the point `source` names; -1 leaves it unobserved.

    Raises:
        DataError: angles out of range, or an unknown phase.
    """
    _check_values(scan)
    present = source >= 0
    point = np.maximum(source, 0)
    mask = present & scan.observed[point]
    euler = np.where(scan.observed[:, None], scan.euler, 0.0).astype(np.float32)
    q = np.asarray(quaternion.from_euler(euler))
    volume = OrientationVolume(
        quaternions=q[point],
        phase=np.where(mask, scan.phase[point], 0),
        mask=mask,
        spacing=spacing,
        symmetry=tuple(scan.groups),
        provenance={"source": scan.path.name, "phases": scan.names, **scan.provenance},
        fields={name: _spread(values, point, present) for name, values in scan.fields.items()},
    )
    return to_map(volume, frame)


def _spread(values: np.ndarray, point: np.ndarray, present: np.ndarray) -> np.ndarray:
    return np.where(present, values[point], np.zeros((), values.dtype))


def _check_positions(scan: Scan) -> None:
    if not len(scan.x):
        raise DataError(f"{scan.path}: found no scan points, accepted is at least one")
    for name, values in (("x", scan.x), ("y", scan.y)):
        if not np.all(np.isfinite(values)):
            raise DataError(
                f"{scan.path}: {name}: found a value that is not finite, accepted are positions in micrometres"
            )


def _check_values(scan: Scan) -> None:
    angles = scan.euler[scan.observed]
    if angles.size and not np.all(np.abs(angles) <= FULL_TURNS + 1e-3):
        worst = angles.flat[np.argmax(np.nan_to_num(np.abs(angles), nan=np.inf))]
        hint = " (are these degrees?)" if np.isfinite(worst) else ""
        raise DataError(f"{scan.path}: Euler angles: found {worst}, accepted are radians up to 4 pi{hint}")
    phases = scan.phase[scan.observed]
    if phases.size and (phases.min() < 1 or phases.max() > len(scan.groups)):
        bad = phases.min() if phases.min() < 1 else phases.max()
        raise DataError(f"{scan.path}: phase: found {bad}, accepted are the header's phases 1 to {len(scan.groups)}")


def axis_step(path: Path, name: str, values: np.ndarray) -> tuple[np.ndarray, float | None, int]:
    """Index of every position on a regular axis, its step (None where there is one position only) and the number of
    places.

    The step is measured on the positions: headers are known to keep the step of the scan that a file was cut from.
    """
    distinct = np.unique(values)
    if len(distinct) == 1:
        return np.zeros(len(values), dtype=np.int64), None, 1
    gaps = np.diff(distinct)
    step = float(gaps[gaps > 1e-3 * gaps.max()].min())
    count = round(float(distinct[-1] - distinct[0]) / step) + 1
    if count > 4 * len(values) + 16:
        raise DataError(f"{path}: {name}: found steps from {step} to {gaps.max()}, accepted is a regular grid")
    step = float(f"{(distinct[-1] - distinct[0]) / (count - 1):.9g}")  # 0.4, not 0.39999999999999997
    place = (values - distinct[0]) / step
    index = np.round(place).astype(np.int64)
    off = float(np.abs(place - index).max())
    if off > 0.1:
        raise DataError(
            f"{path}: {name}: found a position {off:.2f} steps off the grid of {step:g}, accepted is a regular grid"
        )
    return index, step, count


def _square_grid(scan: Scan) -> tuple[tuple[np.ndarray, np.ndarray], tuple[float, float], tuple[int, int]]:
    i, dx, nx = axis_step(scan.path, "x", scan.x)
    j, dy, ny = axis_step(scan.path, "y", scan.y)
    if nx * ny > 16 * len(scan.x) + 16:
        raise DataError(
            f"{scan.path}: x, y: found {len(scan.x)} points on a grid of {nx} x {ny}, accepted is a filled map"
        )
    places = i * ny + j
    if len(np.unique(places)) != len(places):
        raise DataError(f"{scan.path}: x, y: found two points at one position, accepted is one each")
    return (i, j), (dx or dy or 1.0, dy or dx or 1.0), (nx, ny)


def _from_hexagonal_grid(scan: Scan) -> tuple[np.ndarray, tuple[float, float]]:
    """A square grid of the same step over the same area, every place taking its nearest point.

    The nearest point of a hexagonal grid is at most step / sqrt(3) away; further than that means outside the scan.
    """
    order = np.lexsort((scan.x, scan.y))
    gaps = np.diff(scan.x[order])[np.diff(scan.y[order]) == 0]
    gaps = gaps[gaps > 0]
    if not gaps.size:
        raise DataError(f"{scan.path}: x, y: found no row of two points, accepted are the rows of a hexagonal grid")
    step = float(f"{np.median(gaps):.9g}")
    extent = (np.ptp(scan.x) / step, np.ptp(scan.y) / step)
    nx, ny = round(extent[0]) + 1, round(extent[1]) + 1
    if nx * ny > 16 * len(scan.x) + 16:
        raise DataError(
            f"{scan.path}: x, y: found {len(scan.x)} points on a grid of {nx} x {ny}, accepted is a filled map"
        )
    columns, rows = np.meshgrid(np.arange(nx), np.arange(ny), indexing="ij")
    grid = np.stack([columns, rows], axis=-1) * step + np.array([scan.x.min(), scan.y.min()])
    distance, nearest = cKDTree(np.stack([scan.x, scan.y], axis=-1)).query(grid)
    return np.where(distance <= 1.01 * step / np.sqrt(3), nearest, -1), (step, step)
