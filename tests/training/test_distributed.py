"""Several processes: the same losses as one, each its own rows, one that writes, checkpoints for any device count."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from polymicros_jax import train as loop
from polymicros_jax.training import distributed
from polymicros_jax.training.distributed import COORDINATOR, PROCESS, PROCESSES, Cluster, requested

sys.path.insert(0, str(Path(__file__).parent))
import training_process as program

LAUNCH = Path(__file__).parents[2] / "launch"
# Sums over a batch of 8 x 8^3 x 9 values in another order, through six steps of Adam at a rate of 0.05. The gradient of
# no parameter is so near zero that Adam's quotient would turn its rounding into a step of another sign.
RELATIVE = 1e-5


def start(folder, stop, *, devices, cluster=None):
    alone = {name: value for name, value in os.environ.items() if name not in (COORDINATOR, PROCESSES, PROCESS)}
    environment = {**alone, **(cluster or {}), "JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, program.__file__, str(folder), str(stop)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process):
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return json.loads(output.splitlines()[-1]), errors


def losses(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    return np.array([[line["loss"], line["gradient_norm"]] for line in lines])


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """Losses of one process on one device, without a mesh."""
    folder = tmp_path_factory.mktemp("one")
    program.run(folder)
    return losses(folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two processes of two devices that stop at the checkpoint, beside one process of four that runs to the end."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    root = tmp_path_factory.mktemp("processes")
    cluster = {COORDINATOR: coordinator, PROCESSES: "2"}
    started = [
        start(root / "two", program.CHECKPOINT, devices=2, cluster={**cluster, PROCESS: str(process)})
        for process in range(2)
    ]
    started.append(start(root / "four", program.STEPS, devices=4))
    try:
        return root, [finished(process) for process in started]
    finally:
        for process in started:
            process.kill()


def test_two_processes_have_the_losses_of_one(one, trained):
    root, reports = trained
    assert [(report["process"], report["devices"]) for report, _ in reports] == [(0, 4), (1, 4), (0, 4)]
    whole = losses(root / "four")
    assert whole.shape == (program.STEPS, 2)
    assert np.abs(np.diff(whole[:, 0])).min() > 100 * RELATIVE  # no step passes for another
    np.testing.assert_allclose(whole, one, rtol=RELATIVE)
    np.testing.assert_allclose(losses(root / "two"), whole[: program.CHECKPOINT], rtol=RELATIVE)


def test_each_process_makes_its_own_rows_only(trained):
    _, reports = trained
    half = program.BATCH // 2
    expected = [(0, half), (half, half), (0, program.BATCH)]
    for (report, _), (first, count), steps in zip(reports, expected, (3, 3, 6), strict=True):
        assert report["rows"] == [[step, first, count] for step in range(steps)]


def test_one_process_writes(trained):
    root, reports = trained
    assert "training: " not in reports[1][1]
    assert "training: " in reports[2][1]
    stopped = {path.name for path in (root / "two").iterdir()}
    assert stopped >= {"checkpoints", "config.json", "environment.json", "metrics.jsonl"}
    assert stopped.isdisjoint({"prior.safetensors", "results.json"})
    assert {path.name for path in (root / "four").iterdir()} >= {"prior.safetensors", "prior.json", "results.json"}


def test_a_checkpoint_of_two_processes_resumes_on_one_device(one, trained):
    root, _ = trained
    made = program.run(root / "two")
    assert made == [(step, 0, program.BATCH) for step in range(program.CHECKPOINT, program.STEPS)]
    np.testing.assert_allclose(losses(root / "two"), one, rtol=RELATIVE)


@pytest.mark.parametrize("error", ["rows of the other", "half the batch"])
def test_wrong_rows_and_gradients_that_are_not_averaged_would_show(one, tmp_path, monkeypatch, error):
    make, half = loop.batch, program.BATCH // 2

    def spoiled(source, *, first, count, **options):
        rows = make(source, first=first, count=half, **options)
        others = rows if error == "rows of the other" else np.zeros_like(rows)
        return np.concatenate([rows, others])

    monkeypatch.setattr(loop, "batch", spoiled)
    program.run(tmp_path / "run", stop=2)
    assert (np.abs(losses(tmp_path / "run") / one[:2] - 1) > 100 * RELATIVE).all()


def test_what_an_environment_asks_for():
    assert requested({}) is None
    three = {COORDINATOR: "host:1234", PROCESSES: "4", PROCESS: "3"}
    assert requested(three) == Cluster("host:1234", 4, 3)
    # srun sets the step's variables; the batch script around it has the job's alone, and works alone.
    job = {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8", "SLURM_PROCID": "0"}
    assert requested(job) is None
    assert requested({**job, "SLURM_STEP_NUM_TASKS": "1"}) is None
    assert requested({**job, "SLURM_STEP_NUM_TASKS": "8"}) == Cluster()
    assert requested({**job, "SLURM_STEP_NUM_TASKS": "8", **three}) == Cluster("host:1234", 4, 3)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({PROCESS: ""}, f"found {COORDINATOR}, {PROCESSES} without {PROCESS}"),
        ({PROCESSES: "four"}, "'four'; accepted are whole numbers"),
        ({PROCESS: "4"}, f"{PROCESS} is 4, accepted are 0 to {PROCESSES} - 1 = 3"),
    ],
)
def test_an_environment_that_cannot_be_joined_is_refused(change, reason):
    with pytest.raises(ValueError, match=reason):
        requested({COORDINATOR: "host:1234", PROCESSES: "4", PROCESS: "3", **change})


def test_how_a_cluster_is_joined(monkeypatch):
    calls = []
    monkeypatch.setattr("jax.distributed.initialize", lambda *args, **options: calls.append((args, options)))
    distributed.join(None)
    assert calls == []
    distributed.join(Cluster("host:1", 2, 1))
    distributed.join(Cluster())
    methods = [{"cluster_detection_method": name} for name in ("deactivate", "slurm")]
    assert calls == [(("host:1", 2, 1), methods[0]), ((None, None, None), methods[1])]


def test_alone_there_is_nobody_to_wait_for():
    distributed.wait_for_all("anywhere")
    assert distributed.is_writer()


def launched(tmp_path, script, **environment):
    """Environment and arguments that a launcher hands to Python, through an ``srun`` that only runs its command."""
    fake = tmp_path / "srun"
    fake.write_text('#!/usr/bin/env bash\nwhile [[ $1 == --* ]]; do shift; done\nSLURM_STEP_NUM_TASKS=16 exec "$@"\n')
    python = tmp_path / "python"
    show = "import json, os, sys; print(json.dumps([dict(os.environ), sys.argv[1:]]))"
    python.write_text(f"#!/usr/bin/env bash\nexec {sys.executable} -c '{show}' \"$@\"\n")
    for path in (fake, python):
        path.chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON": str(python)}
    command = [str(LAUNCH / script), "configs/some.py", str(tmp_path), "--config.seed=3"]
    output = subprocess.run(command, env={**path, **environment}, capture_output=True, text=True, check=True).stdout
    found, arguments = json.loads(output)
    expected = ["--config=configs/some.py", f"--workdir={tmp_path}", "--config.seed=3"]
    assert arguments == ["-m", "polymicros_jax.main", *expected]
    return found


def test_launchers_ask_for_the_cluster_they_promise(tmp_path):
    assert requested(launched(tmp_path, "train_multi_gpu.sh")) is None
    assert requested(launched(tmp_path, "train_slurm.sh", SLURM_NTASKS="16")) == Cluster()
    hosts = launched(tmp_path, "train_hosts.sh", COORDINATOR="first:1234", HOSTS="2", HOST="1")
    assert requested(hosts) == Cluster("first:1234", 2, 1)


def test_the_pods_of_a_job_set_are_one_cluster():
    manifest = yaml.safe_load((LAUNCH / "train_jobset.yaml").read_text())
    (workers,) = manifest["spec"]["replicatedJobs"]
    job = workers["template"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    given = {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}
    assert given.pop(PROCESS) == {"fieldRef": {"fieldPath": index}}
    name = manifest["metadata"]["name"]
    assert requested({**given, PROCESS: "1"}) == Cluster(f"{name}-{workers['name']}-0-0.{name}:1234", 2, 1)
    assert (job["parallelism"], job["completions"], job["completionMode"]) == (2, 2, "Indexed")
    assert container["ports"] == [{"containerPort": 1234}]
