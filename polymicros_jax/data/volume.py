"""A measured or generated polycrystal on a regular grid: orientations, phases, what was observed, and where it came
from.

The container lives on the host (NumPy arrays): it is what files are read into and written from. Device code takes its
arrays. Longer than most files here: half of it are the docstrings of one class, its methods and its file.
"""

import dataclasses
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from polymicros_jax.data.atomic import replacing
from polymicros_jax.data.errors import DataError
from polymicros_jax.orientation import quaternion
from polymicros_jax.orientation.groups import LAUE_GROUPS
from polymicros_jax.types import ArrayLike

_DAMAGE = (
    KeyError,
    OSError,
    EOFError,
    ValueError,
    AttributeError,
    TypeError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What a damaged archive raises, depending on where the damage is.

`zipfile` answers a compression method or a flag that it does not know, which is what a flipped bit in a member's header
looks like, with NotImplementedError.
"""

NPZ_FORMAT = "polymicros_jax.OrientationVolume/1"


@dataclasses.dataclass(frozen=True, init=False, eq=False, repr=False)
class OrientationVolume:
    """Orientations on a regular grid, with the mask of voxels that were observed.

    Positions and orientations share one right-handed frame; voxel ``[i, j, k]`` has its centre at
    ``((i + 1/2) dx, (j + 1/2) dy, (k + 1/2) dz)``. A map is a volume with ``nz = 1``.

    Attributes:
        quaternions: ``(nx, ny, nz, 4)`` float32, unit, Bunge passive ``(w, x, y, z)``: sample to crystal coordinates.
            Identity where nothing was observed.
        phase: ``(nx, ny, nz)`` int32; 1 for the first phase, 0 where none was indexed.
        mask: ``(nx, ny, nz)`` bool, True where the voxel was observed. Unindexed points are unobserved.
        spacing: edge lengths of a voxel along x, y, z in micrometres.
        symmetry: Laue group of all phases as its proper rotation group ("432", "622", ...), or a tuple with one entry
            per phase where they differ.
        frame: what the file's angles referred to before they were brought to the frame of the positions: "edax",
            "oxford", "none".
        provenance: source, licence, citation, format, conversions; JSON-compatible. What `crop`, `resample` and
            `rotate_frame` did is listed in order under "processing"; "periodic" is true while opposite sides touch.
        fields: further arrays per voxel, ``(nx, ny, nz, ...)``: confidence, image quality, grain ids.

    Raises:
        DataError: arrays disagree in shape, a spacing is not positive, a group is unknown, an observed quaternion is
            not unit.

    >>> q = np.zeros((4, 3, 2, 4))
    >>> q[..., 0] = 1.0
    >>> volume = OrientationVolume(q, np.ones((4, 3, 2)), np.ones((4, 3, 2)), spacing=(0.5, 0.5, 1.0), symmetry="432")
    >>> volume.shape, volume.group, volume.crop((0, 0, 0), (2, 3, 1)).shape
    ((4, 3, 2), '432', (2, 3, 1))
    >>> volume
    OrientationVolume(4 x 3 x 2 voxels of 0.5 x 0.5 x 1 um, 100.0% observed, 432)
    >>> OrientationVolume(2 * q, np.ones((4, 3, 2)), np.ones((4, 3, 2)), (0.5, 0.5, 1.0))
    Traceback (most recent call last):
        ...
    polymicros_jax.data.errors.DataError: quaternions: found norm 2.0 in an observed voxel, ...
    """

    quaternions: np.ndarray
    phase: np.ndarray
    mask: np.ndarray
    spacing: tuple[float, float, float]
    symmetry: str | tuple[str, ...]
    frame: str
    provenance: dict[str, Any]
    fields: dict[str, np.ndarray]

    def __init__(
        self,
        quaternions: ArrayLike,
        phase: ArrayLike,
        mask: ArrayLike,
        spacing: Sequence[float | int],
        symmetry: str | Sequence[str] = "432",
        frame: str = "none",
        provenance: Mapping[str, Any] | None = None,
        fields: Mapping[str, ArrayLike] | None = None,
    ) -> None:
        """Checks the arrays, which may be on a device, against each other and brings them to their documented types."""
        seen = np.asarray(mask, dtype=bool)
        if seen.ndim != 3 or 0 in seen.shape:
            raise DataError(f"mask: found shape {seen.shape}, accepted is (nx, ny, nz) with at least one voxel")
        q = np.array(quaternions, dtype=np.float32)
        if q.shape != (*seen.shape, 4):
            raise DataError(f"quaternions: found shape {q.shape}, accepted is {(*seen.shape, 4)}, the mask's and 4")
        numbers = np.asarray(phase, dtype=np.int32)
        if numbers.shape != seen.shape:
            raise DataError(f"phase: found shape {numbers.shape}, accepted is the mask's, {seen.shape}")
        # float32 Euler angles of a few turns give norms within 1e-6; 1e-3 catches only what is no rotation at all.
        norms = np.linalg.norm(q[seen], axis=-1)
        if not np.all(np.abs(norms - 1) < 1e-3):
            worst = norms[np.argmax(np.abs(np.nan_to_num(norms, nan=np.inf) - 1))]
            raise DataError(f"quaternions: found norm {worst} in an observed voxel, accepted is 1")
        q[~seen] = (1.0, 0.0, 0.0, 0.0)
        edges = tuple(float(h) for h in spacing)
        if len(edges) != 3 or not all(np.isfinite(h) and h > 0 for h in edges):
            raise DataError(f"spacing: found {spacing}, accepted are three positive lengths in micrometres")
        groups = (symmetry,) if isinstance(symmetry, str) else tuple(symmetry)
        for group in groups:
            if group not in LAUE_GROUPS:
                raise DataError(f"symmetry: found {group!r}, accepted are {', '.join(LAUE_GROUPS)}")
        if not isinstance(symmetry, str) and seen.any():
            lowest, highest = numbers[seen].min(), numbers[seen].max()
            if lowest < 1 or highest > len(groups):
                found = f"{lowest} to {highest}"
                raise DataError(f"phase: found {found} in observed voxels, accepted are 1 to {len(groups)}")
        extra = {name: np.asarray(array) for name, array in (fields or {}).items()}
        for name, array in extra.items():
            if array.shape[:3] != seen.shape:
                raise DataError(f"fields[{name!r}]: found shape {array.shape}, accepted starts with {seen.shape}")
        values: dict[str, Any] = {
            "quaternions": q,
            "phase": numbers,
            "mask": seen,
            "spacing": edges,
            "symmetry": groups[0] if len(set(groups)) == 1 else groups,
            "frame": frame,
            "provenance": dict(provenance or {}),
            "fields": extra,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        """One line: a message or a notebook that shows a volume is not to print its voxels."""
        edges = " x ".join(f"{edge:g}" for edge in self.spacing)
        size = " x ".join(map(str, self.shape))
        return f"OrientationVolume({size} voxels of {edges} um, {self.mask.mean():.1%} observed, {self.symmetry})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along x, y, z."""
        nx, ny, nz = self.mask.shape
        return nx, ny, nz

    @property
    def group(self) -> str:
        """The Laue group of every observed voxel.

        Raises:
            DataError: observed voxels belong to phases of different groups; take one phase with `only_phase`.
        """
        if isinstance(self.symmetry, str):
            return self.symmetry
        present = {self.symmetry[p - 1] for p in np.unique(self.phase[self.mask])}
        if len(present) != 1:
            raise DataError(
                f"symmetry: found phases of groups {self.symmetry}, accepted here is one; use only_phase(number)"
            )
        return present.pop()

    @property
    def phase_groups(self) -> tuple[str, ...]:
        """The Laue group of each phase 1, 2, ..., also where all share one; at least one entry."""
        if isinstance(self.symmetry, str):
            return (self.symmetry,) * max(1, int(self.phase.max()))
        return self.symmetry

    @property
    def phase_names(self) -> tuple[str, ...]:
        """The name of each of `phase_groups`: the provenance's where it has one, else "phase_1", "phase_2", ..."""
        known = self.provenance.get("phases", [])
        count = len(self.phase_groups)
        return tuple(str(known[i]) if i < len(known) else f"phase_{i + 1}" for i in range(count))

    def only_phase(self, number: int) -> "OrientationVolume":
        """The same volume with every voxel of another phase masked; `number` counts from 1.

        Raises:
            DataError: phases differ in symmetry and none has this number.
        """
        symmetry = self.symmetry
        if not isinstance(symmetry, str):
            if not 1 <= number <= len(symmetry):
                raise DataError(f"phase: found {number}, accepted are 1 to {len(symmetry)}")
            symmetry = symmetry[number - 1]
        return dataclasses.replace(self, mask=self.mask & (self.phase == number), symmetry=symmetry)

    def crop(self, start: Sequence[int], stop: Sequence[int]) -> "OrientationVolume":
        """Voxels ``start[a] <= i_a < stop[a]`` along each axis a; see `crop`."""
        return crop(self, start, stop)

    def resample(self, spacing: float | Sequence[float]) -> "OrientationVolume":
        """Nearest orientation on a grid of another spacing in micrometres; see `resample`."""
        return resample(self, spacing)

    def rotate_frame(self, rotation: Float[ArrayLike, "3 3"]) -> "OrientationVolume":
        """Positions and orientations in another frame; see `rotate_frame`."""
        return rotate_frame(self, rotation)

    def save(self, path: str | Path) -> Path:
        """Writes an `.npz`; see `save`."""
        return save(self, path)


def take(
    volume: OrientationVolume, index: tuple[Any, ...], spacing: Sequence[float] | None = None
) -> OrientationVolume:
    """The volume with every per-voxel array indexed by `index` (which must keep three spatial axes).

    >>> from polymicros_jax.data.samples import load
    >>> every_second = take(load("in100"), np.s_[:, :, ::2], spacing=(0.25, 0.25, 0.5))
    >>> every_second.shape, every_second.spacing
    ((100, 100, 34), (0.25, 0.25, 0.5))
    """
    return dataclasses.replace(
        volume,
        quaternions=volume.quaternions[index],
        phase=volume.phase[index],
        mask=volume.mask[index],
        spacing=volume.spacing if spacing is None else _three(spacing),
        fields={name: values[index] for name, values in volume.fields.items()},
    )


def _three(lengths: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(h) for h in lengths)
    return x, y, z


def _noted(volume: OrientationVolume, step: str, *, whole: bool = True) -> OrientationVolume:
    """The volume with a sentence on what was done to it added to its provenance.

    Where opposite sides touched and it is no longer the `whole`, they do not.
    """
    steps = [*volume.provenance.get("processing", ()), step]
    wraps = {} if whole or not volume.provenance.get("periodic") else {"periodic": False}
    return dataclasses.replace(volume, provenance={**volume.provenance, **wraps, "processing": steps})


def crop(volume: OrientationVolume, start: Sequence[int], stop: Sequence[int]) -> OrientationVolume:
    """Voxels ``start[a] <= i_a < stop[a]`` along each axis a.

    Raises:
        DataError: the box is empty or leaves the grid.

    >>> from polymicros_jax.data.samples import load
    >>> crop(load("in100"), (0, 0, 0), (10, 20, 30)).shape
    (10, 20, 30)
    """
    start, stop = tuple(int(i) for i in start), tuple(int(i) for i in stop)
    inside = len(start) == len(stop) == 3 and all(
        0 <= a < b <= n for a, b, n in zip(start, stop, volume.shape, strict=True)
    )
    if not inside:
        raise DataError(f"crop: found start {start}, stop {stop}; accepted is 0 <= start < stop <= {volume.shape}")
    box = take(volume, tuple(slice(a, b) for a, b in zip(start, stop, strict=True)))
    if box.shape == volume.shape:
        return box
    return _noted(box, f"voxels {start} to {stop} of {volume.shape}", whole=False)


def resample(volume: OrientationVolume, spacing: float | Sequence[float]) -> OrientationVolume:
    """Nearest voxel on a grid of another spacing; nothing is averaged, so no orientation appears that was not measured.

    The number of voxels along an axis is the extent divided by the new spacing, rounded; an axis with a single voxel
    keeps it.

    Args:
        volume: the volume.
        spacing: new edge lengths in micrometres, one or three.

    Raises:
        DataError: a spacing is not positive.

    >>> from polymicros_jax.data.samples import load
    >>> coarse = resample(load("in100"), 1.0)
    >>> coarse.shape, coarse.spacing
    ((25, 25, 17), (1.0, 1.0, 1.0))
    """
    steps = np.broadcast_to(np.asarray(spacing, dtype=float), (3,))
    if not np.all(np.isfinite(steps) & (steps > 0)):
        raise DataError(f"spacing: found {spacing}, accepted are positive lengths in micrometres")
    axes = []
    for n, old, new in zip(volume.shape, volume.spacing, steps, strict=True):
        count = 1 if n == 1 else max(1, round(n * old / new))
        # Ties (a new centre on an old boundary) go to the upper voxel, whatever the rounding of old / new: hence the
        # 1e-6.
        axes.append(np.clip(np.floor((np.arange(count) + 0.5) * new / old + 1e-6).astype(int), 0, n - 1))
    moved = take(volume, np.ix_(*axes), _three(steps))
    before, after = (np.multiply(each.shape, each.spacing) for each in (volume, moved))
    note = f"nearest voxel at {moved.spacing} micrometres, from {volume.spacing}"
    return _noted(moved, note, whole=bool(np.allclose(before, after)))


def rotate_frame(volume: OrientationVolume, rotation: Float[ArrayLike, "3 3"]) -> OrientationVolume:
    """Describes the same material in another frame: positions **and** orientations.

    Coordinates change as ``v_new = rotation @ v_old``; orientations, which map sample to crystal coordinates, as
    ``q_new = q_old * conj(r)`` with r the quaternion of `rotation`. The 24 rotations that permute the axes are exact.
    Any other one resamples by nearest voxel into the bounding box at the smallest spacing; voxels from outside the scan
    are unobserved.

    Args:
        volume: the volume.
        rotation: proper rotation matrix; its rows are the new axes in old coordinates.

    Raises:
        DataError: the matrix is not a proper rotation.

    >>> from polymicros_jax.data.samples import load
    >>> volume = load("in100")
    >>> turned = rotate_frame(volume, np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))  # the new x is z
    >>> volume.shape, turned.shape
    ((100, 100, 68), (68, 100, 100))
    """
    matrix = np.asarray(rotation, dtype=float)
    if matrix.shape != (3, 3) or not (
        np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-6) and np.linalg.det(matrix) > 0
    ):
        raise DataError(f"rotation: found {matrix.tolist()}, accepted is an orthogonal 3 x 3 matrix of determinant +1")
    signed = np.round(matrix)
    exact = np.allclose(matrix, signed, atol=1e-6)
    note = f"described in the frame of axes {matrix.tolist()}"
    turned = _noted(rotate_orientations(volume, matrix), note, whole=exact)
    if exact:
        source = [int(np.argmax(np.abs(row))) for row in signed]
        flipped = tuple(a for a in range(3) if signed[a, source[a]] < 0)

        def move(values: np.ndarray) -> np.ndarray:
            return np.flip(np.transpose(values, (*source, *range(3, values.ndim))), flipped).copy()

        return dataclasses.replace(
            turned,
            quaternions=move(turned.quaternions),
            phase=move(turned.phase),
            mask=move(turned.mask),
            spacing=_three([turned.spacing[a] for a in source]),
            fields={name: move(values) for name, values in turned.fields.items()},
        )
    extent = np.array(volume.shape) * np.array(volume.spacing)
    box = np.abs(matrix) @ extent
    step = min(volume.spacing)
    counts = np.maximum(1, np.round(box / step).astype(int))
    centres = np.stack(np.meshgrid(*[(np.arange(n) + 0.5 - n / 2) * step for n in counts], indexing="ij"), axis=-1)
    old = np.floor((centres @ matrix + extent / 2) / np.array(volume.spacing) + 1e-6).astype(int)  # rows: R^T v
    inside = np.all((old >= 0) & (old < np.array(volume.shape)), axis=-1)
    clipped = np.clip(old, 0, np.array(volume.shape) - 1)
    moved = take(turned, tuple(clipped[..., a] for a in range(3)), (step, step, step))
    return dataclasses.replace(moved, mask=moved.mask & inside, phase=np.where(inside, moved.phase, 0))


