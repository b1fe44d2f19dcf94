"""Oxford Instruments `.h5oina`: one map, radians, micrometres. Phase 0 is unindexed; NaN lies outside the acquisition
area.

The format says that angles relate the crystal to the sample surface, but not how that surface lies in the map, so
`frame` is required. Written from the published specification of the format (versions 1 to 8).
"""

from pathlib import Path

import h5py
import numpy as np

from polymicros_jax.data.ebsd import hdf
from polymicros_jax.data.ebsd.frames import require
from polymicros_jax.data.ebsd.scan import Scan, gather
from polymicros_jax.data.errors import DataError
from polymicros_jax.data.laue import HKL_GROUPS, from_space_group
from polymicros_jax.data.volume import OrientationVolume

FIELDS = {
    "Mean Angular Deviation": "mean_angular_deviation",
    "Band Contrast": "band_contrast",
    "Band Slope": "band_slope",
    "Bands": "bands",
    "Pattern Quality": "pattern_quality",
}


def read_oina(path: Path, frame: str | None) -> OrientationVolume:
    """Reads the one EBSD map of a file.

    Raises:
        DataError: no frame, no EBSD map or several, or a damaged file.
    """
    known = require(frame, path)
    with hdf.opened(path) as file:
        slices = [key for key in file if isinstance(file.get(f"{key}/EBSD/Data"), h5py.Group)]
        if len(slices) != 1:
            raise DataError(f"{path}: found {len(slices)} EBSD maps {slices}, accepted is one")
        header, data = (hdf.group(path, file, f"{slices[0]}/EBSD/{part}") for part in ("Header", "Data"))
        nx, ny = (int(hdf.positive(path, header, key)) for key in ("X Cells", "Y Cells"))
        dx, dy = (hdf.positive(path, header, key) for key in ("X Step", "Y Step"))
        n = nx * ny
        euler = hdf.numbers(path, data, 3 * n, "Euler").reshape(n, 3)
        raw = hdf.numbers(path, data, n, "Phase").astype(np.float64)
        phase = np.where(np.isfinite(raw), raw, 0).astype(np.int64)
        observed = (phase > 0) & np.all(np.isfinite(euler), axis=1)
        groups, names = _phases(path, hdf.group(path, header, "Phases"))
        if phase.max() > len(groups):
            raise DataError(f"{path}: Phase: found {phase.max()}, accepted are 0 to the {len(groups)} of the header")
        used = euler[observed]
        if used.size and np.abs(used).max() > 2 * np.pi + 1e-3:
            raise DataError(f"{path}: Euler: found {np.abs(used).max()}, accepted are radians up to 2 pi")
        scan = Scan(
            path=path,
            euler=euler,
            phase=np.where(observed, phase, 0),
            observed=observed,
            x=np.tile(np.arange(nx), ny) * dx,
            y=np.repeat(np.arange(ny), nx) * dy,
            groups=groups,
            names=names,
            fields={new: hdf.numbers(path, data, n, old) for old, new in FIELDS.items() if old in data},
            provenance={"format": "h5oina"},
        )
    return gather(scan, np.arange(n).reshape(ny, nx).T[:, :, None], (dx, dy, dx), known)


def _phases(path: Path, parent: h5py.Group) -> tuple[list[str], list[str]]:
    groups, names = [], []
    for number, phase in enumerate(hdf.numbered(path, parent), start=1):
        code = int(hdf.scalar(path, phase, "Laue Group"))
        group = HKL_GROUPS.get(code)
        if group is None and "Space Group" in phase:
            group = from_space_group(int(hdf.scalar(path, phase, "Space Group")))
        if group is None:
            raise DataError(f"{path}: {phase.name}/Laue Group: found {code}, accepted are 1 to 11")
        groups.append(group)
        names.append(hdf.name_of(phase, "Phase Name", default=f"phase_{number}"))
    return groups, names
