"""Fill the missing slices of a measured nickel superalloy with the shipped prior.

What:     every fourth section of a region of Inconel 100 (3D EBSD, 0.25 um voxels) that the weights have not seen; the
          other three quarters are filled by the prior, by copying the nearest slice, by linear and by shape-based
          interpolation, and compared with what was measured.
Command:  python -m polymicros_jax.main --config=configs/quickstart.py
Cost:     at most 5 minutes on two cores.
Expect:   runs/quickstart/ with report.html, reconstruction.vti, reconstruction.npz, metrics.json; numbers in README.md.
Own data: --workdir=runs/mine
          --config.super_resolve.volume.source=my_sections/ --config.super_resolve.volume.frame=edax
          --config.super_resolve.volume.start="(0,0,0)" --config.super_resolve.volume.stop="(0,0,0)"
          --config.super_resolve.mask.kind=insert --config.super_resolve.mask.axis=z --config.super_resolve.mask.every=4
          --config.super_resolve.volume.slice_spacing=1.0
          A folder of maps, one a section; volume.slice_spacing is their distance in micrometres, mask.every that
          distance over the step inside a section. Numbers left out in the names are sections that were lost.
"""

from ml_collections import ConfigDict

from polymicros_jax import config as defaults


def get_config() -> ConfigDict:
    """A region of 36 x 100 x 65 voxels, four draws."""
    config = defaults.default("super_resolve")
    config.super_resolve.volume = defaults.volume("in100/evaluate")
    config.super_resolve.volume.stop = (36, 100, 65)
    config.super_resolve.steps = 16
    return config
