"""EDAX OIM `.h5`: the maps of an HDF5 project, radians, micrometres. Points with CI -1 or angles of 4 pi are
unindexed."""

from pathlib import Path

import h5py
import numpy as np

from polymicros_jax.data.ebsd import hdf
from polymicros_jax.data.ebsd.frames import require
from polymicros_jax.data.ebsd.scan import FULL_TURNS, Scan, to_volume
from polymicros_jax.data.errors import DataError
from polymicros_jax.data.laue import TSL_GROUPS
from polymicros_jax.data.volume import OrientationVolume

FIELDS = {"CI": "confidence", "IQ": "image_quality", "Fit": "fit", "SEM Signal": "signal"}


def read_edax(path: Path, frame: str | None) -> OrientationVolume:
    """Reads the one map of a file.

    Raises:
        DataError: no frame, no map or several, or a damaged file.
    """
    known = require(frame, path)
    with hdf.opened(path) as file:
        maps = [key for key in file if isinstance(file.get(f"{key}/EBSD/Data"), h5py.Group)]
        if len(maps) != 1:
            raise DataError(f"{path}: found {len(maps)} maps {maps}, accepted is one group with EBSD/Data")
        header, data = hdf.group(path, file, f"{maps[0]}/EBSD/Header"), hdf.group(path, file, f"{maps[0]}/EBSD/Data")
        scan = _scan(path, header, data)
    return to_volume(scan, known)


def _scan(path: Path, header: h5py.Group, data: h5py.Group) -> Scan:
    phi1 = hdf.numbers(path, data, None, "Phi1")
    n = len(phi1)
    euler = np.stack([phi1, hdf.numbers(path, data, n, "Phi"), hdf.numbers(path, data, n, "Phi2")], axis=-1)
    x, y = hdf.numbers(path, data, n, "X Position"), hdf.numbers(path, data, n, "Y Position")
    confidence = hdf.numbers(path, data, n, "CI")
    valid = hdf.numbers(path, data, n, "Valid") if "Valid" in data else np.zeros(n)
    observed = (confidence >= 0) & (valid == 0) & ~np.all(np.abs(euler - FULL_TURNS) < 1e-3, axis=1)
    grid = hdf.name_of(header, "Grid Type", default="SqrGrid")
    if not grid.lower().startswith(("sqr", "hex")):
        raise DataError(f"{path}: Grid Type: found {grid!r}, accepted are SqrGrid and HexGrid")
    columns, rows = (int(hdf.positive(path, header, key)) for key in ("nColumns", "nRows"))
    if grid.lower().startswith("sqr") and columns * rows != n:
        raise DataError(f"{path}: found {n} points, accepted are nColumns x nRows = {columns} x {rows}")
    groups, names = phases(path, hdf.group(path, header, "Phase"), "MaterialName")
    index = hdf.numbers(path, data, n, "Phase").astype(np.int64)
    fields = {new: hdf.numbers(path, data, n, old) for old, new in FIELDS.items() if old in data}
    placed = (x > -1e6) & (y > -1e6)  # points that were never visited carry -1111111
    return Scan(
        path=path,
        euler=euler[placed],
        phase=np.where(observed, np.maximum(index, 1) if len(groups) == 1 else index, 0)[placed],
        observed=observed[placed],
        x=x[placed],
        y=y[placed],
        groups=groups,
        names=names,
        fields={name: values[placed] for name, values in fields.items()},
        hexagonal=grid.lower().startswith("hex"),
        provenance={"format": "EDAX h5"},
    )


def phases(path: Path, parent: h5py.Group, name_key: str) -> tuple[list[str], list[str]]:
    """Groups and names of the phases of an EDAX header.

    Raises:
        DataError: none, or a symmetry that EDAX does not define.
    """
    groups, names = [], []
    for number, phase in enumerate(hdf.numbered(path, parent), start=1):
        code = int(hdf.scalar(path, phase, "Symmetry"))
        if code not in TSL_GROUPS:
            raise DataError(f"{path}: {phase.name}/Symmetry: found {code}, accepted are {sorted(TSL_GROUPS)}")
        groups.append(TSL_GROUPS[code])
        names.append(hdf.name_of(phase, name_key, "MaterialName", "Material Name", default=f"phase_{number}"))
    return groups, names
