"""Objects of a conversion: a scan from one format to others."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from polymicros_jax.config import ConfigError
from polymicros_jax.data import export, repair
from polymicros_jax.data.ebsd import FRAMES
from polymicros_jax.data.volume import OrientationVolume
from polymicros_jax.experiment.inputs import volume


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What the convert task needs: a repaired volume and, by file name, the options of its writer.

    Attributes:
      title: of the results.
      volume: what to write.
      outputs: name of a file, or of a folder of `.ang` sections, to options.
      damask: name of a DAMASK geometry, whose `material.yaml` goes beside it; empty for none.
      grain_angle: radians up to which neighbours are one material, there and in the outputs' field `material`; 0 for
        equal orientations only.
    """

    title: str
    volume: OrientationVolume
    outputs: dict[str, dict[str, Any]]
    damask: str = ""
    grain_angle: float = 0.0


def conversion(config: ConfigDict) -> Conversion:
    """Objects of a conversion.

    Raises:
      ConfigError: no outputs, one in an unknown format, one that is no plain name or is there twice, or a DAMASK
        geometry of a volume with holes.
      DataError: a volume that cannot be read.
    """
    section = config.convert
    accepted = ", ".join(export.SUFFIXES)
    if not section.outputs and not section.damask:
        raise ConfigError(f"convert.outputs: found none, accepted are file names ending in {accepted}")
    if section.damask and (Path(section.damask).suffix != ".vti" or section.damask in section.outputs):
        raise ConfigError(f"convert.damask: found {section.damask!r}, accepted is a name in .vti that no output has")
    if not 0 <= section.grain_degrees < 60:
        raise ConfigError(f"convert.grain_degrees: found {section.grain_degrees}, accepted is 0 or an angle below 60")
    names = [*section.outputs, *([section.damask] if section.damask else [])]
    for name in names:
        if name == ".." or Path(name).name != name.removesuffix("/") or names.count(name) > 1:
            raise ConfigError(f"convert.outputs: found {name!r}, accepted are names, no paths, each of them once")
    for name in section.outputs:
        if Path(name).suffix.lower() not in (*export.SUFFIXES, ""):
            raise ConfigError(
                f"convert.outputs: found {name!r}, accepted endings are {accepted}, or none: a folder of .ang sections"
            )
    whole = volume(section.volume, "convert.volume")
    if section.cubic:
        whole = repair.to_cubic(whole)
    if section.fill:
        if not whole.mask.any():
            raise ConfigError("convert.volume: found no observed voxel, with convert.fill accepted is at least one")
        whole = repair.fill(whole)
    if section.damask and not whole.mask.all():
        raise ConfigError(
            f"convert.damask: the volume has {int((~whole.mask).sum())} unobserved voxels, accepted are none; "
            "convert.fill=True gives them the nearest orientation"
        )
    maps = [name for name in section.outputs if Path(name).suffix.lower() in (".ang", "")]
    for name in maps:
        if (whole.shape[2] == 1) != bool(Path(name).suffix):
            raise ConfigError(
                f"convert.outputs: found {name!r} for a volume of {whole.shape[2]} sections; accepted is a name in "
                ".ang for one, and for more a name without an ending: a folder of sections"
            )
    if maps and section.map_frame not in FRAMES:
        raise ConfigError(f"convert.map_frame: found {section.map_frame!r}, {maps[0]} needs {', '.join(FRAMES)}")
    outputs = {name: {"frame": section.map_frame} if name in maps else {} for name in section.outputs}
    grain_angle = float(np.radians(section.grain_degrees))
    return Conversion(section.volume.source, whole, outputs, section.damask, grain_angle)