def rotate_orientations(volume: OrientationVolume, rotation: Float[ArrayLike, "3 3"]) -> OrientationVolume:
    """Orientations only, positions kept: for angles that were given in another frame than the positions.

    `rotation` maps coordinates of the frame the orientations are in to the frame they shall be in.

    >>> from polymicros_jax.data.samples import load
    >>> volume = load("in100").crop((0, 0, 0), (8, 8, 8))
    >>> quarter = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    >>> back = rotate_orientations(rotate_orientations(volume, quarter), quarter.T)
    >>> angle = quaternion.disorientation(volume.quaternions, back.quaternions)
    >>> bool(np.degrees(angle).max() < 0.1)
    True
    """
    new_to_old = quaternion.conjugate(quaternion.from_matrix(np.asarray(rotation, dtype=np.float32)))
    q = quaternion.normalise(quaternion.rotate_sample(volume.quaternions, new_to_old))
    return dataclasses.replace(volume, quaternions=np.asarray(q, dtype=np.float32))


def save(volume: OrientationVolume, path: str | Path) -> Path:
    """Writes the volume as a compressed `.npz` without pickles; the file appears complete or not at all.

    Args:
        volume: the volume.
        path: file to write; must end in `.npz`.

    Raises:
        DataError: the name does not end in `.npz`.

    >>> from polymicros_jax.data.samples import load as load_sample
    >>> path = save(load_sample("in100").crop((0, 0, 0), (4, 4, 4)), "corner.npz")
    >>> load(path).shape
    (4, 4, 4)
    """
    target = Path(path)
    if target.suffix.lower() != ".npz":
        raise DataError(f"{target}: found suffix {target.suffix!r}, accepted is .npz")
    header = {
        "format": NPZ_FORMAT,
        "spacing": volume.spacing,
        "symmetry": volume.symmetry,
        "frame": volume.frame,
        "provenance": volume.provenance,
    }
    arrays: dict[str, Any] = {f"field:{name}": values for name, values in volume.fields.items()}
    with replacing(target) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(
            handle,
            header=np.array(json.dumps(header)),
            quaternions=volume.quaternions,
            phase=volume.phase,
            mask=volume.mask,
            **arrays,
        )
    return target


