"""Readers of EBSD and grain-map files; `read` chooses by suffix and content."""

import warnings
from pathlib import Path

from polymicros_jax.data.ebsd import hdf
from polymicros_jax.data.ebsd.ang import read_ang
from polymicros_jax.data.ebsd.cpr import read_cpr
from polymicros_jax.data.ebsd.ctf import read_ctf
from polymicros_jax.data.ebsd.dream3d import read_dream3d
from polymicros_jax.data.ebsd.edax import read_edax
from polymicros_jax.data.ebsd.frames import FRAMES
from polymicros_jax.data.ebsd.grainmapper import read_grainmapper
from polymicros_jax.data.ebsd.h5ebsd import read_h5ebsd
from polymicros_jax.data.ebsd.oina import read_oina
from polymicros_jax.data.ebsd.slices import read_folder
from polymicros_jax.data.errors import DataError
from polymicros_jax.data.volume import OrientationVolume, load

__all__ = ["FRAMES", "MAPS", "SUFFIXES", "read"]

SUFFIXES = (".ang", ".ctf", ".cpr", ".crc", ".dream3d", ".h5oina", ".h5ebsd", ".h5", ".hdf5", ".npz")
MAPS = (".ang", ".ctf", ".cpr", ".h5oina", ".h5", ".hdf5")
"""Formats that a folder of sections may hold."""


def read(
    path: str | Path, frame: str | None = None, *, slice_spacing: float | None = None, unit: str | None = None
) -> OrientationVolume:
    """Reads a scan.

    Args:
        path: a file (`.ang`, `.ctf`, `.cpr`/`.crc`, `.dream3d`, `.h5oina`, `.h5ebsd`, EDAX or GrainMapper3D `.h5`,
            `.npz`) or a folder of sections, in the order of the numbers in their names. Numbers left out are sections
            that were lost: planes of unobserved voxels, with a warning.
        frame: what the file's Euler angles refer to: "edax", "oxford" or "none"; see `data.ebsd.frames`. Required for
            all but `.dream3d`, GrainMapper3D and `.npz`, which are in one frame already.
        slice_spacing: micrometres between the sections of a folder.
        unit: "degrees" or "radians" for a `.ctf` that breaks the rule that they are in degrees.

    Returns:
        The volume, positions and orientations in one frame; ``nz = 1`` for a map.

    Raises:
        FileNotFoundError: there is no such file or folder.
        DataError: what was found and what is accepted, with the file and the field.

    >>> from polymicros_jax.data.export import write
    >>> from polymicros_jax.data.samples import load
    >>> path = write(load("in100").crop((0, 0, 0), (6, 5, 1)), "section.ang", frame="edax")
    >>> section = read(path, frame="edax")
    >>> section.shape, section.spacing, section.symmetry
    ((6, 5, 1), (0.25, 0.25, 0.25), '432')
    >>> read(path)
    Traceback (most recent call last):
        ...
    polymicros_jax.data.errors.DataError: section.ang: frame: none was given; ...
    """
    source = Path(path)
    if not source.exists():
        raise FileNotFoundError(f"{source}: no such file or folder")
    if frame is not None and frame not in FRAMES:
        raise DataError(f"{source}: frame: found {frame!r}, accepted are {', '.join(FRAMES)}")
    if slice_spacing is not None and not source.is_dir():
        raise DataError(f"{source}: slice_spacing: found {slice_spacing}, accepted for a folder of sections alone")
    if source.is_dir():
        volume = read_folder(source, lambda each: _read_file(each, frame, unit), MAPS, slice_spacing)
    else:
        volume = _read_file(source, frame, unit)
    if source.suffix.lower() != ".npz" and "2" in volume.phase_groups:
        warnings.warn(
            f"{source}: a phase is monoclinic. Its two-fold axis is taken along crystal z here, most files have it "
            "along y: angles between its orientations are right only without the two-fold (symmetry='1')",
            stacklevel=2,
        )
    return volume


def _read_file(path: Path, frame: str | None, unit: str | None) -> OrientationVolume:
    suffix = path.suffix.lower()
    if unit is not None and suffix != ".ctf":
        raise DataError(f"{path}: unit: found {unit!r}, accepted for .ctf alone")
    if frame is not None and suffix == ".npz":
        raise DataError(f"{path}: frame: found {frame!r}, a .npz is in its frame already")
    match suffix:
        case ".ang":
            return read_ang(path, frame)
        case ".ctf":
            return read_ctf(path, frame, unit)
        case ".cpr" | ".crc":
            return read_cpr(path, frame)
        case ".dream3d":
            return read_dream3d(path, frame)
        case ".h5oina":
            return read_oina(path, frame)
        case ".h5ebsd":
            return read_h5ebsd(path, frame)
        case ".h5" | ".hdf5":
            return _read_h5(path, frame)
        case ".npz":
            return load(path)
    raise DataError(
        f"{path}: found suffix {path.suffix!r}, accepted are {', '.join(SUFFIXES)}, or a folder of sections"
    )


def _read_h5(path: Path, frame: str | None) -> OrientationVolume:
    """`.h5` is used by several vendors; the content tells which."""
    with hdf.opened(path) as file:
        if "LabDCT" in file:
            kind = "grainmapper"
        else:  # EDAX writes the key with a leading blank
            makers = [key for key in file if key.strip() == "Manufacturer"]
            kind = hdf.string(file[makers[0]][()]).lower() if makers else ""
        keys = sorted(file)[:8]
    if kind == "grainmapper":
        return read_grainmapper(path, frame)
    if kind.startswith("edax"):
        return read_edax(path, frame)
    if kind.startswith("oxford"):
        return read_oina(path, frame)
    raise DataError(
        f"{path}: found Manufacturer {kind!r} and {keys}, accepted are EDAX, Oxford and GrainMapper3D files"
    )
