"""Several processes, one dataset, no coordinator: whoever makes a sample makes the same one, killed ones included."""

import itertools
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import jax
import numpy as np
import pytest
import zarr

from polymicros_jax.data import store as stores
from polymicros_jax.generation import generate

sys.path.insert(0, str(Path(__file__).parent))
import generation_worker as tiny

ROOT = Path(__file__).parents[1]


def volumes(directory: Path) -> np.ndarray:
    return np.asarray(zarr.open_group(directory, mode="r")["fields"][:])


def assert_nothing_wrong(directory: Path, truth: np.ndarray) -> int:
    """Whatever can be read is right, also by a reader that knows nothing of records; returns the complete samples."""
    if not (directory / "fields" / "zarr.json").exists():
        return 0  # killed before the array was there
    store = stores.open(directory)
    complete = stores.completed(store)  # before the array is read: a record promises what is there by now
    found = volumes(directory)
    for index in range(len(truth)):
        if np.isnan(found[index]).all() and index not in complete:
            continue
        np.testing.assert_array_equal(found[index], truth[index])
    assert stores.unreadable(store) == {}
    return len(complete)


def kill_when(process: ForkServerProcess, complete: Callable[[], int], wanted: int, delay: float) -> bool:
    """Sends SIGKILL a moment after so many samples are complete; False where the process was faster."""
    deadline = time.monotonic() + 300
    while complete() < wanted and process.is_alive():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(delay)
    alive = process.is_alive()
    process.kill()
    process.join()
    return alive


def records_in(directory: Path) -> Callable[[], int]:
    return lambda: len(list((directory / "records").glob("[0-9]*.json")))


def test_a_writer_killed_at_any_moment_leaves_nothing_wrong(tmp_path: Path) -> None:
    samples, shape, chance = 24, (16, 16, 16), random.Random(1)
    truth = np.stack([tiny.known(index, shape) for index in range(samples)])
    counts = []
    for trial in range(3):
        directory = tmp_path / str(trial)
        process = tiny.context().Process(target=tiny.write_known, args=(directory, samples, shape))
        process.start()
        kill_when(process, records_in(directory), chance.randrange(samples), 0.01 * chance.random())
        counts.append(assert_nothing_wrong(directory, truth))
        tiny.write_known(directory, samples, shape)
        assert assert_nothing_wrong(directory, truth) == samples
    assert min(counts) < samples  # else no process was killed in its work


@pytest.fixture(scope="module")
def forty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 40 samples by one worker in one go."""
    directory = tmp_path_factory.mktemp("forty")
    generate(directory, priors=tiny.tiny_priors(), **tiny.FORTY)
    return directory


@pytest.fixture(scope="module")
def forty_optimised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same compiled as the processes of slow tests compile it, with all optimisations: their round-off differs.

    It is made before the function-wide switch of conftest.py, so it has to set its own.
    """
    jax.clear_caches()
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    directory = tmp_path_factory.mktemp("forty_optimised")
    generate(directory, priors=tiny.tiny_priors(), **tiny.FORTY)
    jax.config.update("jax_disable_most_optimizations", before)
    jax.clear_caches()
    return directory


@pytest.mark.parametrize("workers", [2, 4])
def test_forty_samples_by_any_number_of_workers(forty: Path, tmp_path: Path, workers: int) -> None:
    for worker in reversed(range(workers)):
        generate(tmp_path, priors=tiny.tiny_priors(), **tiny.FORTY, worker=worker, workers=workers)
    np.testing.assert_array_equal(volumes(tmp_path), volumes(forty))
    assert (tmp_path / "dataset.json").read_text() == (forty / "dataset.json").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_forty_samples_by_processes_side_by_side(forty_optimised: Path, tmp_path: Path, workers: int) -> None:
    directory = tmp_path / "set"
    processes = [tiny.start(directory, tmp_path / "cache", worker, workers) for worker in range(workers)]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    np.testing.assert_array_equal(volumes(directory), volumes(forty_optimised))
    assert (directory / "dataset.json").read_text() == (forty_optimised / "dataset.json").read_text()


@pytest.mark.slow
def test_twenty_workers_killed_at_random_leave_nothing_wrong(forty_optimised: Path, tmp_path: Path) -> None:
    truth, cache, chance = volumes(forty_optimised), tmp_path / "cache", random.Random(0)
    first = tiny.start(tmp_path / "whole", cache, 0, 1)  # fills the folder of compiled programs, unharmed
    first.join()
    killed = 0
    for trial in range(20):
        # Two workers; one is killed, anywhere from its start to its last sample, and started again.
        directory = tmp_path / str(trial)
        victim, other = (tiny.start(directory, cache, worker, 2) for worker in range(2))
        killed += kill_when(victim, records_in(directory), chance.randrange(40), 0.05 * chance.random())
        assert_nothing_wrong(directory, truth)
        again = tiny.start(directory, cache, 0, 2)
        for process in (other, again):
            process.join()
            assert process.exitcode == 0
        assert assert_nothing_wrong(directory, truth) == 40
        assert (directory / "dataset.json").read_text() == (forty_optimised / "dataset.json").read_text()
    assert killed >= 10


@pytest.mark.parametrize(
    ("script", "arguments", "environment", "expected"),
    [
        ("generate_slurm.sh", [], {"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_COUNT": "5"}, [(2, 5)]),
        (
            "generate_slurm.sh",
            [],
            {"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_COUNT": "1", "WORKERS": "7"},
            [(2, 7)],
        ),
        ("generate_workers.sh", ["3"], {}, [(0, 3), (1, 3), (2, 3)]),
    ],
)
def test_launchers_give_every_worker_its_share(
    tmp_path: Path, script: str, arguments: list[str], environment: dict[str, str], expected: list[tuple[int, int]]
) -> None:
    command = [str(ROOT / "launch" / script), *arguments, "configs/some.py", str(tmp_path), "--config.seed=3"]
    done = subprocess.run(
        command, env={**os.environ, **environment, "PYTHON": "echo"}, capture_output=True, text=True, check=True
    )
    lines = sorted(line.split() for line in done.stdout.splitlines())
    assert len(lines) == len(expected)
    for words, (worker, workers) in zip(lines, expected, strict=True):
        assert words[:3] == ["-m", "polymicros_jax.main", "--config=configs/some.py"]
        assert words[-1] == "--config.seed=3"
        assert f"--config.generate.worker={worker}" in words
        assert f"--config.generate.workers={workers}" in words
        assert f"--config.generate.directory={tmp_path}/dataset" in words
    # No two workers share a folder of their own.
    assert len(set(itertools.chain(*lines)) & {f"--workdir={tmp_path}/worker_{i}_of_{n}" for i, n in expected}) == len(
        expected
    )


def test_a_launcher_says_that_a_worker_failed(tmp_path: Path) -> None:
    command = [str(ROOT / "launch" / "generate_workers.sh"), "2", "configs/some.py", str(tmp_path)]
    assert subprocess.run(command, env={**os.environ, "PYTHON": "false"}, check=False).returncode == 1
