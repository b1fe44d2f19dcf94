"""DREAM.3D `.dream3d`, versions 7.0 and 8.0: an image geometry with Euler angles per voxel or per feature, radians.

Orientations are recomputed from Euler angles: quaternions in these files are stored as (x, y, z, w), and those of
synthetic builders may disagree with the angles. Positions and angles of a DREAM.3D volume are in one frame, so `frame`
may be omitted; giving it corrects a volume that was imported without the recommended transformations. A volume begins
at zero here: the file's origin, where it has another, stands in the provenance.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from polymicros_jax.data.ebsd import hdf
from polymicros_jax.data.ebsd.frames import require, to_map
from polymicros_jax.data.errors import DataError
from polymicros_jax.data.laue import DREAM3D_GROUPS
from polymicros_jax.data.volume import OrientationVolume
from polymicros_jax.orientation import quaternion

FIELDS = {"FeatureIds": "grain", "Confidence Index": "confidence", "Image Quality": "image_quality"}
"""Arrays that have a name here; the other scalars of the voxels keep the file's."""

TAKEN = {"Phases", "Mask", "GoodVoxels", *FIELDS}
"""Scalars that are not kept under the name they have in the file."""


def read_dream3d(path: Path, frame: str | None = None) -> OrientationVolume:
    """Reads the one image geometry that has cell data.

    Raises:
        DataError: an unknown version, no voxels, no Euler angles, or a damaged file.

    >>> from polymicros_jax.data.export.dream3d import write_dream3d
    >>> from polymicros_jax.data.samples import load
    >>> volume = load("in100").crop((0, 0, 0), (6, 5, 4))
    >>> read_dream3d(write_dream3d(volume, Path("part.dream3d"))).spacing
    (0.25, 0.25, 0.25)
    """
    known = "none" if frame is None else require(frame, path)
    with hdf.opened(path) as file:
        version = hdf.string(file.attrs.get("FileVersion", ""))
        if version not in ("7.0", "8.0"):
            raise DataError(f"{path}: FileVersion: found {version!r}, accepted are '7.0' and '8.0'")
        geometry, shape, spacing, origin = _geometry_7(path, file) if version == "7.0" else _geometry_8(path, file)
        cells = _cells(path, geometry, shape)
        euler = _euler(path, geometry, cells, shape)
        phase = _per_voxel(path, geometry, cells, shape, "Phases")
        phase = np.ones(shape, np.int32) if phase is None else phase.astype(np.int32)
        groups, names = _phases(path, file, geometry, int(phase.max()))
        mask = _mask(cells, shape, phase)
        fields = _fields(cells, shape)
    if mask.any() and not np.all(np.abs(euler[mask]) <= 4 * np.pi + 1e-3):
        raise DataError(f"{path}: EulerAngles: found {np.abs(euler[mask]).max()}, accepted are radians up to 4 pi")
    q = np.asarray(quaternion.from_euler(np.where(mask[..., None], euler, 0).astype(np.float32)))
    volume = OrientationVolume(
        quaternions=q,
        phase=np.where(mask, phase, 0),
        mask=mask,
        spacing=spacing,
        symmetry=tuple(groups),
        provenance={"source": path.name, "format": f"dream3d {version}", "phases": names, **origin},
        fields=fields,
    )
    return to_map(volume, known)


Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]


def _origin(values: Any) -> dict[str, list[float]]:
    """What the provenance keeps of where the file's grid begins, in micrometres; nothing where that is zero."""
    corner = np.asarray(values, float).reshape(-1).tolist()
    return {"origin": corner} if any(corner) else {}


def _three(path: Path, what: str, values: Any) -> list[Any]:
    flat = np.asarray(values).reshape(-1)
    if len(flat) != 3 or not np.all(flat > 0):
        raise DataError(f"{path}: {what}: found {flat.tolist()}, accepted are three positive numbers")
    return flat.tolist()


def _one(path: Path, found: list[h5py.Group]) -> h5py.Group:
    if len(found) != 1:
        names = [group.name for group in found]
        raise DataError(f"{path}: found {len(found)} image geometries with voxels {names}, accepted is one")
    return found[0]


def _geometry_7(path: Path, file: h5py.File) -> tuple[h5py.Group, Shape, Spacing, dict[str, list[float]]]:
    containers = hdf.group(path, file, "DataContainers")
    found = [containers[key] for key in containers if f"{key}/_SIMPL_GEOMETRY/DIMENSIONS" in containers]
    container = _one(path, found)
    geometry = container["_SIMPL_GEOMETRY"]
    nx, ny, nz = _three(path, "DIMENSIONS", geometry["DIMENSIONS"][()])
    dx, dy, dz = _three(path, "SPACING", hdf.array(path, geometry, "SPACING"))
    return container, (nx, ny, nz), (dx, dy, dz), _origin(geometry["ORIGIN"][()] if "ORIGIN" in geometry else 0.0)


