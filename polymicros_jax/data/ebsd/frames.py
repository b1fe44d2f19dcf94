"""What a vendor's Euler angles refer to, and how they are brought to the frame of the positions.

Positions span the **map frame**: x along increasing column, y along increasing row (down, as the map is displayed),
z = x cross y (into the material). A volume that was read has positions and orientations in that one frame. Angles in a
file often refer to another one:

- ``edax``: A1 points down, A2 right, A3 out of the map. Reading applies the half turn about the diagonal x = y (A1 = y,
  A2 = x, A3 = -z).
- ``oxford``: X points right, Y up, Z out of the map. Reading applies the half turn about x (X = x, Y = -y, Z = -z) and,
  in hexagonal and trigonal phases, takes 30 degrees off phi2: crystal x is along a here and in EDAX files, along a* in
  Oxford's.
- ``none``: the map frame itself. Angles are taken as written.

Which one a file needs does not follow from its format: programs convert. It can be measured on fcc metals, whose
coherent twins lie on shared {111} planes. Share of straight twin boundaries within 10 degrees of the predicted trace:
nickel, EDAX (59 boundaries): 95 % with "edax", 17 % with "none", 0 with "oxford"; nickel, Oxford (52): 98 % with
"oxford", 15 % with "none", 0 with "edax"; copper, a `.cpr` exported from MTEX (86): 83 % with "edax", 0 with "oxford".
tests/data/test_frames_of_twins.py repeats the first two.

Published corrections disagree by what traces cannot show, a half turn about the normal of the map: MTEX corrects Oxford
files by the same half turn about x, DREAM.3D (180 degrees about y for the positions of both vendors, 90 degrees about z
for the angles of EDAX) agrees with "edax" and differs from "oxford" by that half turn. Scan rotations set at the
microscope change all of this. All choices change pole figures, IPF colours and the trace of a plane. None changes a
disorientation, a grain or a boundary, but "oxford" those of trigonal phases with two-folds (-3m: quartz, alumina,
calcite), whose two-folds its 30 degrees turn: there the wrong choice is off by up to 50 degrees.
"""

import dataclasses
from pathlib import Path

import numpy as np

from polymicros_jax.data.errors import DataError
from polymicros_jax.data.volume import OrientationVolume, rotate_orientations
from polymicros_jax.orientation import quaternion

FRAMES = ("edax", "oxford", "none")

# Rows are the axes of the angles' frame in map coordinates; both are half turns, so each is its own inverse.
_AXES = {
    "edax": np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]]),
    "oxford": np.diag([1.0, -1.0, -1.0]),
    "none": np.eye(3),
}

A_STAR_TO_A = -np.pi / 6
"""Turn of the crystal axes about c that brings x from a* (Oxford) to a."""

_A_AND_A_STAR_DIFFER = ("3", "32", "6", "622")


def require(frame: str | None, path: Path) -> str:
    """The frame, if it is one of `FRAMES`.

    Raises:
        DataError: it is missing or unknown.

    >>> require(None, Path("map.ang"))
    Traceback (most recent call last):
        ...
    polymicros_jax.data.errors.DataError: map.ang: frame: none was given; this format does ...
    """
    if frame not in FRAMES:
        found = "none was given" if frame is None else f"found {frame!r}"
        raise DataError(
            f"{path}: frame: {found}; this format does not say what its Euler angles refer to. Accepted are "
            'frame="edax", frame="oxford" and frame="none"; see polymicros_jax.data.ebsd.frames'
        )
    return frame


def to_map(volume: OrientationVolume, frame: str) -> OrientationVolume:
    """Orientations whose angles referred to `frame`, brought to the map frame; `frame` is stored in the volume.

    >>> q = np.zeros((1, 1, 1, 4))
    >>> q[..., 0] = 1.0
    >>> read = to_map(OrientationVolume(q, np.ones((1, 1, 1)), np.ones((1, 1, 1)), (1.0, 1.0, 1.0)), "edax")
    >>> read.frame, abs(read.quaternions[0, 0, 0]).round(3).tolist()  # half a turn about [110]
    ('edax', [0.0, 0.707, 0.707, 0.0])
    """
    turned = volume if frame == "none" else rotate_orientations(volume, _AXES[frame].T)
    return dataclasses.replace(_turn_crystal(turned, A_STAR_TO_A) if frame == "oxford" else turned, frame=frame)


def from_map(volume: OrientationVolume, frame: str) -> OrientationVolume:
    """Inverse of `to_map`: orientations as a file of that frame holds them.

    >>> from polymicros_jax.data.samples import load
    >>> volume = load("in100").crop((0, 0, 0), (4, 4, 4))
    >>> back = to_map(from_map(volume, "oxford"), "oxford")
    >>> bool(np.degrees(quaternion.disorientation(volume.quaternions, back.quaternions)).max() < 0.1)
    True
    """
    if frame == "none":
        return volume
    turned = rotate_orientations(volume, _AXES[frame])
    return _turn_crystal(turned, -A_STAR_TO_A) if frame == "oxford" else turned


def _turn_crystal(volume: OrientationVolume, angle: float) -> OrientationVolume:
    """Adds `angle` to phi2 in the phases whose a and a* differ."""
    concerned = [n for n, group in enumerate(volume.phase_groups, start=1) if group in _A_AND_A_STAR_DIFFER]
    if not concerned:
        return volume
    turn = quaternion.from_euler(np.array([0.0, 0.0, angle], dtype=np.float32))
    q = np.asarray(quaternion.multiply(turn, volume.quaternions))
    chosen = np.isin(np.maximum(volume.phase, 1), concerned)[..., None]
    return dataclasses.replace(volume, quaternions=np.where(chosen, q, volume.quaternions))
