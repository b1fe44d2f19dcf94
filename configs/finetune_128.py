"""The foundation model at the paper's size: fine-tuning on whole 128^3 volumes (Sec. 4, App. C).

What:     continues configs/pretrain_32.py on the dataset of configs/generate_128.py, effective batch 1536.
Command:  python -m polymicros_jax.main --config=configs/finetune_128.py
Cost:     the paper: 72 hours on 8 H200. Not for a CPU.
Expect:   not run at full size here; a test builds, shape-evaluates and steps it at a reduced size.
"""

from ml_collections import ConfigDict

from polymicros_jax import config as defaults


def get_config() -> ConfigDict:
    """The paper's hyper-parameters; each block is recomputed in the backward pass so that a volume fits."""
    config = defaults.default("train")
    config.representation = "rogsh3"
    train = config.train
    train.name = "finetuned"
    train.dataset = "runs/generate_128/dataset"
    train.initial = "runs/pretrain_32/pretrained.safetensors"
    train.patch = 128
    train.symmetries = train.texture = False
    train.sigma_skip = 0.0  # EDM's preconditioning
    train.network.multipliers = (8, 16, 24)
    train.network.patch = 1
    train.network.compute_dtype = "bfloat16"
    train.network.remat = True
    optimisation = train.optimisation
    optimisation.steps = 1_000
    optimisation.batch, optimisation.accumulate = 1536, 64
    optimisation.learning_rate, optimisation.final_rate, optimisation.warmup = 1e-5, 1.0, 0
    optimisation.weight_decay, optimisation.beta2 = 0.0, 0.999
    optimisation.noise_mean, optimisation.noise_std = -1.2, 1.2
    optimisation.ema_decay = 0.9
    return config
