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
    # A covariance has its few waves in any box: at 16^3 they are 2 to 4 voxels wide, finer than any grain the prior has
    # seen, and it can do little with them. The volumes lie 0.65 to 0.72 of the manifold's norm away from it, a Gaussian
    # field 0.67 (measured). They pass here, and their records say so.
    generate.largest_mean_distance = 1.0
    return config
