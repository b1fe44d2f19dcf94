"""The dataset engine on Ray: a real local cluster, one worker killed in its work, nothing lost and nothing doubled."""

import importlib.util
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from polymicros_jax import cluster
from polymicros_jax.cluster import generate_on_cluster
from polymicros_jax.data import store as stores
from polymicros_jax.generation import Summary, generate

sys.path.insert(0, str(Path(__file__).parent))
import generation_worker as tiny


def _workers_of_this_process() -> list[int]:
    """Processes that run a Ray task and descend from this one: no other cluster's."""
    parents, names = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text()
                names[int(entry.name)] = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            parents[int(entry.name)] = int(status.rpartition(")")[2].split()[1])

    def ours(process: int) -> bool:
        while process > 1:
            process = parents.get(process, 0)
            if process == os.getpid():
                return True
        return False

    return [process for process, name in names.items() if name.startswith("ray::_make") and ours(process)]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is an optional extra")
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the worker to kill in /proc")
def test_a_worker_killed_midway_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    # Ray runs its workers at the lowest priority: beside other work they would not get anywhere.
    monkeypatch.setenv("RAY_worker_niceness", "0")
    alone, together = tmp_path / "alone", tmp_path / "together"
    generate(alone, priors=tiny.tiny_priors(), **tiny.FORTY)
    killed: list[int] = []

    def kill_one() -> None:
        records = together / "records"
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline and not killed:
            made = [int(record.stem) // 20 for record in records.glob("[0-9]*.json")] if records.is_dir() else []
            unfinished = [made.count(block) for block in (0, 1) if made.count(block) < 20]
            running = _workers_of_this_process()
            # Whichever worker it is, it leaves complete samples and missing ones.
            if unfinished and min(unfinished) >= 2 and running:
                os.kill(running[0], signal.SIGKILL)
                killed.append(running[0])
            time.sleep(0.002)

    ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20)
    try:
        killer = threading.Thread(target=kill_one, daemon=True)
        killer.start()
        summary = generate_on_cluster(together, priors=tiny.tiny_priors(), block=20, **tiny.FORTY)
        killer.join()
    finally:
        ray.shutdown()
    assert killed
    # Nothing lost, nothing different, no sample in two places.
    store = stores.open(together)
    assert stores.completed(store) == list(range(40))
    assert stores.unreadable(store) == {}
    shards = [path for path in (together / "fields" / "c").rglob("*") if path.is_file()]
    assert sorted(shards) == sorted(store.shard(index) for index in range(40))
    arrays = [np.asarray(zarr.open_group(folder, mode="r")["fields"][:]) for folder in (alone, together)]
    np.testing.assert_array_equal(*arrays)
    assert (together / "dataset.json").read_text() == (alone / "dataset.json").read_text()
    # The range that lost its worker found what had been completed: 20 samples were not all made again.
    assert summary.samples == summary.made + summary.found == 40
    assert summary.found > 0


class FakeRay:
    """The few calls of Ray that are used, run here and now: what is passed on, not how."""

    class exceptions:
        class RayError(Exception):
            pass

    def __init__(self, error: bool = False) -> None:
        self.started: list[dict[str, Any]] = []
        self.options: dict[str, Any] = {}
        self.error = error
        self.ended = 0
        self.cancelled = 0

    def is_initialized(self) -> bool:
        return False

    def init(self, **options: Any) -> None:
        self.started.append(options)

    def shutdown(self) -> None:
        self.ended += 1

    def put(self, value: Any) -> Any:
        return value

    def remote(self, **options: Any) -> Any:
        self.options = options

        def bind(function: Any) -> Any:
            class Task:
                @staticmethod
                def remote(*arguments: Any) -> Any:
                    return lambda: function(*arguments)

            return Task

        return bind

    def wait(self, references: list[Any]) -> Any:
        return references[-1:], references[:-1]  # not in the order of their start

    def get(self, reference: Any) -> Any:
        if self.error:
            raise self.exceptions.RayError("the worker died")
        return reference()

    def cancel(self, reference: Any) -> None:
        self.cancelled += 1


def test_ranges_cover_the_dataset_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay()
    monkeypatch.setattr(cluster, "_ray", lambda: fake)
    arguments = {**tiny.ARGUMENTS, "priors": tiny.tiny_priors()}
    settings = {**arguments, "directory": tmp_path / "set", "worker": 0, "workers": 1}
    results = cluster.run(settings, {"address": "somewhere:6379", "block": 5, "cpus": 2.0, "gpus": 0.5})
    assert fake.started[0]["address"] == "somewhere:6379"
    assert (fake.options["num_cpus"], fake.options["num_gpus"]) == (2.0, 0.5)
    assert fake.ended == 1
    assert "12 of 12" in results.summary
    assert all(path.is_file() for path in results.files)
    generate(tmp_path / "alone", **arguments)
    arrays = [np.asarray(zarr.open_group(tmp_path / name, mode="r")["fields"][:]) for name in ("set", "alone")]
    np.testing.assert_array_equal(*arrays)
    again = generate_on_cluster(tmp_path / "set", **arguments)
    assert (again.made, again.found) == (0, 12)


def test_a_range_that_fails_for_good_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay(error=True)
    monkeypatch.setattr(cluster, "_ray", lambda: fake)
    with pytest.raises(RuntimeError, match="samples 8 to 11: the worker died"):
        generate_on_cluster(tmp_path, priors=tiny.tiny_priors(), block=4, **tiny.ARGUMENTS)
    assert (fake.cancelled, fake.ended) == (2, 1)


def test_what_does_not_fit_is_refused_before_ray_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="block: found 0"):
        generate_on_cluster(tmp_path, priors={}, block=0)
    with pytest.raises(ValueError, match="workers: the cluster shares"):
        generate_on_cluster(tmp_path, priors={}, workers=3)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"polymicros-jax\[ray\]"):
        generate_on_cluster(tmp_path, priors=tiny.tiny_priors(), **tiny.ARGUMENTS)


@pytest.mark.parametrize("good", [(), (0, 6)])
def test_a_hopeless_design_ends_on_a_cluster_too(good: tuple[int, ...], monkeypatch, tmp_path: Path) -> None:
    """Ten refusals in a row, over ranges shorter than that; a sample that is made begins the count anew."""
    fake = FakeRay()
    monkeypatch.setattr(cluster, "_ray", lambda: fake)
    ranges = []

    def make(directory: str, indices: range, arguments: dict[str, Any]) -> Summary:
        ranges.append(indices)
        made = sum(index in good for index in indices)
        return Summary(Path(directory), len(indices), made, 0, 0, len(indices) - made, 1.0)

    monkeypatch.setattr(cluster, "_make", make)
    arguments = {**tiny.ARGUMENTS, "priors": tiny.tiny_priors()}  # 12 samples
    if good:
        assert generate_on_cluster(tmp_path, block=4, **arguments).refused == 10
        assert (len(ranges), fake.cancelled) == (3, 0)
    else:
        with pytest.raises(RuntimeError, match=r"12 samples in a row refused; the records in .*refused say why"):
            generate_on_cluster(tmp_path, block=4, **arguments)
    assert fake.ended == 1
