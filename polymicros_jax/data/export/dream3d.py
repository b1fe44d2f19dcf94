"""DREAM3D-NX files, version 8.0: an image geometry with cell and ensemble data."""

from pathlib import Path

import h5py
import numpy as np

from polymicros_jax.data.atomic import replacing
from polymicros_jax.data.ebsd.dream3d import FIELDS
from polymicros_jax.data.errors import DataError
from polymicros_jax.data.laue import DREAM3D_CODES
from polymicros_jax.data.volume import OrientationVolume
from polymicros_jax.orientation import quaternion

_LABELS = {ours: theirs for theirs, ours in FIELDS.items()}


class _Numbered:
    """Adds objects to a file, each with the attributes every DREAM3D-NX object carries and an id of its own."""

    def __init__(self, root: h5py.Group) -> None:
        self.root, self.next_id = root, 1

    def group(self, parent: h5py.Group, name: str, kind: str) -> h5py.Group:
        """A group of the given object type."""
        made = parent.create_group(name)
        self._label(made, kind)
        return made

    def array(self, parent: h5py.Group, name: str, values: np.ndarray, kind: str, tuple_axes: int) -> None:
        """A data array whose first `tuple_axes` axes are tuples (slowest first) and the rest components."""
        made = parent.create_dataset(name, data=values)
        self._label(made, f"DataArray<{kind}>")
        made.attrs["TupleDimensions"] = np.array(values.shape[:tuple_axes], np.uint64)
        made.attrs["ComponentDimensions"] = np.array(values.shape[tuple_axes:], np.uint64)

    def strings(self, parent: h5py.Group, name: str, values: list[str]) -> None:
        """An array of strings."""
        made = parent.create_dataset(name, data=values, dtype=h5py.string_dtype())
        self._label(made, "StringArray")
        made.attrs["TupleDimensions"] = np.array([len(values)], np.uint64)
        made.attrs["ComponentDimensions"] = np.array([1], np.uint64)

    def _label(self, made: h5py.HLObject, kind: str) -> None:
        made.attrs["ObjectType"] = np.bytes_(kind)
        made.attrs["ObjectId"] = np.uint64(self.next_id)
        made.attrs["Importable"] = np.int32(1)
        self.next_id += 1
        self.root.attrs["NextObjectId"] = np.uint64(self.next_id)


def write_dream3d(volume: OrientationVolume, path: str | Path) -> Path:
    """Writes Euler angles (radians), phases, mask and fields as a `.dream3d` file of version 8.0.

    Fields are written under their own names but for those that DREAM.3D has a name for (`data.ebsd.dream3d.FIELDS`);
    booleans as 0 and 1. Feature 0 is no feature in DREAM.3D, whose filters leave it out: grains that are counted from
    0, as by `orientation.grains.segment`, are written one higher, and numbers below 0, which stand for no grain, as 0.

    Raises:
        DataError: the name does not end in `.dream3d`, or a field that the format has no type or another use for.

    >>> from polymicros_jax.data.samples import load
    >>> path = write_dream3d(load("in100").crop((0, 0, 0), (6, 5, 4)), "part.dream3d")
    >>> with h5py.File(path) as file:
    ...     sorted(file)
    ['DataStructure']
    """
    target = Path(path)
    if target.suffix.lower() != ".dream3d":
        raise DataError(f"{target}: found suffix {target.suffix!r}, accepted is .dream3d")
    euler = np.asarray(quaternion.to_euler(volume.quaternions), dtype=np.float32)
    groups = volume.phase_groups
    names = volume.phase_names

    def slowest_first(values: np.ndarray) -> np.ndarray:
        moved = np.moveaxis(values, (0, 1, 2), (2, 1, 0))
        return moved if moved.ndim > 3 else moved[..., None]

    with replacing(target) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["FileVersion"] = np.bytes_("8.0")
        root = file.create_group("DataStructure")
        add = _Numbered(root)
        geometry = add.group(root, "Image Geometry", "ImageGeom")
        geometry.attrs["_DIMENSIONS"] = np.array(volume.shape, np.uint64)
        geometry.attrs["_ORIGIN"] = np.zeros(3, np.float32)
        geometry.attrs["_SPACING"] = np.array(volume.spacing, np.float32)
        geometry.attrs["Dimensionality"] = np.uint64(3)
        cells = add.group(geometry, "Cell Data", "AttributeMatrix")
        cells.attrs["TupleDims"] = np.array(volume.shape[::-1], np.uint64)
        geometry.attrs["Cell Data ID"] = cells.attrs["ObjectId"]
        add.array(cells, "EulerAngles", slowest_first(euler), "float32", 3)
        phase = np.where(volume.mask, np.maximum(volume.phase, 1), 0).astype(np.int32)
        add.array(cells, "Phases", slowest_first(phase), "int32", 3)
        add.array(cells, "Mask", slowest_first(volume.mask).astype(np.uint8), "uint8", 3)
        for name, values in volume.fields.items():
            label = _LABELS.get(name, name)
            if label in cells:
                raise DataError(f"{target}: fields: found {name!r}, a name that the format has another use for")
            stored = _features(values, volume.mask) if name == "grain" else values
            stored = stored.astype(np.uint8) if stored.dtype == bool else stored
            if stored.dtype.kind not in "iuf" or stored.dtype.itemsize > 8 or stored.dtype == np.float16:
                raise DataError(
                    f"{target}: fields: {name} is {stored.dtype}, accepted are bool, integers, float32, float64"
                )
            add.array(cells, label, slowest_first(stored), stored.dtype.name, 3)
        ensemble = add.group(geometry, "Cell Ensemble Data", "AttributeMatrix")
        ensemble.attrs["TupleDims"] = np.array([len(groups) + 1], np.uint64)
        codes = np.array([999, *[DREAM3D_CODES[group] for group in groups]], np.uint32)
        add.array(ensemble, "CrystalStructures", codes[:, None], "uint32", 1)
        add.strings(ensemble, "MaterialName", ["Invalid Phase", *names])
    return target


def _features(grain: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Feature numbers: those of the grains, or one higher where a grain that was observed has the number 0."""
    return (np.maximum(grain, -1) + 1 if np.any(grain[mask] == 0) else np.maximum(grain, 0)).astype(np.int32)
