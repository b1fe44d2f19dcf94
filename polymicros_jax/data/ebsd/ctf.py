"""Oxford / HKL Channel Text Files `.ctf`: text, degrees, micrometres. Phase 0 is unindexed."""

from pathlib import Path

import numpy as np

from polymicros_jax.data.ebsd.frames import require
from polymicros_jax.data.ebsd.scan import Scan, to_volume
from polymicros_jax.data.ebsd.text import read_lines, table, whole
from polymicros_jax.data.errors import DataError
from polymicros_jax.data.laue import HKL_GROUPS, from_space_group
from polymicros_jax.data.volume import OrientationVolume

COLUMNS = ("Phase", "X", "Y", "Euler1", "Euler2", "Euler3")
FIELDS = {"MAD": "mean_angular_deviation", "BC": "band_contrast", "BS": "band_slope", "Bands": "bands"}
"""Columns that are kept, with their names in the volume; the deviation is in degrees, as in the file."""


def read_ctf(path: Path, frame: str | None, unit: str | None = None) -> OrientationVolume:
    """Reads a map.

    Args:
        path: the file.
        frame: see `data.ebsd.frames`.
        unit: "degrees" or "radians"; only needed where a file looks as if it were in radians, which some programs
            write.

    Raises:
        DataError: no frame, or a file that is truncated, empty, mislabelled or apparently in radians.
    """
    known = require(frame, path)
    if unit not in (None, "degrees", "radians"):
        raise DataError(f"{path}: unit: found {unit!r}, accepted are 'degrees' and 'radians'")
    lines = read_lines(path)
    if not lines[0].strip().lower().startswith("channel text file"):
        raise DataError(f"{path}: line 1: found {lines[0][:40]!r}, accepted is 'Channel Text File'")
    start = next((i for i, line in enumerate(lines) if line.split()[:3] == ["Phase", "X", "Y"]), None)
    if start is None:
        raise DataError(f"{path}: found no line of column names, accepted is one that starts with Phase, X, Y")
    columns = lines[start].split()
    absent = [name for name in COLUMNS if name not in columns]
    if absent:
        raise DataError(
            f"{path}: line {start + 1}: found no column {absent[0]}, accepted are {', '.join(COLUMNS)} and more"
        )
    if "Z" in columns:
        raise DataError(f"{path}: column Z: found a 3D .ctf, accepted are maps; export the sections one by one")
    groups, names = _phases(path, lines[:start])
    body = [line.replace(",", ".") for line in lines[start + 1 :]]  # some locales write decimal commas
    data = table(path, body, start + 2, len(columns))
    column = {name: data[:, i] for i, name in enumerate(columns)}
    _check_count(path, lines[:start], len(data))
    if not np.all(np.isfinite(column["Phase"]) & (np.abs(column["Phase"]) < 2**31)):
        raise DataError(f"{path}: Phase: found a value that is not a number, accepted are whole numbers")
    phase = column["Phase"].astype(np.int64)
    observed = phase > 0
    angles = np.stack([column[f"Euler{i}"] for i in (1, 2, 3)], axis=-1)
    scan = Scan(
        path=path,
        euler=angles if unit == "radians" else np.radians(_degrees(path, angles, observed, unit)),
        phase=phase,
        observed=observed,
        x=column["X"],
        y=column["Y"],
        groups=groups,
        names=names,
        fields={new: column[old].astype(np.float32) for old, new in FIELDS.items() if old in column},
        provenance={"format": "ctf"},
    )
    return to_volume(scan, known)


def _degrees(path: Path, angles: np.ndarray, observed: np.ndarray, unit: str | None) -> np.ndarray:
    """The angles, unless they are all small enough to be radians: chance puts nine points there with probability below
    1e-30."""
    used = angles[observed]
    few = len(np.unique(used, axis=0)) < 9
    if unit is None and not few and np.all(np.abs(used) <= 2 * np.pi + 1e-3):
        raise DataError(
            f"{path}: Euler angles: found none above {np.abs(used).max():.4f}, accepted are degrees; "
            "pass unit='radians' or unit='degrees' if you know which"
        )
    return angles


def _check_count(path: Path, header: list[str], found: int) -> None:
    cells = {line.split()[0]: line.split()[1] for line in header if len(line.split()) == 2}
    if "XCells" in cells and "YCells" in cells:
        nx, ny = (whole(path, key, cells[key]) for key in ("XCells", "YCells"))
        if found < nx * ny:
            raise DataError(
                f"{path}: found {found} points, accepted are {nx} x {ny} = {nx * ny}; the file looks truncated"
            )


def _phases(path: Path, header: list[str]) -> tuple[list[str], list[str]]:
    start = next((i for i, line in enumerate(header) if line.split()[:1] == ["Phases"]), None)
    if start is None or len(header[start].split()) < 2:
        raise DataError(f"{path}: Phases: found no such line, accepted is 'Phases' and a number")
    count = whole(path, "Phases", header[start].split()[1])
    rows = header[start + 1 : start + 1 + max(count, 0)]
    if count < 1 or len(rows) < count:
        raise DataError(f"{path}: Phases: found {len(rows)} lines of phases, accepted is one for each of {count}")
    groups, names = [], []
    for row in rows:
        cells = row.split("\t") if "\t" in row else row.split()
        if len(cells) < 4:
            raise DataError(
                f"{path}: phase: found {row!r}, accepted are lengths, angles, name, Laue group, space group"
            )
        group = HKL_GROUPS.get(whole(path, "Laue group", cells[3]))
        if group is None and len(cells) > 4:
            group = from_space_group(whole(path, "space group", cells[4]))
        if group is None:
            raise DataError(f"{path}: Laue group of {cells[2]}: found {cells[3]!r}, accepted are 1 to 11")
        groups.append(group)
        names.append(cells[2].strip())
    return groups, names
