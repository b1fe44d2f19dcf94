"""Do draws of a local model look like its source, and do they keep the statistics asked for? The curve over `skip`.

What:     4 covariances at 32^3, each drawn at every skip, beside the source volume and the Gaussian fields alone.
Command:  python -m polymicros_jax.main --config=configs/realism.py
          Another model and its source: --config.realism.prior=PATH --config.realism.volume.source=al1050/train
Cost:     about 10 minutes on two idle cores; one compilation for every skip.
Expect:   runs/realism/report.html: grain diameters, chords, disorientations and boundary sharpness beside the source's,
          and adherence of covariances as a function of skip.
"""

from ml_collections import ConfigDict

from polymicros_jax import config as defaults


def get_config() -> ConfigDict:
    """The shipped prior beside Inconel 100, the source of half its patches."""
    return defaults.default("realism")
