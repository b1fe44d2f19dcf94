"""The foundation model at the paper's size: pre-training on patches of all sources (Sec. 4, App. C).

What:     ROGSH-3 patches of 32^3 from all volumes, 259 M parameters, effective batch 3072.
Command:  python -m polymicros_jax.main --config=configs/pretrain_32.py
Cost:     the paper: 5 hours on 8 H200. Not for a CPU.
Expect:   not run at full size here; a test builds, shape-evaluates and steps it at a reduced size.
"""

from ml_collections import ConfigDict

from polymicros_jax import config as defaults


def get_config() -> ConfigDict:
    """The paper's hyper-parameters, computed in bfloat16."""
    config = defaults.default("train")
    config.representation = "rogsh3"
    train = config.train
    train.name = "pretrained"
    train.volumes = tuple(defaults.volume(f"{name}/train") for name in ("in100", "al1050"))
    train.patch = 32
    train.centre = True
    train.symmetries = train.texture = False
    train.sigma_skip = 0.0  # EDM's preconditioning
    train.network.multipliers = (8, 16, 24)
    train.network.patch = 1
    train.network.compute_dtype = "bfloat16"
    optimisation = train.optimisation
    optimisation.steps = 10_000
    optimisation.batch, optimisation.accumulate = 3072, 16
    optimisation.learning_rate, optimisation.final_rate, optimisation.warmup = 1e-5, 1.0, 0
    optimisation.weight_decay, optimisation.beta2 = 0.0, 0.999
    optimisation.noise_mean, optimisation.noise_std = -1.2, 1.2
    optimisation.ema_decay = 0.9
    return config
