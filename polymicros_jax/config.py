"""Defaults of every task's config.

A config file starts from ``config.default(task)`` and changes what it must. Configs are locked: a key that does not
exist is an error, in a file as on the command line. `experiment` turns them into objects.
"""

import re
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

Config = ConfigDict
"""What a config file returns; modules that pass one on without reading it name it so."""


class ConfigError(ValueError):
    """A config that cannot be run; the message names the key, what was found and what is accepted."""


def network() -> ConfigDict:
    """The compact network that a CPU can train; see `models.unet3d.UNet3DConfig`. The paper's sizes are in configs/."""
    return ConfigDict(
        {
            "width": 32,
            "multipliers": (2, 3, 3),
            "patch": 2,
            "detail": 0,
            "rounds": 1,
            "averaging": 8,
            "coarse": 0,
            "blocks": 2,
            "groups": 4,
            "heads": 4,
            "head_width": 32,
            "compute_dtype": "float32",
            "remat": False,
        }
    )


def optimisation() -> ConfigDict:
    """Hyper-parameters of a training; see `training.step.Optimisation`."""
    return ConfigDict(
        {
            "steps": 1000,
            "batch": 8,
            "accumulate": 1,
            "learning_rate": 1.5e-3,
            "warmup": 100,
            "final_rate": 0.01,
            "weight_decay": 1e-5,
            "clip": 10.0,
            "beta2": 0.99,
            "noise_mean": -0.6,
            "noise_std": 1.1,
            "ema_decay": 0.999,
            "ema_power": 9.0,
        }
    )


def volume(source: str = "") -> ConfigDict:
    """An orientation volume: a bundled sample ("in100/train"), a file, or a simulation, cut and thinned as asked.

    A simulation is "simulated/grain_growth?side=64&grains=200", see `data.simulated`.

    ``frame`` is required where the file's format leaves it open; ``unit`` is "degrees" or "radians" for a `.ctf` that
    is not in degrees as it should be; ``stop`` 0 is the end; ``spacing`` 0 keeps the grid;
    ``phase`` above 0 is the number of the only phase that counts as observed; ``every`` makes voxels k times as long,
    each of the orientation at its centre; ``weight`` is the share of training patches.

    >>> section = volume("in100/train")
    >>> section.source, section.every
    ('in100/train', 1)
    """
    return ConfigDict(
        {
            "source": source,
            "frame": "",
            "unit": "",
            "slice_spacing": 0.0,
            "start": (0, 0, 0),
            "stop": (0, 0, 0),
            "spacing": 0.0,
            "every": 1,
            "phase": 0,
            "weight": 1.0,
        }
    )


def mask(kind: str = "slices", **settings: Any) -> ConfigDict:
    """Which voxels a reconstruction is given; see `data.masks`.

    Kinds: ``slices`` (each ``every``-th section along ``axis``), ``sections`` (at ``positions``), ``random`` (a
    ``share``), ``box`` (all but ``start`` to ``stop``), ``orthogonal`` (three sections), ``gaps`` (all but a ``share``
    lost as indexing loses points), ``unindexed`` (what the scan holds), ``insert`` (a stack of sections spread out by
    ``every``). Joined with " & " (in both) or " | " (in either), from left to right.
    """
    section = ConfigDict(
        {
            "kind": kind,
            "axis": "z",
            "every": 4,
            "offset": 0,
            "positions": (),
            "share": 0.25,
            "start": (0, 0, 0),
            "stop": (0, 0, 0),
        }
    )
    section.lock()
    section.update(settings)
    return section


def _train() -> ConfigDict:
    return ConfigDict(
        {
            "initial": "",
            "previous": "",
            "name": "prior",
            "storage": "float32",
            "patch": 24,
            "volumes": (),
            "dataset": "",
            "dataset_share": 0.5,
            "centre": False,
            "symmetries": True,
            "texture": True,
            "sigma_skip": 0.05,
            "validation": (),
            "validation_stride": 22,
            "validate_every": 500,
            "checkpoint_every": 200,
            "sheet_every": 500,
            "devices_per_sample": 1,
            "network": network(),
            "optimisation": optimisation(),
        }
    )


def _generate() -> ConfigDict:
    return ConfigDict(
        {
            "priors": (),
            "shape": (32, 32, 32),
            "covariances": 4,
            "repeats": 1,
            "directory": "",
            "mixtures": 4,
            "bounds": "",
            "steps": 25,
            "skip": 12,
            "crystals": True,
            "boundary_cost": 0.0,
            "attempts": 5,
            "largest_mean_distance": 0.4,
            "fewest_grains": 0,
            "dtype": "float32",
            "worker": 0,
            "workers": 1,
            "ray": {"address": "", "block": 8, "cpus": 1.0, "gpus": 0.0},
        }
    )


def _super_resolve() -> ConfigDict:
    return ConfigDict(
        {
            "prior": "compact_gsh4",
            "volume": volume("in100/evaluate"),
            "mask": mask(),
            "draws": 4,
            "steps": 100,
            "start": 0.5,
            "guess": "shapes",
            "method": "project",
            "theta": 0.75,
            "tile": 0,
            "snap": 3,
        }
    )


