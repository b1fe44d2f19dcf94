"""The chain, killed with SIGKILL in the middle and started again, ends as an unbroken one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from polymicros_jax import bootstrap
from polymicros_jax.config import Config, default
from polymicros_jax.data import store
from polymicros_jax.results import Results
from polymicros_jax.training.prior import load_prior

sys.path.insert(0, str(Path(__file__).parent))
import config_files

CHAIN = """
import sys
sys.path.insert(0, {tests!r})
import config_files

def get_config():
    config = config_files.load("bootstrap_cpu")
    del config.bootstrap["1_local_al1050"]
    del config.bootstrap["3_pretrain"]
    del config.bootstrap["6_expand"]
    for name, stage in config.bootstrap.items():
        if stage.task == "train":
            config_files.shrink_training(stage, steps=4)
    generate = config_files.shrink_generation(config.bootstrap["2_generate"])
    generate.generate.priors = ("stage:1_local_in100/local_in100.safetensors",)
    generate.generate.covariances = 2
    config.bootstrap["4_finetune"].train.initial = "stage:1_local_in100/local_in100.safetensors"
    fill = config.bootstrap["5_super_resolve"].super_resolve
    fill.volume.stop = (16, 16, 17)
    fill.steps = 4
    return config
"""


def _start(config: Path, workdir: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "polymicros_jax.main", f"--config={config}", f"--workdir={workdir}"]
    return subprocess.Popen(command, cwd=config_files.ROOT, start_new_session=True)


def _kill_when(process: subprocess.Popen[bytes], happened: Path) -> None:
    """Kills the process as soon as a file is there."""
    deadline = time.monotonic() + 600
    while not list(happened.parent.glob(happened.name)):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_a_stage_may_write_elsewhere(tmp_path: Path) -> None:
    elsewhere, workdir = tmp_path / "dataset" / "README.md", tmp_path / "run"
    workdir.mkdir()
    (workdir / "config.json").write_text("{}")

    def run(stage: Config, folder: Path) -> Results:
        return Results("made", [folder / "report.html", elsewhere])

    results = bootstrap.run({"1_first": default("generate")}, workdir, run)
    assert results.summary == "== 1_first (generate)\nmade"
    assert results.files == [workdir / "report.html", workdir / "1_first" / "report.html", elsewhere]
    page = (workdir / "report.html").read_text()
    assert f"Files: 1_first/report.html, {elsewhere}" in page


@pytest.mark.slow
def test_a_killed_chain_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    config = tmp_path / "chain.py"
    config.write_text(CHAIN.format(tests=str(Path(__file__).parent)))
    broken, unbroken = tmp_path / "broken", tmp_path / "unbroken"
    _kill_when(_start(config, broken), broken / "1_local_in100" / "checkpoints" / "2")
    _kill_when(_start(config, broken), broken / "2_generate" / "dataset" / "records" / "*0.json")
    _kill_when(_start(config, broken), broken / "5_super_resolve" / "config.json")
    for folder in (broken, unbroken):
        assert _start(config, folder).wait() == 0
    for stage in ("1_local_in100/local_in100", "4_finetune/finetuned"):
        a, b = (load_prior(folder / f"{stage}.safetensors").params for folder in (broken, unbroken))
        for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            np.testing.assert_array_equal(one, other)
    a, b = (store.open(folder / "2_generate" / "dataset") for folder in (broken, unbroken))
    assert store.completed(a) == store.completed(b) == [0, 1]
    for index in (0, 1):
        np.testing.assert_array_equal(store.read_volume(a, index), store.read_volume(b, index))
    a, b = (np.load(folder / "5_super_resolve" / "reconstruction.npz") for folder in (broken, unbroken))
    np.testing.assert_array_equal(a["quaternions"], b["quaternions"])
    scores = [json.loads((folder / "5_super_resolve" / "metrics.json").read_text()) for folder in (broken, unbroken)]
    for method in scores[0]["methods"]:
        for table in scores:
            del table["methods"][method]["seconds"]
    assert scores[0] == scores[1]
    logs = [(folder / "4_finetune" / "metrics.jsonl").read_text() for folder in (broken, unbroken)]
    assert logs[0] == logs[1]
