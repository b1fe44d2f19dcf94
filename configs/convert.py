"""A scan from one format to others.

What:     reads a volume or map, optionally makes its voxels cubic and fills unindexed points, and writes it again.
Command:  python -m polymicros_jax.main --config=configs/convert.py --workdir=runs/converted
Cost:     seconds.
Expect:   the bundled Al1050 volume as volume.vti (ParaView), volume.dream3d and volume.npz.
Own data: --config.convert.volume.source=scan.ctf --config.convert.volume.frame=oxford --config.convert.fill=True
Sections: --config.convert.outputs="('sections',)" --config.convert.map_frame=edax, a folder of one .ang a section.
DAMASK:   --config.convert.damask=geometry.vti --config.convert.fill=True, and material.yaml beside it;
          --config.convert.grain_degrees=5 makes neighbours within 5 degrees one material, as scans with measured noise
          need, and writes its number as `material` into the outputs, with or without DAMASK. Lattice and constitutive
          law of the phases are yours to fill in.
"""

from ml_collections import ConfigDict

from polymicros_jax import config as defaults


def get_config() -> ConfigDict:
    """The bundled aluminium volume in three formats."""
    config = defaults.default("convert")
    config.convert.volume = defaults.volume("al1050")
    config.convert.outputs = ("volume.vti", "volume.dream3d", "volume.npz")
    return config
