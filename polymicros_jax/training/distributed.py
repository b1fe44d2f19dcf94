"""Several processes that train one prior together: how they find each other, and which of them writes.

Every process runs the same program on the same config and sees the same folder. Each makes its own rows of a batch;
losses and parameters are the same everywhere; process 0 alone writes logs and weights. Checkpoints are written by all.
"""

import dataclasses
from collections.abc import Mapping

import jax
from jax.experimental import multihost_utils

COORDINATOR, PROCESSES, PROCESS = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
"""Environment variables of plain hosts and of Kubernetes: host:port of process 0, number of processes, own number."""


@dataclasses.dataclass(frozen=True)
class Cluster:
    """How a process joins the others; what is None is found by `jax.distributed` in the scheduler's variables."""

    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None


def requested(environment: Mapping[str, str]) -> Cluster | None:
    """The cluster that an environment asks for, or None where a process works alone.

    A SLURM step of several tasks (``srun``) asks for one, as do the three variables above. The batch script of a SLURM
    job, outside ``srun``, does not.

    Raises:
      ValueError: some of the three variables are missing or are no numbers; names them.

    >>> requested({}) is None
    True
    >>> requested({"JAX_COORDINATOR_ADDRESS": "node0:1234", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"})
    Cluster(coordinator='node0:1234', processes=2, process=1)
    """
    given = {name: environment[name] for name in (COORDINATOR, PROCESSES, PROCESS) if environment.get(name)}
    if given:
        if len(given) < 3:
            missing = ", ".join(name for name in (COORDINATOR, PROCESSES, PROCESS) if name not in given)
            raise ValueError(f"environment: found {', '.join(given)} without {missing}; give all three or none")
        try:
            processes, process = int(given[PROCESSES]), int(given[PROCESS])
        except ValueError as error:
            raise ValueError(f"environment: {PROCESSES}, {PROCESS}: {error}; accepted are whole numbers") from error
        if not 0 <= process < processes:
            raise ValueError(
                f"environment: {PROCESS} is {process}, accepted are 0 to {PROCESSES} - 1 = {processes - 1}"
            )
        return Cluster(given[COORDINATOR], processes, process)
    tasks = environment.get("SLURM_STEP_NUM_TASKS", "1")
    return Cluster() if tasks.isdigit() and int(tasks) > 1 else None


def join(cluster: Cluster | None) -> None:
    """Connects this process to the others; must come before JAX is used. Does nothing for None.

    Under SLURM each task takes the GPU of its local number: start one task per GPU.
    """
    if cluster is None:
        return
    jax.config.update("jax_cpu_collectives_implementation", "gloo")  # concerns CPU devices alone
    # Where all is given, a scheduler's variables must not narrow the devices of this process.
    method = "slurm" if cluster.coordinator is None else "deactivate"
    jax.distributed.initialize(cluster.coordinator, cluster.processes, cluster.process, cluster_detection_method=method)


def is_writer() -> bool:
    """Whether this process writes logs, weights and records.

    >>> is_writer()  # of one process, the one
    True
    """
    return jax.process_index() == 0


def wait_for_all(point: str) -> None:
    """Returns once every process has come to this point of the program, which has a name of its own."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(point)
