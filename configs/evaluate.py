"""Every method and baseline on the held-out regions, factors 2 and 4.

What:     reconstructs the evaluation parts of Inconel 100 and Al1050 with every second and every fourth section known.
Command:  python -m polymicros_jax.main --config=configs/evaluate.py
Cost:     about 20 minutes on two cores.
Expect:   a table per volume and factor in runs/evaluate/report.html and metrics.json.
"""

from ml_collections import ConfigDict

from polymicros_jax import config as defaults


def get_config() -> ConfigDict:
    """The shipped prior from two starting levels."""
    config = defaults.default("evaluate")
    config.evaluate.volumes = (defaults.volume("in100/evaluate"), defaults.volume("al1050/evaluate"))
    config.evaluate.steps = 32
    config.evaluate.draws = 2
    return config
