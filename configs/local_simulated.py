"""A local model of simulated normal grain growth, beside those of the measured volumes.

What:     the compact network on patches of one simulated volume: 64^3 voxels, 250 grains, threshold dynamics.
Command:  python -m polymicros_jax.main --config=configs/local_simulated.py
          Other grains, longer along z for one:
          --config.train.volumes[0].source='simulated/grain_growth?side=64&grains=250&aspect=1,1,1.5&seed=3'
Cost:     a few minutes for the simulation, then about 1 s a step on two idle cores.
Expect:   runs/local_simulated/local_simulated.safetensors; its card, and the card of any dataset made with it, name the
          source and so say that it is simulated.
"""

from ml_collections import ConfigDict

from polymicros_jax import config as defaults


def get_config() -> ConfigDict:
    """One simulated source; everything else as for the compact prior."""
    config = defaults.default("train")
    config.train.name = "local_simulated"
    config.train.volumes = (defaults.volume("simulated/grain_growth?side=64&grains=250&seed=0"),)
    return config
