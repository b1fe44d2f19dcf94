"""A local model at the paper's size, on one measured volume (App. B.2, C).

What:     ROGSH-3 fields of one zero-meaned source, patches of 32^3, 94.6 M parameters, rate 1e-5, batch 16 x 16.
Command:  python -m polymicros_jax.main --config=configs/local_32.py --workdir=runs/local_32_in100 \\
              --config.train.name=local_in100
          python -m polymicros_jax.main --config=configs/local_32.py --workdir=runs/local_32_al1050 \\
              --config.train.name=local_al1050 --config.train.volumes[0].source=al1050/train
          These are the names under which configs/generate_128.py looks for them.
Cost:     the paper: 18 hours on an A100 for 200 epochs. Not for a CPU.
Expect:   not run at full size here; a test builds, shape-evaluates and steps it at a reduced size.
"""

from ml_collections import ConfigDict

from polymicros_jax import config as defaults


def get_config() -> ConfigDict:
    """The paper's hyper-parameters; texture and grid symmetries do not act on ROGSH-3."""
    config = defaults.default("train")
    config.representation = "rogsh3"
    train = config.train
    train.name = "local"
    train.volumes = (defaults.volume("in100/train"),)
    train.patch = 32
    train.centre = True
    train.symmetries = train.texture = False
    train.sigma_skip = 0.0  # EDM's preconditioning
    train.network.multipliers = (4, 8, 16)
    train.network.patch = 1
    optimisation = train.optimisation
    optimisation.steps = 20_000
    optimisation.batch, optimisation.accumulate = 256, 16
    optimisation.learning_rate, optimisation.final_rate, optimisation.warmup = 1e-5, 1.0, 0
    optimisation.weight_decay, optimisation.beta2 = 0.0, 0.999
    optimisation.noise_mean, optimisation.noise_std = -1.2, 1.2
    optimisation.ema_decay = 0.9
    return config
