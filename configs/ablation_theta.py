"""How long to condition: the paper's Fig. 8, in degrees, on measured volumes.

What:     fills every fourth section of held-out parts of Inconel 100 and Al1050 with known voxels set during the first
          0, 25, 50, 75 and 100 % of the steps, for the paper's method and for the variant that renoises and finishes
          free; the classical methods as horizontal lines.
Command:  python -m polymicros_jax.main --config=configs/ablation_theta.py
Cost:     about 20 minutes on two idle cores.
Expect:   the figures in runs/ablation_theta/report.html and as theta_*.png, the numbers in metrics.json.
"""

from ml_collections import ConfigDict

from polymicros_jax import config as defaults


def get_config() -> ConfigDict:
    """Five values of theta, two methods, crops of 36 x 48 x 41 voxels."""
    config = defaults.default("evaluate")
    volumes = tuple(defaults.volume(f"{name}/evaluate") for name in ("in100", "al1050"))
    for each in volumes:
        each.stop = (36, 48, 41)
    config.evaluate.volumes = volumes
    config.evaluate.factors = (4,)
    config.evaluate.methods = ("project", "renoise")
    config.evaluate.thetas = (0.0, 0.25, 0.5, 0.75, 1.0)
    config.evaluate.steps = 16
    config.evaluate.draws = 2
    return config
