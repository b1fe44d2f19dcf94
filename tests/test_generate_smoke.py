"""The command of configs/generate_smoke.py as a user gives it: within its time, and the same after SIGKILL."""

import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import zarr

from polymicros_jax.data import store

sys.path.insert(0, str(Path(__file__).parent))
import config_files


def start(workdir: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "polymicros_jax.main", "--config=configs/generate_smoke.py"]
    return subprocess.Popen([*command, f"--workdir={workdir}"], cwd=config_files.ROOT, start_new_session=True)


@pytest.mark.slow
@pytest.mark.entry
def test_the_smoke_dataset_is_made_in_time_and_survives_being_killed(tmp_path: Path) -> None:
    broken, unbroken = tmp_path / "broken", tmp_path / "unbroken"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert start(unbroken).wait() == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Two minutes on two cores. Processor time, because the clock also counts what else the machine does.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2 * 120

    chance = random.Random(0)
    for wanted in (0, 3):  # killed while it starts, and between or within samples
        process = start(broken)
        deadline = time.monotonic() + 600
        while len(list((broken / "dataset" / "records").glob("[0-9]*.json"))) < wanted or not broken.exists():
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(3 * chance.random() if wanted == 0 else 0.05 * chance.random())
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert start(broken).wait() == 0

    made = zarr.open_group(unbroken / "dataset", mode="r")["fields"]
    assert made.shape == (8, 16, 16, 16, 9)
    assert made.metadata.zarr_format == 3
    np.testing.assert_array_equal(zarr.open_group(broken / "dataset", mode="r")["fields"][:], made[:])
    stores = [store.open(folder / "dataset") for folder in (broken, unbroken)]
    for each in stores:
        assert store.completed(each) == list(range(8))
        assert store.unreadable(each) == {}
    for index in range(8):
        assert store.read_record(stores[0], index) == store.read_record(stores[1], index)
