"""A folder of maps as one volume: sections in the order of the numbers in their names."""

import dataclasses
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from polymicros_jax.data.errors import DataError
from polymicros_jax.data.volume import OrientationVolume


def order(path: Path) -> list[tuple[int, str]]:
    """Sort key of a file name: text and numbers apart, so that slice 10 comes after slice 9.

    >>> [path.name for path in sorted([Path("slice_10.ang"), Path("slice_9.ang")], key=order)]
    ['slice_9.ang', 'slice_10.ang']
    """
    parts = re.split(r"(\d+)", path.stem.lower())
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def sections(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """The maps of a folder, in order. Other files (notes, `.crc` beside `.cpr`) are ignored.

    Raises:
        DataError: there are none, or they are of several formats.

    >>> for name in ("s10.ang", "s9.ang", "notes.txt"):
    ...     Path(name).touch()
    >>> [path.name for path in sections(Path("."), [".ang"])]
    ['s9.ang', 's10.ang']
    """
    found = [path for path in folder.iterdir() if path.suffix.lower() in suffixes and not path.name.startswith(".")]
    kinds = {path.suffix.lower() for path in found}
    if len(kinds) != 1:
        what = f"maps of {sorted(kinds)}" if kinds else "no maps"
        raise DataError(f"{folder}: found {what}, accepted is a folder with maps of one of {', '.join(suffixes)}")
    return sorted(found, key=order)


def read_folder(
    folder: Path, read_map: Callable[[Path], OrientationVolume], suffixes: Sequence[str], slice_spacing: float | None
) -> OrientationVolume:
    """Reads every map and stacks them along z, the first at z = 0.

    Args:
        folder: the folder.
        read_map: reader of one map.
        suffixes: of maps.
        slice_spacing: micrometres between sections, which no map file holds. Without it voxels are taken as cubes; a
            warning and the provenance say so.

    Raises:
        DataError: no maps, or maps of different grids.

    >>> from polymicros_jax.data.ebsd.ang import read_ang
    >>> from polymicros_jax.data.export.ang import write_ang
    >>> from polymicros_jax.data.samples import load
    >>> folder = write_ang(load("in100").crop((0, 0, 0), (6, 5, 3)), Path("stack"), frame="none")
    >>> volume = read_folder(folder, lambda path: read_ang(path, "none"), [".ang"], slice_spacing=1.0)
    >>> volume.shape, volume.spacing
    ((6, 5, 3), (0.25, 0.25, 1.0))
    """
    if slice_spacing is not None and not (np.isfinite(slice_spacing) and slice_spacing > 0):
        raise DataError(f"{folder}: slice_spacing: found {slice_spacing}, accepted is a positive length in micrometres")
    files = sections(folder, suffixes)
    maps = [read_map(path) for path in files]
    spacing = maps[0].spacing[0] if slice_spacing is None else float(slice_spacing)
    if slice_spacing is None:
        warnings.warn(
            f"{folder}: no slice_spacing given; taking the step along x, {spacing:g} micrometres, as the distance of "
            f"sections",
            stacklevel=3,
        )
    volume = stack(maps, [str(path) for path in files], spacing)
    note = "given" if slice_spacing is not None else "assumed equal to the step along x"
    extra = {"source": folder.name, "sections": [path.name for path in files], "slice_spacing": note}
    return dataclasses.replace(volume, provenance={**volume.provenance, **extra})


def stack(maps: Sequence[OrientationVolume], names: Sequence[str], spacing: float) -> OrientationVolume:
    """Maps on the same grid as one volume, the first at z = 0.

    Raises:
        DataError: a volume, or a map of another grid, step or symmetry, with its name.

    >>> from polymicros_jax.data.samples import load
    >>> maps = [load("in100").crop((0, 0, k), (8, 8, k + 1)) for k in range(3)]
    >>> whole = stack(maps, ["a.ang", "b.ang", "c.ang"], spacing=1.0)
    >>> whole.shape, whole.spacing
    ((8, 8, 3), (0.25, 0.25, 1.0))
    """
    first = maps[0]
    for each, name in zip(maps, names, strict=True):
        if each.shape[2] != 1:
            raise DataError(f"{name}: found {each.shape[2]} sections, accepted is a map: one section a file")
        if each.shape != first.shape or not np.allclose(each.spacing[:2], first.spacing[:2], rtol=1e-3):
            raise DataError(
                f"{name}: found a grid of {each.shape[:2]} with steps {each.spacing[:2]}, accepted is that of "
                f"{names[0]}, {first.shape[:2]} with steps {first.spacing[:2]}"
            )
        if each.symmetry != first.symmetry:
            raise DataError(
                f"{name}: symmetry: found {each.symmetry}, accepted is that of {names[0]}, {first.symmetry}"
            )
    common = set(first.fields).intersection(*(each.fields for each in maps))
    return dataclasses.replace(
        first,
        quaternions=np.concatenate([each.quaternions for each in maps], axis=2),
        phase=np.concatenate([each.phase for each in maps], axis=2),
        mask=np.concatenate([each.mask for each in maps], axis=2),
        spacing=(first.spacing[0], first.spacing[1], spacing),
        fields={name: np.concatenate([each.fields[name] for each in maps], axis=2) for name in sorted(common)},
    )
