"""A prior of compact size for one data-centre GPU: full grid, bfloat16, larger patches, batches of 64.

What:     the volumes of configs/compact_gsh4.py in patches of 32^3, a network of 25.7 M parameters on the full grid
          with EDM's own preconditioning (nothing is folded, so the network can put out the noise voxel by voxel),
          turned by random symmetries of the grid on the host and random rotations of the crystals on the device.
Command:  python -m polymicros_jax.main --config=configs/compact_gpu.py
          Without a network on that machine: python launch/bundle_for_gpu.py --help. In slices: the same --workdir goes
          on from its checkpoint; --config.train.optimisation.steps is the whole length in each.
Cost:     33 TFLOP a step (forward 0.174 TFLOP a patch, three times that with gradients): 5000 steps are 20 minutes at
          140 TFLOP/s, a seventh of what an H100 multiplies in bfloat16. Not yet timed there; 75 MB of patches a step.
Expect:   a test steps it at a reduced size on a CPU. The card sets its scores beside those of the prior that ships.
"""

from ml_collections import ConfigDict

from polymicros_jax import config as defaults


def get_config() -> ConfigDict:
    """One GPU, twenty minutes."""
    config = defaults.default("train")
    train = config.train
    train.name = "compact_gpu"
    train.storage = "float16"
    train.previous = "compact_gsh4"
    train.patch = 32
    train.sigma_skip = 0.0  # EDM's preconditioning
    train.network.width = 64
    train.network.multipliers = (1, 2, 4)
    train.network.patch = 1
    train.network.compute_dtype = "bfloat16"
    in100, al1050, al1050_coarse = (defaults.volume(f"{name}/train") for name in ("in100", "al1050", "al1050"))
    in100.weight, al1050.weight, al1050_coarse.weight, al1050_coarse.every = 0.5, 0.2, 0.3, 2
    train.volumes = (in100, al1050, al1050_coarse)
    train.validation = (defaults.volume("in100/evaluate"),)
    train.validation_stride = 17
    train.validate_every = 500
    train.checkpoint_every = 500
    train.sheet_every = 1000
    optimisation = train.optimisation
    optimisation.steps = 5000
    optimisation.batch = 64
    optimisation.learning_rate = 1e-3
    optimisation.warmup = 500
    optimisation.ema_decay = 0.9995
    return config
