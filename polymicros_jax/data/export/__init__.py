"""Writers: VTK image data for ParaView and DAMASK, `material.yaml`, DREAM.3D 8, `.ang`, `.npz`.

`write` chooses by suffix. Every file appears complete or not at all.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from polymicros_jax.data.ebsd.frames import FRAMES
from polymicros_jax.data.errors import DataError
from polymicros_jax.data.export.ang import write_ang
from polymicros_jax.data.export.damask import write_damask, write_material_yaml
from polymicros_jax.data.export.dream3d import write_dream3d
from polymicros_jax.data.export.paraview import write_paraview
from polymicros_jax.data.export.vti import write_vti
from polymicros_jax.data.volume import OrientationVolume, save

__all__ = [
    "write",
    "write_ang",
    "write_damask",
    "write_dream3d",
    "write_material_yaml",
    "write_paraview",
    "write_vti",
]

_WRITERS: dict[str, Callable[..., Path]] = {
    ".vti": write_paraview,
    ".dream3d": write_dream3d,
    ".ang": write_ang,
    ".npz": save,
}
SUFFIXES = tuple(_WRITERS)
"""What `write` accepts."""


def write(volume: OrientationVolume, path: str | Path, **options: Any) -> Path:
    """Writes a volume in the format its suffix names.

    Args:
        volume: what to write.
        path: `.vti` (ParaView; see `write_damask` for a simulation), `.dream3d`, `.ang` (a map) or `.npz`; without a
            suffix and with a `frame`, a folder of one `.ang` a section.
        **options: those of the writer: `cells` for `.vti`, `frame` (required) for `.ang`.

    Raises:
        DataError: the suffix is none of these; or `.ang` without a frame.

    >>> from polymicros_jax.data.ebsd import read
    >>> from polymicros_jax.data.samples import load
    >>> volume = load("in100").crop((0, 0, 0), (6, 5, 4))
    >>> back = read(write(volume, "part.dream3d"))
    >>> back.shape, back.spacing, bool((back.mask == volume.mask).all())
    ((6, 5, 4), (0.25, 0.25, 0.25), True)
    >>> write(volume, "part.stl")
    Traceback (most recent call last):
        ...
    polymicros_jax.data.errors.DataError: part.stl: found suffix '.stl', accepted are .vti, ...
    """
    target = Path(path)
    writer = write_ang if not target.suffix and "frame" in options else _WRITERS.get(target.suffix.lower())
    if writer is None:
        raise DataError(
            f"{target}: found suffix {target.suffix!r}, accepted are {', '.join(SUFFIXES)}, or none and a frame: a "
            "folder of .ang sections"
        )
    if writer is write_ang and "frame" not in options:
        raise DataError(f"{target}: frame: none was given; accepted are {', '.join(FRAMES)}")
    return writer(volume, target, **options)
