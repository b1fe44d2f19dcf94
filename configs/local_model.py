"""A local model of one source, fine-tuned from the compact prior: what local-to-global diffusion draws with.

What:     the prior compact_gsh4, trained further on patches of one volume. The argument after the colon names
          the source: in100 or al1050 (the training part of a bundled sample), simulated (normal grain growth, 64^3
          voxels, 250 grains; another simulation validates), or the path of a scan.
Command:  python -m polymicros_jax.main --config=configs/local_model.py:in100 --workdir=runs/local_in100
          python -m polymicros_jax.main --config=configs/local_model.py:al1050 --workdir=runs/local_al1050
          python -m polymicros_jax.main --config=configs/local_model.py:simulated --workdir=runs/local_simulated
          python -m polymicros_jax.main --config=configs/local_model.py:my_sections --workdir=runs/local_mine \\
              --config.train.volumes[0].frame=edax --config.train.volumes[0].slice_spacing=0.12
          Other simulated grains, longer along z for one:
          --config.train.volumes[0].source='simulated/grain_growth?side=64&grains=250&aspect=1,1,1.5&seed=3'
Cost:     about four seconds a step on two cores: 600 steps take 40 minutes. The shipped local_simulated had 400
          (--config.train.optimisation.steps=400), local_in100 400 and local_al1050 300, these two from compact_gsh4
          before its third round on the half grid.
Expect:   runs/local_in100/local_in100.safetensors; its card sets the held-out scores on its own source beside those of
          the prior it started from. A scan has no held-out part here, so its card has no scores. The card of a model of
          simulated grains names its source, and so does the card of every dataset made with it.
"""

from pathlib import Path

from ml_collections import ConfigDict

from polymicros_jax import config as defaults
from polymicros_jax.data import samples

SIMULATED = "simulated/grain_growth?side=64&grains=250&seed={seed}"


def get_config(source: str = "in100") -> ConfigDict:
    """One source; 600 steps at a third of the prior's learning rate."""
    config = defaults.default("train")
    train = config.train
    train.initial = "compact_gsh4"
    train.name = f"local_{Path(source).stem}"
    train.storage = "float16"
    train.network.detail = 16
    train.network.rounds = 2
    train.network.coarse = 3
    if source == "simulated":
        train.volumes = (defaults.volume(SIMULATED.format(seed=0)),)
        train.validation = (defaults.volume(SIMULATED.format(seed=1)),)
    elif source in samples.SPLITS:
        train.volumes = (defaults.volume(f"{source}/train"),)
        train.validation = (defaults.volume(f"{source}/evaluate"),)
    else:
        train.volumes = (defaults.volume(source),)
    train.validate_every = 200
    train.checkpoint_every = 100
    train.sheet_every = 200
    train.optimisation.steps = 600
    train.optimisation.learning_rate = 5e-4
    return config
