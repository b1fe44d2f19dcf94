"""The shipped prior trained further, with and without a generated dataset: what does the dataset add?

What:     compact_gsh4 goes on with a fifth of its last learning rate on patches of 24^3, half of them from the
          dataset of configs/generate_64.py. The argument after the colon says what the patches come from: mixed (the
          default), generated (the dataset alone) or measured (the control: the same steps without it).
Command:  python -m polymicros_jax.main --config=configs/finetune_64.py --workdir=runs/finetune_64_mixed
          python -m polymicros_jax.main --config=configs/finetune_64.py:measured --workdir=runs/finetune_64_measured
          python -m polymicros_jax.main --config=configs/finetune_64.py:generated --workdir=runs/finetune_64_generated
Measured: docs/design.md, begun from compact_gsh4 before its third round on the half grid.
Cost:     about five seconds a step on one core: 20 minutes each.
Expect:   runs/finetune_64_mixed/finetuned.safetensors; its card sets the held-out scores of Inconel 100 beside those of
          the prior it began from. No weights of it ship.
"""

from ml_collections import ConfigDict

from polymicros_jax import config as defaults

SOURCES = ("mixed", "generated", "measured")


def get_config(source: str = "mixed") -> ConfigDict:
    """Two hundred steps; the three differ in their patches alone.

    Raises:
      ValueError: an unknown source.
    """
    if source not in SOURCES:
        raise ValueError(f"source: found {source!r}, accepted are {', '.join(SOURCES)}")
    config = defaults.default("train")
    train = config.train
    train.name = "finetuned"
    train.initial = "compact_gsh4"
    train.storage = "float16"
    if source != "generated":
        in100, al1050, al1050_coarse = (defaults.volume(f"{name}/train") for name in ("in100", "al1050", "al1050"))
        in100.weight, al1050.weight, al1050_coarse.weight, al1050_coarse.every = 0.5, 0.2, 0.3, 2
        train.volumes = (in100, al1050, al1050_coarse)
    if source != "measured":
        train.dataset = "runs/generate_64/dataset"
    train.validation = (defaults.volume("in100/evaluate"),)
    train.validate_every = train.checkpoint_every = 100
    optimisation = train.optimisation
    optimisation.steps = 200
    optimisation.learning_rate, optimisation.warmup = 2e-4, 40
    optimisation.noise_mean, optimisation.noise_std = 0.2, 1.3
    return config