def _expand() -> ConfigDict:
    return ConfigDict(
        {
            "prior": "compact_gsh4",
            "volume": volume("in100/evaluate"),
            "maps": {"x": volume(), "y": volume(), "z": volume()},
            "shape": (32, 32, 32),
            "draws": 1,
            "steps": 25,
            "start": 0.0,
            "until": 1.0,
            "boundary_cost": 1.5,
            "budget": 20,
            "baselines": True,
        }
    )


def _evaluate() -> ConfigDict:
    return ConfigDict(
        {
            "prior": "compact_gsh4",
            "volumes": (),
            "axis": "z",
            "factors": (2, 4),
            "masks": (),
            "methods": ("project",),
            "starts": (0.5,),
            "guess": "shapes",
            "thetas": (0.75,),
            "draws": 4,
            "steps": 100,
            "tile": 0,
            "snap": 3,
        }
    )


def _realism() -> ConfigDict:
    return ConfigDict(
        {
            "prior": "compact_gsh4",
            "volume": volume("in100/train"),
            "shape": (32, 32, 32),
            "draws": 4,
            "mixtures": 4,
            "bounds": "",
            "steps": 25,
            "skip": 12,
            "skips": (4, 8, 12, 16, 20),
            "crystals": True,
            "boundary_cost": 1.0,
        }
    )


def _diversity() -> ConfigDict:
    return ConfigDict(
        {
            "dataset": "",
            "side": 16,
            "count": 24,
            "measured": (),
            "synthetic": (),
            "voronoi_grains": (10, 100),
            "priors": ("compact_gsh4",),
            "steps": 25,
        }
    )


def _convert() -> ConfigDict:
    return ConfigDict(
        {
            "volume": volume(),
            "outputs": (),
            "damask": "",
            "grain_degrees": 0.0,
            "fill": False,
            "cubic": False,
            "map_frame": "",
        }
    )


_SECTIONS: dict[str, Callable[[], ConfigDict]] = {
    "train": _train,
    "generate": _generate,
    "super_resolve": _super_resolve,
    "expand": _expand,
    "evaluate": _evaluate,
    "realism": _realism,
    "diversity": _diversity,
    "convert": _convert,
    "bootstrap": ConfigDict,
}

TASKS = tuple(_SECTIONS)


def default(task: str) -> ConfigDict:
    """The config of a task with every key it has, locked.

    The keys of a task stand in a section of its name. "bootstrap" is a chain: its section takes configs of other
    tasks by name, run in the order of their names; a string "stage:NAME/FILE" in them is a file an earlier one wrote.

    Raises:
      ConfigError: there is no such task.

    >>> config = default("super_resolve")
    >>> config.task, config.super_resolve.mask.kind
    ('super_resolve', 'slices')
    >>> default("superresolve")
    Traceback (most recent call last):
        ...
    polymicros_jax.config.ConfigError: task: found 'superresolve', accepted are train, ...
    """
    if task not in _SECTIONS:
        raise ConfigError(f"task: found {task!r}, accepted are {', '.join(TASKS)}")
    config = ConfigDict({"task": task, "seed": 0, "representation": "gsh4", task: _SECTIONS[task]()})
    if task != "bootstrap":
        config.lock()
    return config


_STEP = re.compile(r"""\[(-?\d+)\]|\[["']([^"']*)["']\]|([^.\[\]]+)""")
"""One step of a path: ``[0]``, ``["name"]`` or ``name``."""


def wrong_key(config: ConfigDict, path: str) -> str | None:
    """Why a path leads to no value of a config, in one line; None where it leads to one.

    >>> config = default("evaluate")
    >>> config.evaluate.volumes = (volume("in100"),)
    >>> wrong_key(config, "evaluate.volumes[0].every") is None
    True
    >>> wrong_key(config, "evaluate.volumes[1].every")
    'config.evaluate.volumes has no [1], accepted are [0] to [0]'
    >>> wrong_key(config, "evaluate.volumes.every")
    "config.evaluate.volumes has no key 'every', accepted is a number in brackets"
    >>> wrong_key(config, "evaluate.axis[0].name")
    "config.evaluate.axis is 'z' and has no parts"
    """
    value: Any = config
    name = "config"
    for number, quoted, word in _STEP.findall(path):
        key = quoted or word
        if isinstance(value, ConfigDict):
            if number or key not in value:
                accepted = ", ".join(value) or "none"
                return f"{name} has no {f'[{number}]' if number else f'key {key!r}'}, accepted are {accepted}"
            value, name = value[key], f"{name}.{key}"
        elif isinstance(value, tuple | list):
            if not number:
                return f"{name} has no key {key!r}, accepted is a number in brackets"
            if not -len(value) <= int(number) < len(value):
                accepted = f"accepted are [0] to [{len(value) - 1}]" if value else "it is empty"
                return f"{name} has no [{number}], {accepted}"
            value, name = value[int(number)], f"{name}[{number}]"
        else:
            return f"{name} is {value!r} and has no parts"
    return None