def load(path: str | Path) -> OrientationVolume:
    """Reads an `.npz` written by `save`.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: the file is truncated or was not written by `save`.

    >>> from polymicros_jax.data.samples import load as load_sample
    >>> volume = load_sample("in100").crop((0, 0, 0), (4, 4, 4))
    >>> back = load(volume.save("corner.npz"))
    >>> bool((back.quaternions == volume.quaternions).all()), back.spacing
    (True, (0.25, 0.25, 0.25))
    >>> load("missing.npz")
    Traceback (most recent call last):
        ...
    FileNotFoundError: missing.npz: no such file
    """
    source = Path(path)
    if not source.is_file():
        raise FileNotFoundError(f"{source}: no such file")
    try:
        with np.load(source, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        header = json.loads(str(arrays["header"]))
        if header["format"] != NPZ_FORMAT:
            raise DataError(f"{source}: format: found {header['format']!r}, accepted is {NPZ_FORMAT!r}")
        symmetry = header["symmetry"]
        return OrientationVolume(
            quaternions=arrays["quaternions"],
            phase=arrays["phase"],
            mask=arrays["mask"],
            spacing=_three(header["spacing"]),
            symmetry=symmetry if isinstance(symmetry, str) else tuple(symmetry),
            frame=header["frame"],
            provenance=header["provenance"],
            fields={n.removeprefix("field:"): v for n, v in arrays.items() if n.startswith("field:")},
        )
    except DataError as error:
        raise DataError(f"{source}: {error}" if str(source) not in str(error) else str(error)) from error
    except _DAMAGE as error:
        raise DataError(
            f"{source}: found {type(error).__name__} ({error}), accepted is an .npz written by OrientationVolume.save"
        ) from error
