"""Rates of the dataset engine: what they are the median of, and the arithmetic to the paper's dataset."""

import json
from pathlib import Path

import pytest

from polymicros_jax.data import store, throughput
from polymicros_jax.data.errors import DataError


@pytest.fixture
def made(tmp_path: Path) -> store.Store:
    return store.create(tmp_path, samples=8, shape=(64, 64, 64), channels=9, settings={})


def test_the_first_sample_of_a_call_compiles_and_is_left_out(made: store.Store) -> None:
    assert throughput.throughput(made) == []
    assert "has come to its end" in throughput.sentences([], made.shape)[0]
    throughput.write_timing(made, [50.0, 2.0, 4.0], "gpu a")
    throughput.write_timing(made, [60.0, 3.0], "gpu a")
    throughput.write_timing(made, [9.0], "cpu")  # alone, it has to stand for itself
    throughput.write_timing(made, [], "cpu")  # a call that found everything done
    cpu, gpu = throughput.throughput(made)
    assert (cpu["samples"], cpu["median_seconds"]) == (1, 9.0)
    assert (gpu["samples"], gpu["median_seconds"], gpu["samples_per_hour"]) == (3, 3.0, 1200.0)
    # 3 s for 64^3, eight times that for 128^3, 30,000 times that: 720,000 s.
    assert gpu["paper_process_days"] == pytest.approx(30_000 * 8 * 3.0 / 86_400)
    text = "\n".join(throughput.sentences([gpu], made.shape))
    assert "1200 samples of 64 x 64 x 64 an hour" in text
    assert "8.333 days" in text


def test_cores_are_those_that_the_process_may_use(made: store.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {5}, raising=False)
    throughput.write_timing(made, [1.0, 2.0], "cpu")
    (one,) = throughput.throughput(made)
    assert one["cores"] == 1


def test_a_timing_that_cannot_be_read_is_named(made: store.Store) -> None:
    throughput.write_timing(made, [1.0, 2.0], "cpu")
    (path,) = (made.directory / "timings").iterdir()
    assert set(json.loads(path.read_text())) == {"device", "cores", "seconds"}
    path.write_text("{}")
    with pytest.raises(DataError, match=str(path)):
        throughput.throughput(made)
