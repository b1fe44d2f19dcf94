"""The stages of a chain of tasks."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from polymicros_jax.config import ConfigError

STAGE = "stage:"
"""A string "stage:NAME/FILE" in the config of a stage is a file of the earlier stage NAME."""


def stages(config: ConfigDict, workdir: Path) -> dict[str, ConfigDict]:
    """The configs of a chain in the order of their names, references to earlier stages resolved to paths.

    Raises:
      ConfigError: no stages, or a reference to a stage that does not come before.
    """
    names = sorted(config.bootstrap.keys())
    if not names:
        raise ConfigError("bootstrap: found no stages")
    return {name: _resolved(config.bootstrap[name], workdir, names[: names.index(name)]) for name in names}


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
