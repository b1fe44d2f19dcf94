"""How far the shipped prior's reconstructions can be believed: what its calibration file holds.

What:     fits the model of the candidate grains, and the level of its intervals, on the held-out part of Al1050 at two
          resolutions with every second, third, fourth and eighth section known and with lost points. The regions of
          Inconel 100 take no part, so that figures on them are those of a material nothing was fitted on.
Command:  python -m polymicros_jax.main --config=configs/calibrate.py
          cp runs/calibrate/calibration.json polymicros_jax/weights/compact_gsh4.calibration.json
Cost:     about 6 minutes on one core (measured: 5.5).
Expect:   calibration.json; once it lies beside the weights, every reconstruction with them comes with probabilities,
          confidence and intervals.
"""

from ml_collections import ConfigDict

from polymicros_jax import config as defaults


def get_config() -> ConfigDict:
    """The draws of the quick start, on smaller volumes."""
    config = defaults.default("evaluate")
    fine, coarse = defaults.volume("al1050/evaluate"), defaults.volume("al1050/evaluate")
    fine.stop = (37, 52, 64)
    coarse.every = 2
    config.evaluate.volumes = (fine, coarse)
    config.evaluate.factors = (2, 3, 4, 8)
    config.evaluate.masks = (defaults.mask("gaps", share=0.15),)
    config.evaluate.steps = 16
    config.evaluate.draws = 2
    return config
