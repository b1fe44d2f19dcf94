"""Oxford / HKL project files: `.cpr` (text) describes the records of `.crc` (binary). Radians; phase 0 is unindexed."""

import configparser
from collections.abc import Callable
from pathlib import Path

import numpy as np

from polymicros_jax.data.ebsd.frames import require
from polymicros_jax.data.ebsd.scan import Scan, gather
from polymicros_jax.data.ebsd.text import number, read_lines, whole
from polymicros_jax.data.errors import DataError
from polymicros_jax.data.laue import HKL_GROUPS, from_space_group
from polymicros_jax.data.volume import OrientationVolume

RECORD_FIELDS = {
    1: ("x", "<f4"),
    2: ("y", "<f4"),
    3: ("phi1", "<f4"),
    4: ("Phi", "<f4"),
    5: ("phi2", "<f4"),
    6: ("mean_angular_deviation", "<f4"),
    7: ("band_contrast", "u1"),
    8: ("band_slope", "u1"),
    10: ("bands", "u1"),
    11: ("error", "u1"),
    12: ("reliability", "<f4"),
}
"""Number of a record field in `.cpr` to its name and type; fields of chemical maps (100 and above) are 4-byte
floats."""

KEPT = ("mean_angular_deviation", "band_contrast", "band_slope", "bands")


def read_cpr(path: Path, frame: str | None) -> OrientationVolume:
    """Reads a map on a regular grid; `path` may name either of the two files.

    Raises:
        DataError: no frame, one of the files is missing, or they disagree (a truncated `.crc`).
    """
    known = require(frame, path)
    project, records = _pair(path)
    config = configparser.ConfigParser(strict=False, interpolation=None)
    try:
        config.read_string("\n".join(read_lines(project)))
    except configparser.Error as error:
        raise DataError(
            f"{project}: found {error.message.splitlines()[0]}, accepted are [sections] of key=value"
        ) from error

    def text(section: str, key: str) -> str:
        if not config.has_option(section, key):
            raise DataError(f"{project}: [{section}] {key}: found none, accepted is a value")
        return config.get(section, key)

    nx, ny = (whole(project, f"[Job] {key}", text("Job", key)) for key in ("xCells", "yCells"))
    dx, dy = (number(project, f"[Job] {key}", text("Job", key)) for key in ("GridDistX", "GridDistY"))
    if min(nx, ny) < 1 or min(dx, dy) <= 0:
        raise DataError(f"{project}: [Job]: found {nx} x {ny} cells of {dx} x {dy}, accepted are positive numbers")
    record = _record(project, config, text)
    expected, found = nx * ny * record.itemsize, records.stat().st_size
    if found != expected:
        raise DataError(
            f"{records}: found {found} bytes, accepted are {nx} x {ny} records of {record.itemsize} bytes = {expected}"
        )
    data = np.fromfile(records, dtype=record)
    groups, names = _phases(project, text)
    phase = data["phase"].astype(np.int64)
    if phase.max() > len(groups):
        raise DataError(f"{records}: phase: found {phase.max()}, accepted are 0 to the {len(groups)} of {project.name}")
    euler = np.stack([data["phi1"], data["Phi"], data["phi2"]], axis=-1)
    used = euler[phase > 0]
    if used.size and not np.all(np.abs(used) <= 2 * np.pi + 1e-3):
        raise DataError(f"{records}: Euler angles: found {np.nanmax(np.abs(used))}, accepted are radians up to 2 pi")
    scan = Scan(
        path=project,
        euler=euler,
        phase=phase,
        observed=phase > 0,
        x=np.tile(np.arange(nx), ny) * dx,
        y=np.repeat(np.arange(ny), nx) * dy,
        groups=groups,
        names=names,
        fields={name: data[name] for name in KEPT if name in (record.names or ())},
        provenance={"format": "cpr/crc"},
    )
    rows = np.arange(nx * ny).reshape(ny, nx)
    return gather(scan, rows.T[:, :, None], (dx, dy, dx), known)


def _pair(path: Path) -> tuple[Path, Path]:
    found = {}
    for suffix in (".cpr", ".crc"):
        candidates = [path.with_suffix(suffix), path.with_suffix(suffix.upper())]
        present = [candidate for candidate in candidates if candidate.is_file()]
        if not present:
            raise DataError(f"{candidates[0]}: found no such file, accepted are a .cpr and a .crc side by side")
        found[suffix] = present[0]
    return found[".cpr"], found[".crc"]


def _record(project: Path, config: configparser.ConfigParser, text: Callable[[str, str], str]) -> np.dtype:
    columns = [("phase", "u1")]
    for i in range(1, whole(project, "[Fields] Count", text("Fields", "Count")) + 1):
        code = whole(project, f"[Fields] Field{i}", text("Fields", f"Field{i}"))
        if code not in RECORD_FIELDS and code < 100:
            raise DataError(
                f"{project}: [Fields] Field{i}: found {code}, accepted are {sorted(RECORD_FIELDS)} and 100 or more"
            )
        columns.append(RECORD_FIELDS.get(code, (f"field_{code}", "<f4")))
    names = [name for name, _ in columns]
    if len(set(names)) != len(names) or not {"phi1", "Phi", "phi2"} <= set(names):
        raise DataError(
            f"{project}: [Fields]: found {names}, accepted are distinct fields with 3, 4 and 5 (Euler angles)"
        )
    return np.dtype(columns)


def _phases(project: Path, text: Callable[[str, str], str]) -> tuple[list[str], list[str]]:
    groups, names = [], []
    for i in range(1, whole(project, "[Phases] Count", text("Phases", "Count")) + 1):
        section = f"Phase{i}"
        laue, space = text(section, "LaueGroup").strip(), text(section, "SpaceGroup").strip()
        group = HKL_GROUPS.get(whole(project, f"[{section}] LaueGroup", laue)) if laue else None
        if group is None and space:
            group = from_space_group(whole(project, f"[{section}] SpaceGroup", space))
        if group is None:
            raise DataError(
                f"{project}: [{section}]: found LaueGroup {laue!r} and SpaceGroup {space!r}, accepted are 1 to 11, or "
                f"1 to 230"
            )
        groups.append(group)
        names.append(text(section, "StructureName"))
    return groups, names
