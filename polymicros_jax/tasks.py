"""The tasks by name, and how one is run: claimed, done once, resumed."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from polymicros_jax import (
    bootstrap,
    cluster,
    conversion,
    dataset_diversity,
    evaluate,
    expansion,
    experiment,
    generation,
    local_realism,
    super_resolution,
    train,
    workdir,
)
from polymicros_jax.config import TASKS, Config, ConfigError
from polymicros_jax.results import Results
from polymicros_jax.training import distributed
from polymicros_jax.types import SEEDS


def _generate(config: Config, folder: Path) -> Callable[[], Results]:
    settings, elsewhere = experiment.generation(config, folder), experiment.cluster(config)
    generation.check_settings(settings)
    return partial(generation.run, settings) if elsewhere is None else partial(cluster.run, settings, elsewhere)


_PREPARE: dict[str, Callable[[Config, Path], Callable[[], Results]]] = {
    "train": lambda config, folder: partial(train.run, experiment.training(config), folder),
    "generate": _generate,
    "super_resolve": lambda config, folder: partial(super_resolution.run, experiment.reconstruction(config), folder),
    "expand": lambda config, folder: partial(expansion.run, experiment.expansion(config), folder),
    "evaluate": lambda config, folder: partial(evaluate.run, experiment.evaluation(config), folder),
    "realism": lambda config, folder: partial(local_realism.run, experiment.realism(config), folder),
    "diversity": lambda config, folder: partial(dataset_diversity.run, experiment.diversity(config), folder),
    "convert": lambda config, folder: partial(conversion.run, experiment.conversion(config), folder),
    "bootstrap": lambda config, folder: partial(bootstrap.run, experiment.stages(config, folder), folder, run),
}
"""By task: from a config and a folder to the work, with everything that can be wrong with the config found."""


def require(config: Config) -> None:
    """Refuses a config of no task, or with a seed that not every generator of random numbers takes whole.

    Raises:
      ConfigError: an unknown task, none, or one that the config has no section of; a seed that is not from 0 to
        below `types.SEEDS`.
    """
    if config.get("task") not in _PREPARE:
        raise ConfigError(f"task: found {config.get('task')!r}, accepted are {', '.join(TASKS)}")
    if config.task not in config:
        raise ConfigError(f"task: found {config.task!r}, and the config has no section of that name")
    if not 0 <= config.get("seed", 0) < SEEDS:
        raise ConfigError(f"seed: found {config.seed}, accepted are 0 to {SEEDS - 1}")


def run(config: Config, folder: Path) -> Results:
    """Runs the task of a config in a folder; one that is done already says so and hands back what it made.

    Nothing is written before the whole config was found to be sound.

    Raises:
      ConfigError: an unknown task, a config that cannot be run, or a folder that belongs to another config.
      DataError: an input that cannot be read.
    """
    require(config)
    workdir.check(folder, config)
    done = workdir.finished(folder)
    if done is not None:
        newer = workdir.newer_inputs(folder, config)
        note = f"\n{', '.join(newer)} changed since: another --workdir runs it again" if newer else ""
        return Results(f"(done before) {done['summary']}{note}", [folder / name for name in done["files"]])
    work = _PREPARE[config.task](config, folder)
    # Where several processes train together, none writes before all have looked.
    distributed.wait_for_all("checked")
    if distributed.is_writer():
        workdir.start(folder, config)
    results = work()
    if distributed.is_writer():
        workdir.finish(folder, results.to_json(folder))
    return results
