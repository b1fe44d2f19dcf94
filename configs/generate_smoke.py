"""A small dataset with the shipped prior: the engine from end to end in two minutes.

What:     8 periodic volumes of 16^3 voxels (4 covariances x 1 local model x 2 repeats) into a zarr v3 store.
Command:  python -m polymicros_jax.main --config=configs/generate_smoke.py
Cost:     at most 2 minutes on two cores (measured: 58 seconds), most of it compilation. Killed at any
          moment and started again by the same command, it ends with the arrays of an unbroken run.
Expect:   runs/generate_smoke/dataset with its card. Volumes of 16^3 from the small shipped prior show the engine; they
          are not a dataset worth training on.
"""

from ml_collections import ConfigDict

from polymicros_jax import config as defaults


def get_config() -> ConfigDict:
    """Eight samples of 16^3."""
    config = defaults.default("generate")
    generate = config.generate
    generate.priors = ("compact_gsh4",)
    generate.shape = (16, 16, 16)
    generate.covariances = 4
    generate.repeats = 2
    return config
