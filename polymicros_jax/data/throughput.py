"""How fast a dataset was made: one file a call of the generator, and the arithmetic to the paper's dataset.

``timings/`` holds one JSON file per call that made samples. Times are no property of a sample (the same sample made
again has another one), so they stay out of the records, which are identical whoever made them.
"""

import json
import os
import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np

from polymicros_jax.data.atomic import replacing
from polymicros_jax.data.errors import DataError
from polymicros_jax.data.store import Store

PAPER = (30_000, 128)
"""Volumes of the paper's dataset and their side (Sec. 3); it took 45 days on one GPU."""


def write_timing(store: Store, seconds: Sequence[float], device: str) -> None:
    """Notes the wall-clock time of each sample that one call made, checks and writing included; none, no file.

    Args:
      store: the dataset.
      seconds: by sample, in the order they were made; the first one includes the compilation.
      device: what computed them.
    """
    if not seconds:
        return
    path = store.directory / "timings" / f"{os.getpid()}-{secrets.token_hex(4)}.json"
    with replacing(path) as temporary:
        note = {"device": device, "cores": _usable_cores(), "seconds": list(seconds)}
        temporary.write_text(json.dumps(note) + "\n")


def _usable_cores() -> int | None:
    """Those this process may run on, which under a scheduler are fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def throughput(store: Store) -> list[dict[str, Any]]:
    """Rates of one process, by device; the first sample of a call, which compiles, is left out where there are others.

    Calls that ran beside each other on one machine shared it: the rate is that of a process among its neighbours.

    Raises:
      DataError: a file of ``timings/`` cannot be read.
    """
    found: dict[tuple[str, int], list[float]] = {}
    for path in sorted((store.directory / "timings").glob("*.json")):
        try:
            timing = json.loads(path.read_text())
            times = timing["seconds"][1:] or timing["seconds"]
            found.setdefault((timing["device"], timing["cores"]), []).extend(times)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: cannot be read: {error}; accepted is what a generator wrote") from error
    return [_rates(store.shape, device, cores, times) for (device, cores), times in sorted(found.items())]


def _rates(shape: tuple[int, int, int], device: str, cores: int, times: Sequence[float]) -> dict[str, Any]:
    seconds, voxels = float(np.median(times)), int(np.prod(shape))
    count, side = PAPER
    return {
        "device": device,
        "cores": cores,
        "samples": len(times),
        "median_seconds": seconds,
        "samples_per_hour": 3600 / seconds,
        "voxels_per_second": voxels / seconds,
        "paper_process_days": count * side**3 / (voxels / seconds) / 86_400,
    }


def sentences(rates: Sequence[dict[str, Any]], store_shape: tuple[int, int, int]) -> list[str]:
    """The rates and the arithmetic to the paper's dataset in words, one line a device."""
    if not rates:
        return ["No call of the generator has come to its end yet."]
    count, side = PAPER
    nx, ny, nz = store_shape
    return [
        f"- {each['device']}, {each['cores']} cores: {each['samples_per_hour']:.4g} samples of {nx} x {ny} x {nz} an "
        f"hour and process (median of {each['samples']}: {each['median_seconds']:.3g} s, checks and writing included, "
        f"the compilation only for calls of one sample), which is {each['voxels_per_second']:.4g} voxels a second. "
        f"The paper's {count:,} volumes of {side}^3 are {count * side**3:.4g} voxels: "
        f"{each['paper_process_days']:.4g} days for one such process, divided by the number of "
        "processes that do not share a device."
        for each in rates
    ]
