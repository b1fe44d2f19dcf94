"""The files of configs/, loaded as the command line loads them, and shrunk to what a test can run."""

import importlib.util
from pathlib import Path

from ml_collections import ConfigDict

ROOT = Path(__file__).parents[1]
NAMES = tuple(sorted(path.stem for path in (ROOT / "configs").glob("*.py")))


def load(name: str, *arguments: str) -> ConfigDict:
    """The config of ``configs/NAME.py``, with what stands after the colon on the command line."""
    spec = importlib.util.spec_from_file_location(f"configs_{name}", ROOT / "configs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(*arguments)


def shrink_training(config: ConfigDict, steps: int = 2) -> ConfigDict:
    """The same training with a tiny network on tiny patches; every other key as it was."""
    train = config.train
    train.patch = 16
    train.validation_stride = 64
    train.checkpoint_every = 1
    train.network.width = 8
    train.network.multipliers = (1, 2)
    train.network.blocks = 1
    train.optimisation.steps = steps
    train.optimisation.accumulate = min(train.optimisation.accumulate, 2)
    train.optimisation.batch = 2
    return config


def shrink_generation(config: ConfigDict) -> ConfigDict:
    """The same design with one covariance at 16^3 and six noise levels."""
    generate = config.generate
    generate.shape = (16, 16, 16)
    generate.covariances = 1
    generate.repeats = 1
    generate.steps, generate.skip = 6, 3
    # Untrained models return noise: let it pass, the checks have their own tests.
    generate.largest_mean_distance = 10.0
    return config
