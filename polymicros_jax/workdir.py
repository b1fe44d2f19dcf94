"""The folder a run writes into: what it was, what it made, and whether it is done."""

import importlib.metadata
import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

from polymicros_jax.config import Config, ConfigError
from polymicros_jax.results import finite, write_json

ENVIRONMENT = "environment.json"

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorstore", "numpy", "polymicros-jax")


def check(workdir: Path, config: Config) -> None:
    """Refuses a folder that belongs to something else; writes nothing.

    Raises:
      ConfigError: the folder belongs to another config (names the first key that differs), or holds other files.
    """
    record = workdir / "config.json"
    if record.exists():
        different = _first_difference(json.loads(record.read_text()), _plain(config), "config")
        if different is not None:
            raise ConfigError(f"{record}: {different}; give another --workdir, or the config this one was written by")
    elif workdir.exists() and not all(_of_a_start(path.name) for path in workdir.iterdir()):
        raise ConfigError(f"{workdir}: is not empty and has no config.json; give a new or empty --workdir")


def _of_a_start(name: str) -> bool:
    """Whether `start` leaves a file of this name when it is killed: the first record, or one half written."""
    return name == ENVIRONMENT or (name.startswith((f".{ENVIRONMENT}.", ".config.json.")) and name.endswith(".part"))


def start(workdir: Path, config: Config) -> None:
    """Claims the folder for a config: writes ``environment.json`` and ``config.json`` where there are none yet."""
    if not (workdir / "config.json").exists():
        # The config last: a run killed in between is taken for one that never started.
        write_json(workdir / ENVIRONMENT, environment())
        write_json(workdir / "config.json", _plain(config))


def finished(workdir: Path) -> dict[str, Any] | None:
    """The results of a run that is done, as `finish` stored them."""
    record = workdir / "results.json"
    return json.loads(record.read_text()) if record.exists() else None


def newer_inputs(workdir: Path, config: Config) -> list[str]:
    """Files and folders that the config reads and that changed after the run was done."""
    done = (workdir / "results.json").stat().st_mtime
    read = _plain(config)
    # Written, by other workers too.
    read.get("generate", {}).pop("directory", None)
    named = {each for each in _strings(read) if each and len(each) < 1024 and Path(each).exists()}
    found = []
    for each in sorted(named):
        inside = Path(each).iterdir() if Path(each).is_dir() else ()
        # A link inside may lead nowhere, so it is looked at itself.
        times = [Path(each).stat().st_mtime, *(path.lstat().st_mtime for path in inside)]
        if max(times) > done:
            found.append(each)
    return found


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict | list):
        return [text for each in (value.values() if isinstance(value, dict) else value) for text in _strings(each)]
    return [value] if isinstance(value, str) else []


def finish(workdir: Path, results: dict[str, Any]) -> None:
    """Marks the run as done."""
    write_json(workdir / "results.json", results)


def environment() -> dict[str, Any]:
    """Versions, commit and devices of this process.

    >>> sorted(set(environment()) & {"python", "devices", "commit", "versions"})
    ['commit', 'devices', 'python', 'versions']
    """
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    devices = [f"{device.platform}: {device.device_kind}" for device in jax.devices()]
    return {"versions": versions, "commit": commit, "python": platform.python_version(), "devices": devices}


def _plain(config: Config) -> dict[str, Any]:
    return finite(json.loads(config.to_json_best_effort()))


def _first_difference(there: Any, asked: Any, name: str) -> str | None:
    if isinstance(there, dict) and isinstance(asked, dict):
        for key in sorted(there.keys() | asked.keys()):
            found = _first_difference(there.get(key), asked.get(key), f"{name}.{key}")
            if found is not None:
                return found
        return None
    return None if there == asked else f"{name} is {there!r} there and {asked!r} now"