def _geometry_8(path: Path, file: h5py.File) -> tuple[h5py.Group, Shape, Spacing, dict[str, list[float]]]:
    found: list[h5py.Group] = []

    def visit(_: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Group) and "_DIMENSIONS" in item.attrs and "_SPACING" in item.attrs:
            found.append(item)

    hdf.group(path, file, "DataStructure").visititems(visit)
    geometry = _one(path, found)
    nx, ny, nz = _three(path, "_DIMENSIONS", geometry.attrs["_DIMENSIONS"])
    dx, dy, dz = _three(path, "_SPACING", geometry.attrs["_SPACING"])
    return geometry, (nx, ny, nz), (dx, dy, dz), _origin(geometry.attrs.get("_ORIGIN", 0.0))


def _cells(path: Path, geometry: h5py.Group, shape: Shape) -> h5py.Group:
    """The group whose arrays have one tuple per voxel."""
    for item in geometry.values():
        if isinstance(item, h5py.Group):
            for values in item.values():
                if isinstance(values, h5py.Dataset) and values.shape[:3] == shape[::-1]:
                    return item
    raise DataError(f"{path}: {geometry.name}: found no array of {shape[::-1]} voxels (z, y, x), accepted is cell data")


def _xyz(values: np.ndarray, shape: Shape) -> np.ndarray:
    moved = np.moveaxis(values, (0, 1, 2), (2, 1, 0))
    return moved[..., 0] if moved.ndim == 4 and moved.shape[3] == 1 else moved.reshape(*shape, -1)


def _features(geometry: h5py.Group, name: str) -> list[np.ndarray]:
    """Arrays of that name with one tuple per feature."""
    groups = [item for item in geometry.values() if isinstance(item, h5py.Group)]
    found = [group[name] for group in groups if isinstance(group.get(name), h5py.Dataset)]
    return [np.asarray(values[()]) for values in found if values.ndim == 2]


def _per_voxel(path: Path, geometry: h5py.Group, cells: h5py.Group, shape: Shape, name: str) -> np.ndarray | None:
    """An array per voxel, or, where the file has it per feature only, spread over the voxels of each feature."""
    if name in cells:
        return _xyz(hdf.array(path, cells, name), shape)
    tables = _features(geometry, name)
    if not tables or "FeatureIds" not in cells:
        return None
    ids = _xyz(hdf.array(path, cells, "FeatureIds"), shape)
    if ids.min() < 0 or ids.max() >= len(tables[0]):
        raise DataError(f"{path}: FeatureIds: found {ids.min()} to {ids.max()}, accepted are 0 to {len(tables[0]) - 1}")
    spread = tables[0][ids]
    return spread[..., 0] if spread.shape[-1] == 1 else spread


def _euler(path: Path, geometry: h5py.Group, cells: h5py.Group, shape: Shape) -> np.ndarray:
    for name in ("EulerAngles", "Eulers", "AvgEulerAngles"):
        values = _per_voxel(path, geometry, cells, shape, name)
        if values is not None and values.shape == (*shape, 3):
            return values
    raise DataError(
        f"{path}: {cells.name}: found no EulerAngles per voxel or feature, accepted are three angles in radians"
    )


def _fields(cells: h5py.Group, shape: Shape) -> dict[str, np.ndarray]:
    """Every number per voxel. Vectors and tensors are left out: in another frame they would be wrong."""
    fields = {}
    for name, values in cells.items():
        scalar = isinstance(values, h5py.Dataset) and values.dtype.kind in "biuf" and values.size == np.prod(shape)
        if scalar and (name in FIELDS or name not in TAKEN):
            fields[FIELDS.get(name, name)] = _xyz(values[()].reshape(*shape[::-1], 1), shape)
    return fields


def _mask(cells: h5py.Group, shape: Shape, phase: np.ndarray) -> np.ndarray:
    mask = phase > 0
    for name in ("Mask", "GoodVoxels"):
        if name in cells:
            return mask & (_xyz(cells[name][()], shape) != 0)
    return mask


def _phases(path: Path, file: h5py.File, geometry: h5py.Group, highest: int) -> tuple[list[str], list[str]]:
    """Groups and names of phases 1 and up; entry 0 of these arrays is a placeholder."""
    ensembles: list[h5py.Group] = [
        g for g in geometry.values() if isinstance(g, h5py.Group) and "CrystalStructures" in g
    ]
    if not ensembles:
        file.visititems(
            lambda _, g: ensembles.append(g) if isinstance(g, h5py.Group) and "CrystalStructures" in g else None
        )
    if not ensembles:
        raise DataError(f"{path}: CrystalStructures: found none, accepted is one number per phase")
    codes = hdf.numbers(path, ensembles[0], None, "CrystalStructures").astype(int)[1:]
    if len(codes) < highest:
        raise DataError(
            f"{path}: Phases: found {highest}, accepted are 0 to {len(codes)}, the phases of CrystalStructures"
        )
    unknown = [int(code) for code in codes if code not in DREAM3D_GROUPS]
    if unknown or not len(codes):
        raise DataError(f"{path}: CrystalStructures: found {unknown}, accepted are 0 to 10 for phases 1 and up")
    names = [f"phase_{i}" for i in range(1, len(codes) + 1)]
    for key in ("PhaseName", "MaterialName"):
        if key in ensembles[0]:
            stored = [hdf.string(value) for value in ensembles[0][key][()].reshape(-1)][1:]
            names = [*stored, *names[len(stored) :]]
            break
    return [DREAM3D_GROUPS[code] for code in codes], names
