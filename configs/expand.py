"""Three orthogonal 2D maps to periodic 3D volumes with their two-point statistics, as files for DAMASK.

What:     the middle sections of a measured region of Inconel 100, normal to x, y and z, are all that is given.
Command:  python -m polymicros_jax.main --config=configs/expand.py
Cost:     about 5 minutes on two cores, two of them compilation. Larger: --config.expand.shape='(64,64,64)', ten
          minutes a draw on one core and as many for both baselines (--config.expand.baselines=False leaves them
          out); 128^3 with --config.expand.steps=16, 50 minutes a draw on one core.
Expect:   runs/expand/report.html; per draw geometry.vti and material.yaml (DAMASK), volume.vti (ParaView), volume.npz.
          fields/ holds the channels of each draw as it was drawn; a run that was killed goes on with the next one.
          Each grain of a draw has one orientation and is the material of its number, the cell array `grain`. The report
          has the share of voxel faces between grains, of maps and draws; a larger --config.expand.boundary_cost (1.5)
          leaves fewer and larger grains, 0 leaves draws as they are. Phases have the names of the maps' and are left
          empty: lattice and constitutive law are yours to fill in.
Own maps: --workdir=runs/mine --config.expand.volume.source=""
          --config.expand.maps.z.source=map.ang --config.expand.maps.z.frame=edax
          A map is read as a section normal to z. One normal to x is first turned into its plane, with its orientations.
          Where its column numbers rise along the sample's y and its row numbers along z, that is, in Python,
              map_x = polymicros_jax.read("map_x.ang", frame="edax")
              map_x.rotate_frame(numpy.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])).save("map_x.npz")
          (the rows are the sample's x, y and z in the map's own axes), and --config.expand.maps.x.source=map_x.npz. One
          normal to y, columns along z and rows along x: [[0.0, 1, 0], [0, 0, 1], [1, 0, 0]].
"""

from ml_collections import ConfigDict

from polymicros_jax import config as defaults


def get_config() -> ConfigDict:
    """Two volumes of 32^3 voxels."""
    config = defaults.default("expand")
    config.expand.draws = 2
    return config
