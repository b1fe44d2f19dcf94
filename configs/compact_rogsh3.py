"""The compact prior in the paper's representation, for comparison with it and with the GSH-4 prior.

What:     ROGSH-3 fields of the same volumes, patches and network as configs/compact_gsh4.py. The network begins with
          the trained one of compact_gsh4, all but the layers that meet the channels. ROGSH has no rotations, so
          there is no augmentation at all. The scales of noise and skip are those of GSH-4 times the ratio of the two
          standard deviations under uniform texture, 0.262 over 0.5.
Command:  python -m polymicros_jax.main --config=configs/compact_rogsh3.py
Cost:     about four seconds a step on two cores.
Expect:   runs/compact_rogsh3/compact_rogsh3.json has the held-out scores. They compare with those of GSH-4 at noise
          levels of the same ratio to the data; fields of ROGSH-3 cannot be turned back into orientations. The shipped
          weights began from compact_gsh4 before its third round on the half grid and have two.
"""

import math

from ml_collections import ConfigDict

from polymicros_jax import config as defaults
from polymicros_jax.orientation import representation


def get_config() -> ConfigDict:
    """The compact network on three channels."""
    config = defaults.default("train")
    config.representation = "rogsh3"
    train = config.train
    train.name = "compact_rogsh3"
    train.initial = "compact_gsh4"
    train.storage = "float16"
    train.symmetries = train.texture = False
    train.network.detail = 16
    train.network.rounds = 2
    train.network.coarse = 3
    in100, al1050, al1050_coarse = (defaults.volume(f"{name}/train") for name in ("in100", "al1050", "al1050"))
    in100.weight, al1050.weight, al1050_coarse.weight, al1050_coarse.every = 0.5, 0.2, 0.3, 2
    train.volumes = (in100, al1050, al1050_coarse)
    train.validation = (defaults.volume("in100/evaluate"),)
    train.validate_every = 250
    train.checkpoint_every = 100
    train.optimisation.steps = 450
    ratio = representation.get("rogsh3").sigma_data / representation.get("gsh4").sigma_data
    train.sigma_skip *= ratio
    train.optimisation.noise_mean += math.log(ratio)
    return config
