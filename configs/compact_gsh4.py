"""The prior that ships with the package: a compact network on the measured volumes that may be bundled.

What:     patches of 24^3 of the training parts of Inconel 100 and Al1050 (and Al1050 at half resolution, whose grains
          have the size of Inconel's), turned by random symmetries of the grid and random rotations of the crystals.
Command:  python -m polymicros_jax.main --config=configs/compact_gsh4.py
          To go on from shipped weights: --config.train.initial=compact_gsh4 and a fresh --workdir. Weights with
          fewer rounds (train.network.rounds, train.network.coarse) gain what they lack. The last 600 steps of the
          shipped weights: --config.train.optimisation.noise_mean=0.2 --config.train.optimisation.noise_std=1.3
          --config.train.optimisation.learning_rate=1e-3 --config.train.optimisation.warmup=60
          --config.train.optimisation.steps=600
Cost:     one to five seconds a step, depending on the processor; five on one core.
Expect:   the card beside the weights, polymicros_jax/weights/compact_gsh4.json, has the held-out scores.
"""

from ml_collections import ConfigDict

from polymicros_jax import config as defaults


def get_config() -> ConfigDict:
    """The compact network of 7.7 M parameters, with three rounds on the half grid and two on the full one."""
    config = defaults.default("train")
    train = config.train
    train.name = "compact_gsh4"
    train.storage = "float16"
    train.previous = "compact_gsh4"  # its card sets the new scores beside those of the weights that ship now
    train.network.detail = 16
    train.network.rounds = 2
    train.network.coarse = 3
    in100, al1050, al1050_coarse = (defaults.volume(f"{name}/train") for name in ("in100", "al1050", "al1050"))
    in100.weight, al1050.weight, al1050_coarse.weight, al1050_coarse.every = 0.5, 0.2, 0.3, 2
    train.volumes = (in100, al1050, al1050_coarse)
    train.validation = (defaults.volume("in100/evaluate"),)
    train.validate_every = 250
    train.checkpoint_every = 100
    train.optimisation.steps = 1350
    return config
