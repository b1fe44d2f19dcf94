"""GrainMapper3D `.h5`: a grain map from laboratory diffraction contrast tomography, Rodrigues vectors, millimetres.

The format states neither the sign of its Rodrigues vectors nor whether they are active or passive. A vector r is taken
here as the quaternion ``(1, -r) / |(1, r)|``, sample to crystal: with that sign, and not with the other, the file's own
IPF001 colours belong to the crystal direction along sample z (measured on the Al1050 sample). It has not been verified
against an independent map.
"""

from pathlib import Path

import numpy as np

from polymicros_jax.data.ebsd import hdf
from polymicros_jax.data.ebsd.frames import require, to_map
from polymicros_jax.data.errors import DataError
from polymicros_jax.data.laue import from_space_group
from polymicros_jax.data.volume import OrientationVolume
from polymicros_jax.orientation import quaternion


def read_grainmapper(path: Path, frame: str | None = None) -> OrientationVolume:
    """Reads the grain map; voxels without a phase are unobserved. Positions and orientations share one frame, so
    `frame` may be omitted.

    Raises:
        DataError: arrays are missing or disagree, or a damaged file.
    """
    known = "none" if frame is None else require(frame, path)
    with hdf.opened(path) as file:
        scan = hdf.group(path, file, "LabDCT")
        data = hdf.group(path, scan, "Data")
        rodrigues = hdf.array(path, data, "Rodrigues")
        phase, grain = hdf.array(path, data, "PhaseId"), hdf.array(path, data, "GrainId")
        completeness = hdf.array(path, data, "Completeness") if "Completeness" in data else None
        spacing = hdf.numbers(path, scan, 3, "Spacing").astype(float) * 1e3
        groups, names = [], []
        info = hdf.group(path, file, "PhaseInfo")
        for key in sorted(key for key in info if key.startswith("Phase")):
            number = int(hdf.scalar(path, info[key], "SpaceGroup"))
            group = from_space_group(number)
            if group is None:
                raise DataError(f"{path}: {info[key].name}/SpaceGroup: found {number}, accepted are 1 to 230")
            groups.append(group)
            names.append(hdf.name_of(info[key], "Name", default=key))
    if rodrigues.shape != (*phase.shape, 3) or phase.ndim != 3 or grain.shape != phase.shape:
        raise DataError(
            f"{path}: Rodrigues: found shape {rodrigues.shape}, accepted is {(*phase.shape, 3)} as PhaseId and 3"
        )
    if not groups or phase.max() > len(groups):
        raise DataError(f"{path}: PhaseId: found {phase.max()}, accepted are 0 to the {len(groups)} of PhaseInfo")

    def xyz(values: np.ndarray) -> np.ndarray:
        return np.moveaxis(values, (0, 1, 2), (2, 1, 0)).copy()

    mask = xyz(phase) > 0
    vectors = np.where(mask[..., None], xyz(rodrigues), 0).astype(np.float32)
    if not np.all(np.isfinite(vectors)):
        raise DataError(
            f"{path}: Rodrigues: found a value that is not finite in a voxel with a phase, accepted are numbers"
        )
    fields = {"grain": xyz(grain).astype(np.int32)}
    if completeness is not None:
        fields["completeness"] = xyz(completeness)
    volume = OrientationVolume(
        quaternions=np.asarray(quaternion.from_rodrigues(-vectors)),
        phase=xyz(phase).astype(np.int32),
        mask=mask,
        spacing=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
        symmetry=tuple(groups),
        provenance={
            "source": path.name,
            "format": "GrainMapper3D h5",
            "phases": names,
            "convention": "sign of the Rodrigues vectors taken from the file's IPF001 colours; not verified "
            "independently",
        },
        fields=fields,
    )
    return to_map(volume, known)
