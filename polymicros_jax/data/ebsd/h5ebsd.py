"""DREAM.3D's `.h5ebsd` archives: the sections of a serial-section scan, from EDAX (TSL) or Oxford (HKL) files.

TSL sections are in radians; HKL sections come from 2D `.ctf` files and are in degrees. `frame` is required: the archive
holds the vendor's angles untouched. Its own EulerTransformation and SampleTransformation are recommendations to
DREAM.3D and are not applied; they are kept in the provenance. Written from the published description of the format.
"""

import dataclasses
from pathlib import Path

import h5py
import numpy as np

from polymicros_jax.data.ebsd import hdf
from polymicros_jax.data.ebsd.edax import phases as tsl_phases
from polymicros_jax.data.ebsd.frames import require
from polymicros_jax.data.ebsd.scan import FULL_TURNS, Scan, gather
from polymicros_jax.data.ebsd.slices import stack
from polymicros_jax.data.errors import DataError
from polymicros_jax.data.laue import HKL_GROUPS
from polymicros_jax.data.volume import OrientationVolume

TSL_FIELDS = {"Confidence Index": "confidence", "Image Quality": "image_quality", "Fit": "fit"}
HKL_FIELDS = {"MAD": "mean_angular_deviation", "BC": "band_contrast", "BS": "band_slope"}
TRANSFORMATIONS = (
    "EulerTransformationAngle",
    "EulerTransformationAxis",
    "SampleTransformationAngle",
    "SampleTransformationAxis",
)


def read_h5ebsd(path: Path, frame: str | None) -> OrientationVolume:
    """Reads all sections as one volume, the first along z being the one the archive's stacking order says.

    Raises:
        DataError: no frame, an unknown manufacturer, sections of different grids, or a damaged file.
    """
    known = require(frame, path)
    with hdf.opened(path) as file:
        maker = hdf.name_of(file, "Manufacturer", default=hdf.string(file.attrs.get("Manufacturer", "")))
        if maker not in ("TSL", "HKL"):
            raise DataError(f"{path}: Manufacturer: found {maker!r}, accepted are TSL and HKL")
        steps = [hdf.positive(path, file, f"{axis} Resolution") for axis in "XYZ"]
        keys = sorted((key for key in file if key.isdigit()), key=int)
        if not keys:
            raise DataError(f"{path}: found no sections, accepted are groups named by their number")
        first, last = (int(hdf.scalar(path, file, key)) for key in ("ZStartIndex", "ZEndIndex"))
        if last < first:
            raise DataError(f"{path}: ZEndIndex: found {last}, accepted is ZStartIndex ({first}) or more")
        missing = next((i for i in range(first, last + 1) if str(i) not in file), None)
        if missing is not None:
            raise DataError(f"{path}: found no section {missing}, accepted are all from {first} to {last}")
        order = hdf.numbers(path, file, 1, "Stacking Order", "StackingOrder") if _stacking(file) else np.zeros(1)
        read = _tsl if maker == "TSL" else _hkl
        sections = [read(path, hdf.group(path, file, str(i)), steps, known) for i in range(first, last + 1)]
        notes = {key: np.asarray(file[key][()]).reshape(-1).tolist() for key in TRANSFORMATIONS if key in file}
    names = [f"{path}: section {i}" for i in range(first, last + 1)]
    if int(order[0]) == 1:
        sections, names = sections[::-1], names[::-1]
    volume = stack(sections, names, steps[2])
    provenance = {**volume.provenance, "source": path.name, "format": f"h5ebsd {maker}", "not_applied": notes}
    return dataclasses.replace(volume, provenance=provenance)


def _stacking(file: h5py.File) -> bool:
    return "Stacking Order" in file or "StackingOrder" in file


def _volume(path: Path, scan: Scan, nx: int, ny: int, steps: list[float], frame: str) -> OrientationVolume:
    rows = np.arange(nx * ny).reshape(ny, nx)
    return gather(scan, rows.T[:, :, None], (steps[0], steps[1], steps[2]), frame)


def _tsl(path: Path, section: h5py.Group, steps: list[float], frame: str) -> OrientationVolume:
    header, data = hdf.group(path, section, "Header"), hdf.group(path, section, "Data")
    grid = hdf.name_of(header, "GRID", default="SqrGrid")
    if not grid.lower().startswith("sqr"):
        raise DataError(f"{path}: {header.name}/GRID: found {grid!r}, accepted is SqrGrid")
    nx, ny = (int(hdf.positive(path, header, key)) for key in ("NCOLS_ODD", "NROWS"))
    n = nx * ny
    euler = np.stack([hdf.numbers(path, data, n, key) for key in ("Phi1", "Phi", "Phi2")], axis=-1)
    confidence = hdf.numbers(path, data, n, "Confidence Index")
    observed = (confidence >= 0) & ~np.all(np.abs(euler - FULL_TURNS) < 1e-3, axis=1)
    groups, names = tsl_phases(path, hdf.group(path, header, "Phases"), "MaterialName")
    index = hdf.numbers(path, data, n, "PhaseData", "Phase").astype(np.int64)
    phase = np.where(observed, np.maximum(index, 1) if len(groups) == 1 else index, 0)
    fields = {new: hdf.numbers(path, data, n, old) for old, new in TSL_FIELDS.items() if old in data}
    scan = _scan(path, euler, phase, observed, nx, ny, groups, names, fields)
    return _volume(path, scan, nx, ny, steps, frame)


def _hkl(path: Path, section: h5py.Group, steps: list[float], frame: str) -> OrientationVolume:
    header, data = hdf.group(path, section, "Header"), hdf.group(path, section, "Data")
    nx, ny = (int(hdf.positive(path, header, key)) for key in ("XCells", "YCells"))
    n = nx * ny
    degrees = np.stack([hdf.numbers(path, data, n, f"Euler{i}") for i in (1, 2, 3)], axis=-1)
    phase = hdf.numbers(path, data, n, "Phase").astype(np.int64)
    used = degrees[phase > 0]
    if len(np.unique(used, axis=0)) > 8 and np.abs(used).max() <= 2 * np.pi + 1e-3:
        raise DataError(f"{path}: {data.name}: Euler1: found none above {np.abs(used).max():.4f}, accepted are degrees")
    groups, names = [], []
    for number, group in enumerate(hdf.numbered(path, hdf.group(path, header, "Phases")), start=1):
        code = int(hdf.scalar(path, group, "LaueGroup"))
        if code not in HKL_GROUPS:
            raise DataError(f"{path}: {group.name}/LaueGroup: found {code}, accepted are 1 to 11")
        groups.append(HKL_GROUPS[code])
        names.append(hdf.name_of(group, "PhaseName", default=f"phase_{number}"))
    fields = {new: hdf.numbers(path, data, n, old) for old, new in HKL_FIELDS.items() if old in data}
    scan = _scan(path, np.radians(degrees), phase, phase > 0, nx, ny, groups, names, fields)
    return _volume(path, scan, nx, ny, steps, frame)


def _scan(
    path: Path,
    euler: np.ndarray,
    phase: np.ndarray,
    observed: np.ndarray,
    nx: int,
    ny: int,
    groups: list[str],
    names: list[str],
    fields: dict[str, np.ndarray],
) -> Scan:
    return Scan(
        path=path,
        euler=euler,
        phase=phase,
        observed=observed,
        x=np.tile(np.arange(nx, dtype=float), ny),
        y=np.repeat(np.arange(ny, dtype=float), nx),
        groups=groups,
        names=names,
        fields=fields,
    )
