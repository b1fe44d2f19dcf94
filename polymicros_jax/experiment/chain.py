"""The stages of a chain of tasks."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from polymicros_jax.config import TASKS, ConfigError
from polymicros_jax.experiment.inputs import volume

STAGE = "stage:"
"""A string "stage:NAME/FILE" in the config of a stage is a file of the earlier stage NAME."""


def stages(config: ConfigDict, workdir: Path) -> dict[str, ConfigDict]:
    """The configs of a chain in the order of their names, references to earlier stages resolved to paths.

    The volumes of all stages are read once here, so that a missing file shows before the first stage has run for an
    hour; but for those that a stage is yet to write.

    Raises:
      ConfigError: no stages, one of no task, or a reference to a stage that does not come before.
      DataError: a volume that cannot be read.
    """
    names = stage_names(config)
    resolved = {name: _resolved(config.bootstrap[name], workdir, names[: names.index(name)]) for name in names}
    for name in names:
        _read_volumes(config.bootstrap[name], name)
    return resolved


def stage_names(config: ConfigDict) -> list[str]:
    """Names of the stages of a chain in their order.

    Raises:
      ConfigError: no stages, or one of no task or of a chain.
    """
    names = sorted(config.bootstrap.keys())
    if not names:
        raise ConfigError("bootstrap: found no stages, accepted is at least one")
    accepted = [task for task in TASKS if task != "bootstrap"]
    for name in names:
        found = config.bootstrap[name].get("task")
        if found not in accepted:
            raise ConfigError(f"bootstrap.{name}.task: found {found!r}, accepted are {', '.join(accepted)}")
    return names


def _read_volumes(value: Any, name: str) -> None:
    if isinstance(value, ConfigDict):
        if value.get("source") and not value.source.startswith(STAGE):
            volume(value, name)
        for key in value:
            _read_volumes(value[key], f"{name}.{key}")
    elif isinstance(value, tuple | list):
        for number, each in enumerate(value):
            _read_volumes(each, f"{name}[{number}]")


def _resolved(value: Any, workdir: Path, earlier: list[str]) -> Any:
    if isinstance(value, ConfigDict):
        return ConfigDict({key: _resolved(value[key], workdir, earlier) for key in value})
    if isinstance(value, tuple | list):
        return tuple(_resolved(each, workdir, earlier) for each in value)
    if not (isinstance(value, str) and value.startswith(STAGE)):
        return value
    path = value.removeprefix(STAGE)
    if path.split("/")[0] not in earlier:
        raise ConfigError(f"bootstrap: found {value!r}, accepted are the stages before: {', '.join(earlier)}")
    return str(workdir / path)
