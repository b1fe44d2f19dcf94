"""Every method and baseline on the held-out regions, factors 2, 3, 4 and 8, with calibrated intervals.

What:     reconstructs the evaluation parts of Inconel 100 and Al1050 (and Al1050 at half resolution, whose grains have
          the size of Inconel's) with every second, third, fourth and eighth section known. The model of the candidate
          grains and the level of its intervals are fitted on Al1050 for Inconel 100, and the other way round.
Command:  python -m polymicros_jax.main --config=configs/evaluate.py
Cost:     about 40 minutes on one core (measured); started again after a kill it goes on with the next case.
Expect:   a table per volume and factor in runs/evaluate/report.html and metrics.json; calibration.json, fitted on all
          of them (configs/calibrate.py makes the one that is kept beside the weights).
"""

from ml_collections import ConfigDict

from polymicros_jax import config as defaults


def get_config() -> ConfigDict:
    """The shipped prior, three draws from interpolated shapes."""
    config = defaults.default("evaluate")
    coarse = defaults.volume("al1050/evaluate")
    coarse.every = 2
    config.evaluate.volumes = (defaults.volume("in100/evaluate"), defaults.volume("al1050/evaluate"), coarse)
    config.evaluate.factors = (2, 3, 4, 8)
    config.evaluate.steps = 16
    config.evaluate.draws = 3
    return config
