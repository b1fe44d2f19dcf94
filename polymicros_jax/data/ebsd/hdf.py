"""HDF5 files: opening and looking things up with errors that name the file and the field."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from polymicros_jax.data.errors import DataError


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """The file, open for reading.

    Raises:
        DataError: it is no HDF5 file, is truncated, or a part of it cannot be read.
    """
    if path.stat().st_size == 0:
        raise DataError(f"{path}: found an empty file, accepted is HDF5")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except DataError:
        raise
    # A damaged file surfaces in h5py as any of these, wherever the damage is first met.
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise DataError(f"{path}: found {error}, accepted is an intact HDF5 file") from error


def group(path: Path, parent: h5py.Group, name: str) -> h5py.Group:
    """A group of `parent`.

    Raises:
        DataError: there is none.
    """
    found = parent.get(name)
    if not isinstance(found, h5py.Group):
        raise DataError(f"{path}: {parent.name}/{name}: found no such group, accepted here: {sorted(parent)[:12]}")
    return found


def array(path: Path, parent: h5py.Group, *names: str) -> np.ndarray:
    """The dataset of `parent` with the first of `names` that exists.

    Raises:
        DataError: there is none.
    """
    for name in names:
        found = parent.get(name)
        if isinstance(found, h5py.Dataset):
            return np.asarray(found[()])
    raise DataError(
        f"{path}: {parent.name}: found no dataset {' or '.join(names)}, accepted here: {sorted(parent)[:12]}"
    )


def numbers(path: Path, parent: h5py.Group, length: int | None, *names: str) -> np.ndarray:
    """A numeric dataset as a flat array, of the given length where one is given.

    Raises:
        DataError: there is none, it is not numeric, or its length differs.
    """
    values = array(path, parent, *names).reshape(-1)
    if values.dtype.kind not in "iufb" or (length is not None and len(values) != length):
        accepted = "numbers" if length is None else f"{length} numbers"
        raise DataError(
            f"{path}: {parent.name}/{names[0]}: found {len(values)} of {values.dtype}, accepted are {accepted}"
        )
    return values


def scalar(path: Path, parent: h5py.Group, *names: str) -> float:
    """A single finite number.

    Raises:
        DataError: there is none.
    """
    values = numbers(path, parent, None, *names)
    if len(values) != 1 or not np.isfinite(values[0]):
        raise DataError(f"{path}: {parent.name}/{names[0]}: found {values[:4]}, accepted is one number")
    return float(values[0])


def positive(path: Path, parent: h5py.Group, *names: str) -> float:
    """A single positive number, such as a step.

    Raises:
        DataError: there is none.
    """
    value = scalar(path, parent, *names)
    if value <= 0:
        raise DataError(f"{path}: {parent.name}/{names[0]}: found {value}, accepted is a positive number")
    return value


def string(value: Any) -> str:
    """Text of a dataset or attribute, which HDF5 libraries store in half a dozen ways.

    >>> string(b"EDAX"), string(np.array([b"EDAX"]))
    ('EDAX', 'EDAX')
    """
    item = np.asarray(value).reshape(-1)
    first = item[0] if len(item) else ""
    return first.decode("utf-8", errors="replace").strip("\0 ") if isinstance(first, bytes) else str(first)


def name_of(parent: h5py.Group, *names: str, default: str) -> str:
    """A name stored under the first of `names` that exists."""
    for name in names:
        if isinstance(parent.get(name), h5py.Dataset):
            return string(parent[name][()])
    return default


def numbered(path: Path, parent: h5py.Group) -> list[h5py.Group]:
    """Subgroups called 1, 2, ... in the order of their numbers.

    Raises:
        DataError: there are none, or numbers are missing.
    """
    keys = sorted((key for key in parent if key.isdigit()), key=int)
    if not keys or [int(key) for key in keys] != list(range(1, len(keys) + 1)):
        raise DataError(f"{path}: {parent.name}: found {keys}, accepted are groups numbered from 1")
    return [group(path, parent, key) for key in keys]
