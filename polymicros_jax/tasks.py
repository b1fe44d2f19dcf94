"""The tasks by name, and how one is run: claimed, done once, resumed."""

from collections.abc import Callable
from pathlib import Path

from polymicros_jax import (
    bootstrap,
    conversion,
    evaluate,
    expansion,
    experiment,
    generation,
    super_resolution,
    train,
    workdir,
)
from polymicros_jax.config import TASKS, Config, ConfigError
from polymicros_jax.results import Results

_RUN: dict[str, Callable[[Config, Path], Results]] = {
    "train": lambda config, folder: train.run(experiment.training(config), folder),
    "generate": lambda config, folder: generation.run(experiment.generation(config, folder)),
    "super_resolve": lambda config, folder: super_resolution.run(experiment.reconstruction(config), folder),
    "expand": lambda config, folder: expansion.run(experiment.expansion(config), folder),
    "evaluate": lambda config, folder: evaluate.run(experiment.evaluation(config), folder),
    "convert": lambda config, folder: conversion.run(experiment.conversion(config), folder),
    "bootstrap": lambda config, folder: bootstrap.run(experiment.stages(config, folder), folder, run),
}


def run(config: Config, folder: Path) -> Results:
    """Runs the task of a config in a folder; one that is done already says so and hands back what it made.

    Raises:
      ConfigError: an unknown task, or a folder that belongs to another config.
    """
    if config.get("task") not in _RUN:
        raise ConfigError(f"task: found {config.get('task')!r}, accepted are {', '.join(TASKS)}")
    workdir.start(folder, config)
    done = workdir.finished(folder)
    if done is not None:
        return Results(f"(done before) {done['summary']}", [folder / name for name in done["files"]])
    results = _RUN[config.task](config, folder)
    workdir.finish(folder, results.to_json(folder))
    return results
