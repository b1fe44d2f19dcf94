"""Generation on a Ray cluster (optional extra): ranges of samples as tasks, made again elsewhere when a worker dies.

Nothing but the range travels back and forth; volumes go from the worker to the dataset, which must lie on a file system
that all nodes see. A task is a call of `generation.generate` on its range, so one that is made again finds what its
predecessor completed, and what is made twice in a race is the same file twice.
"""

import dataclasses
import importlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from polymicros_jax.data import store as stores
from polymicros_jax.data.dataset_card import write_card
from polymicros_jax.generation import MOST_REFUSALS_IN_A_ROW, Summary, generate
from polymicros_jax.progress import Progress
from polymicros_jax.results import Results

MOST_DEATHS = 5
"""How often a range is tried again after its worker died; an error of the task itself is not tried again."""


def generate_on_cluster(
    directory: str | Path,
    *,
    address: str = "local",
    block: int = 8,
    cpus: float = 1.0,
    gpus: float = 0.0,
    **arguments: Any,
) -> Summary:
    """Makes a whole dataset on a Ray cluster; samples that are complete are skipped, so a second call resumes.

    Args:
      directory: of the dataset, on a file system that all nodes see.
      address: of the cluster; "auto" finds the one this machine belongs to, "local" starts one here and ends it after.
        A cluster that this process is connected to already is used as it is.
      block: samples a task; a worker that dies loses the sample in flight, whatever the block.
      cpus: processor cores a task occupies.
      gpus: accelerators a task occupies; a share puts several on one.
      **arguments: of `generation.generate`, but for ``worker``, ``workers``, ``indices`` and ``card``.

    Returns:
      What was done, over all tasks; the seconds are theirs together.

    Raises:
      ImportError: Ray is not installed.
      ValueError: a block below 1, or what `generation.generate` raises: the arguments are looked at before Ray is.
      RuntimeError: a range whose worker died more than `MOST_DEATHS` times, or whose task failed; ranges one after the
        other in which `MOST_REFUSALS_IN_A_ROW` samples or more failed and none is there.
    """
    if block < 1:
        raise ValueError(f"block: found {block}, accepted is at least 1 sample a task")
    taken = sorted(arguments.keys() & {"worker", "workers", "indices", "card"})
    if taken:
        raise ValueError(f"{', '.join(taken)}: the cluster shares the samples out itself; accepted is none of these")
    ray = _ray()
    opened = generate(directory, indices=range(0), card=False, **arguments)
    store = stores.open(opened.directory)
    began = time.perf_counter()
    started = not ray.is_initialized()
    if started:
        ray.init(address=address, include_dashboard=False if address == "local" else None, log_to_driver=False)
    try:
        shared = ray.put(_on_host(arguments))
        # Ray counts a death against the task, an exception not: that one is an error of ours and stops the run.
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=MOST_DEATHS, retry_exceptions=False)(_make)
        ranges = [range(first, min(first + block, store.samples)) for first in range(0, store.samples, block)]
        waiting = {task.remote(str(store.directory.absolute()), each, shared): each for each in ranges}
        parts: list[Summary] = []
        refused_in_a_row = 0
        with Progress("generate", store.samples) as progress:
            while waiting:
                (ready, *_), _ = ray.wait(list(waiting))
                indices = waiting.pop(ready)
                try:
                    parts.append(ray.get(ready))
                except ray.exceptions.RayError as error:
                    for each in waiting:
                        ray.cancel(each)
                    raise RuntimeError(f"samples {indices.start} to {indices.stop - 1}: {error}") from error
                # As one process counts them, though here in the order in which parts are done.
                refused_in_a_row = 0 if parts[-1].made + parts[-1].found else refused_in_a_row + parts[-1].refused
                if refused_in_a_row >= MOST_REFUSALS_IN_A_ROW:
                    for each in waiting:
                        ray.cancel(each)
                    records = store.directory / "refused"
                    raise RuntimeError(f"{refused_in_a_row} samples in a row refused; the records in {records} say why")
                progress.update(sum(part.samples for part in parts), rejected=str(sum(part.rejected for part in parts)))
    finally:
        if started:
            ray.shutdown()
    write_card(store)
    return Summary(
        directory=store.directory,
        samples=store.samples,
        made=sum(part.made for part in parts),
        found=sum(part.found for part in parts),
        rejected=sum(part.rejected for part in parts),
        refused=sum(part.refused for part in parts),
        seconds=time.perf_counter() - began,
    )


def run(settings: Mapping[str, Any], cluster: Mapping[str, Any]) -> Results:
    """The generate task on a cluster."""
    alone = {key: value for key, value in settings.items() if key not in ("worker", "workers")}
    return generate_on_cluster(**alone, **cluster).results()


def _make(directory: str, indices: range, arguments: dict[str, Any]) -> Summary:
    """One task: a range of samples."""
    return generate(directory, indices=indices, card=False, **arguments)


def _on_host(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with the weights in host memory, so that they can be sent."""
    priors = {
        name: dataclasses.replace(prior, params=jax.tree.map(np.asarray, prior.params))
        for name, prior in arguments["priors"].items()
    }
    return {**arguments, "priors": priors}


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ImportError("Ray is not installed; install the extra: pip install 'polymicros-jax[ray]'") from error
