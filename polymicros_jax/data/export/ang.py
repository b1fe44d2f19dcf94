"""EDAX `.ang` text maps: one file for a map, one per section for a volume."""

from pathlib import Path

import numpy as np

from polymicros_jax.data.atomic import replacing
from polymicros_jax.data.ebsd.frames import from_map, require
from polymicros_jax.data.errors import DataError
from polymicros_jax.data.laue import TSL_CODES
from polymicros_jax.data.volume import OrientationVolume, take
from polymicros_jax.orientation import quaternion


def write_ang(volume: OrientationVolume, path: str | Path, *, frame: str) -> Path:
    """Writes ten columns: phi1, Phi, phi2 (radians), x, y (micrometres), image quality, confidence index, phase,
    signal, fit.

    Unobserved points get the confidence index -1 and angles of 4 pi, as EDAX writes them. These files do not hold the
    distance of sections: it is given anew when they are read, `read(folder, slice_spacing=...)`.

    Args:
        volume: what to write.
        path: a file for a map; for a volume with more than one section a folder, which receives `section_0000.ang` and
            so on.
        frame: what the written angles shall refer to, "edax", "oxford" or "none" (the volume's own frame); see
            `data.ebsd.frames`.

    Raises:
        DataError: an unknown frame, a file name for a volume of several sections, or a folder that holds sections
            beyond those of the volume, which would be read with them.

    >>> from polymicros_jax.data.ebsd import read
    >>> from polymicros_jax.data.samples import load
    >>> section = load("in100").crop((0, 0, 0), (6, 5, 1))
    >>> path = write_ang(section, "section.ang", frame="edax")
    >>> back = read(path, frame="edax")
    >>> bool(np.degrees(quaternion.disorientation(back.quaternions, section.quaternions))[section.mask].max() < 0.1)
    True
    """
    target = Path(path)
    require(frame, target)
    sections = volume.shape[2]
    if sections == 1:
        if target.suffix.lower() != ".ang":
            raise DataError(f"{target}: found suffix {target.suffix!r}, accepted is .ang")
        _write_map(from_map(volume, frame), target)
        return target
    if target.suffix:
        raise DataError(
            f"{target}: found a file name for {sections} sections, accepted is a folder, or a volume with nz = 1"
        )
    names = [f"section_{k:04d}.ang" for k in range(sections)]
    others = sorted({each.name for each in target.glob("*.ang")} - set(names))
    if others:
        raise DataError(
            f"{target}: found {others[0]}, which is none of the {sections} sections; accepted is a new folder"
        )
    turned = from_map(volume, frame)
    for k, name in enumerate(names):
        _write_map(take(turned, np.s_[:, :, k : k + 1]), target / name)
    return target


def _write_map(volume: OrientationVolume, path: Path) -> None:
    nx, ny, _ = volume.shape
    dx, dy, _ = volume.spacing
    observed = volume.mask[:, :, 0].T.reshape(-1)
    euler = np.asarray(quaternion.to_euler(volume.quaternions[:, :, 0])).transpose(1, 0, 2).reshape(-1, 3)
    y, x = np.mgrid[:ny, :nx].reshape(2, -1)
    groups = volume.phase_groups
    phase = volume.phase[:, :, 0].T.reshape(-1)

    def column(name: str, default: float) -> np.ndarray:
        values = volume.fields.get(name)
        # What is not a number is nothing to rely on; no reader takes it for a number.
        return np.full(nx * ny, default) if values is None else np.nan_to_num(values[:, :, 0].T.reshape(-1), nan=0.0)

    table = np.column_stack(
        [
            np.where(observed[:, None], euler, 4 * np.pi),
            x * dx,
            y * dy,
            column("image_quality", 0.0),
            np.where(observed, np.maximum(column("confidence", 1.0), 0.0), -1.0),
            np.where(observed, phase if len(groups) > 1 else 0, 0),
            column("signal", 0.0),
            column("fit", 0.0),
        ]
    )
    head: list[str] = []
    for number, (group, name) in enumerate(zip(groups, volume.phase_names, strict=True), start=1):
        head += [f"Phase {number}", f"MaterialName  \t{name}", f"Symmetry              {TSL_CODES[group]}", ""]
    head += [
        "GRID: SqrGrid",
        f"XSTEP: {dx:.6f}",
        f"YSTEP: {dy:.6f}",
        f"NCOLS_ODD: {nx}",
        f"NCOLS_EVEN: {nx}",
        f"NROWS: {ny}",
        "",
    ]
    formats = ["%.6f", "%.6f", "%.6f", "%.6f", "%.6f", "%.2f", "%.3f", "%d", "%.2f", "%.3f"]
    with replacing(path) as temporary:
        np.savetxt(temporary, table, fmt=formats, header="\n".join(head), comments="# ", encoding="utf-8")
