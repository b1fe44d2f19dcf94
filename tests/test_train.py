"""The training loop: resumed runs, stopped runs, and that it learns."""

import json
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polymicros_jax import experiment
from polymicros_jax import train as module
from polymicros_jax.data.errors import DataError
from polymicros_jax.data.patches import MemoryFields
from polymicros_jax.models import unet3d
from polymicros_jax.train import train
from polymicros_jax.training import step as step_module
from polymicros_jax.training.ema import EmaLaw
from polymicros_jax.training.prior import Prior
from polymicros_jax.training.step import Optimisation

OPTIMISATION = Optimisation(steps=24, batch=4, learning_rate=0.1, warmup=4, ema=EmaLaw(0.8))
NETWORK = unet3d.UNet3DConfig(channels=2, width=8, multipliers=(1,), blocks=1)
FIELD = np.full((6, 6, 6, 2), (0.5, -0.5), np.float32)


@pytest.fixture(autouse=True)
def linear_network(monkeypatch):
    """A network of eight numbers, ``F(x, c) = x w + c b + a``, in the UNet's place: it compiles at once."""

    def apply(config, params, x, c_noise, *, padding="replicate"):
        level = jnp.asarray(c_noise).reshape(-1, 1, 1, 1, 1)
        slope, shift = (params[name].reshape(1, 1, 1, 1, 2) for name in ("slope", "shift"))
        return jnp.einsum("bxyzh,hg->bxyzg", x, params["mix"]) + level * slope + shift

    monkeypatch.setattr(unet3d, "apply", apply)


@pytest.fixture(autouse=True)
def one_program(monkeypatch):
    """Runs of one architecture and seed share one compiled step."""

    def build(network, sigma_data, representation, optimisation, key, **options):
        name = (network, optimisation, int(jax.random.key_data(key)[1]))
        if name not in PROGRAMS:
            PROGRAMS[name] = step_module.build_step(network, sigma_data, representation, optimisation, key, **options)
        return PROGRAMS[name]

    monkeypatch.setattr(module, "build_step", build)


PROGRAMS: dict = {}


def initial():
    params = {"mix": jnp.zeros((2, 2)), "slope": jnp.zeros(2), "shift": jnp.zeros(2)}
    return Prior(params=params, network=NETWORK, sigma_data=0.5, representation="rogsh3")


def run(folder, fields=(FIELD,), *, seed=3, start=None, **options):
    defaults = {"patch": 4, "checkpoint_every": 5, "log_every": 4, "validate_every": 8}
    return train(folder, start or initial(), MemoryFields(fields), OPTIMISATION, seed=seed, **(defaults | options))


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def varied():
    """Fields whose every patch differs, so that a repeated or skipped step would change the result."""
    return (np.random.default_rng(0).normal(size=(9, 8, 7, 2)).astype(np.float32),)


class Killed(Exception):
    """Stands for a kill."""


def test_a_stopped_run_ends_as_an_unbroken_one_bit_for_bit(tmp_path, monkeypatch):
    start = initial()
    whole, account = run(tmp_path / "whole", varied(), start=start)
    make, asked = module.batch, []

    def broken(source, *, step, **options):
        asked.append(step)
        if step == 13:
            raise Killed
        return make(source, step=step, **options)

    monkeypatch.setattr(module, "batch", broken)
    with pytest.raises(Killed):
        run(tmp_path / "broken", varied(), start=start)
    assert [line["step"] for line in lines(tmp_path / "broken")] == [4, 8, 12]
    asked.clear()

    def recorded(source, *, step, **options):
        asked.append(step)
        return make(source, step=step, **options)

    monkeypatch.setattr(module, "batch", recorded)
    resumed, _ = run(tmp_path / "broken", varied(), start=start)
    # Thirteen steps were done, ten of them kept by a checkpoint.
    assert asked == list(range(10, 24))
    for one, other in zip(jax.tree.leaves(resumed.params), jax.tree.leaves(whole.params), strict=True):
        np.testing.assert_array_equal(one, other)
    assert account["steps"] == 24
    # No step is logged twice; the line at 12 averages the steps since the resume.
    steps = [line["step"] for line in lines(tmp_path / "broken")]
    assert steps == [line["step"] for line in lines(tmp_path / "whole")] == [4, 8, 12, 16, 20, 24]
    assert lines(tmp_path / "broken")[3:] == lines(tmp_path / "whole")[3:]


def test_a_finished_run_does_nothing_more(tmp_path, monkeypatch):
    first, _ = run(tmp_path)
    monkeypatch.setattr(module, "batch", None)
    second, _ = run(tmp_path)
    for one, other in zip(jax.tree.leaves(first.params), jax.tree.leaves(second.params), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [line["step"] for line in lines(tmp_path)] == [4, 8, 12, 16, 20, 24]


@pytest.mark.parametrize("compared", [False, True])
def test_the_task_ends_in_a_table_of_what_its_card_says(compared, tmp_path):
    objects = experiment.Training(
        seed=3,
        initial=initial(),
        previous=initial() if compared else None,
        source=MemoryFields((FIELD,)),
        optimisation=OPTIMISATION,
        patch=4,
        symmetries=None,
        weights=None,
        rotate=None,
        validation=FIELD[None, :4, :4, :4],
        validate_every=24,
        checkpoint_every=24,
        sheet_every=0,
        mesh=None,
        name="tiny",
        storage="float32",
        data={"previous": "old"},
    )
    results = module.run(objects, tmp_path)
    card = json.loads((tmp_path / "tiny.json").read_text())["training"]
    found = [re.split(r"  +", line) for line in results.summary.splitlines()]
    wanted = {"steps": ["24", "–"], "patches per step": ["4", "–"], "time (s)": [f"{card['seconds']:.4g}", "–"]}
    for sigma, error in card["relative_error"].items():
        before = card["previous_relative_error"][sigma] if compared else 0.0
        wanted[f"relative error at noise {sigma}"] = [f"{error:.4g}", f"{before:.4g}"]
    columns = 3 if compared else 2
    assert found == [
        ["training", "tiny", "old before"][:columns],
        *([name, *cells][:columns] for name, cells in wanted.items()),
    ]
    assert list(results.files) == [tmp_path / "tiny.safetensors", tmp_path / "tiny.json"]


def test_it_learns_a_constant_field(tmp_path):
    validation = np.stack([FIELD[:4, :4, :4]] * 2)
    prior, account = run(tmp_path, validation=validation, log_every=1)
    losses = [line["loss"] for line in lines(tmp_path) if "loss" in line]
    # A network that answers zero scores 1 in expectation; 128 values of its noise a step scatter by sqrt(2 / 512).
    assert abs(losses[0] - 1.0) < 5 * np.sqrt(2 / 512)
    assert np.mean(losses[-4:]) < 0.5
    scored = [line["step"] for line in lines(tmp_path) if "relative_error" in line]
    assert scored == [8, 16, 24]
    errors = account["relative_error"]
    assert errors == lines(tmp_path)[-1]["relative_error"]
    # Better than the filter it began as, s / sqrt(s^2 + d^2), wherever there is noise to speak of.
    for sigma in (0.4, 1.6, 6.4):
        assert errors[f"{sigma:g}"] < 0.9 * sigma / np.hypot(sigma, 0.5)
    assert not np.array_equal(prior.params["shift"], initial().params["shift"])


def test_data_that_are_no_numbers_stop_the_run_before_a_checkpoint(tmp_path, monkeypatch):
    make = module.batch

    def spoiled(source, *, step, **options):
        return make(source, step=step, **options) * (np.nan if step >= 6 else 1.0)

    monkeypatch.setattr(module, "batch", spoiled)
    with pytest.raises(FloatingPointError, match=r"step 6, counted from 0, of seed 3: .*loss is nan"):
        run(tmp_path)
    assert [line["step"] for line in lines(tmp_path)] == [4]
    # The checkpoint of step 5 is sound: the run goes on once the data are.
    monkeypatch.setattr(module, "batch", make)
    prior, _ = run(tmp_path)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(prior.params))


def test_a_checkpoint_is_never_written_of_what_is_not_finite(tmp_path, monkeypatch):
    # Checkpoints more often than lines of the log: the loss is looked at before either.
    make = module.batch
    monkeypatch.setattr(
        module, "batch", lambda source, *, step, **o: make(source, step=step, **o) * (np.nan if step == 6 else 1.0)
    )
    with pytest.raises(FloatingPointError, match="step 6"):
        run(tmp_path, checkpoint_every=2, log_every=20)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir() if path.is_dir()) == ["4", "6"]


def test_weights_that_are_not_finite_are_never_validated(tmp_path, monkeypatch):
    # Validation between lines of the log and checkpoints: the loss is looked at before it replaces the last weights.
    make = module.batch
    monkeypatch.setattr(
        module, "batch", lambda source, *, step, **o: make(source, step=step, **o) * (np.nan if step == 6 else 1.0)
    )
    held_out = np.stack([FIELD[:4, :4, :4]] * 2)
    with pytest.raises(FloatingPointError, match="step 6"):
        run(tmp_path, checkpoint_every=20, log_every=20, validate_every=4, validation=held_out)
    assert [line["step"] for line in lines(tmp_path)] == [4]
    assert all(np.isfinite(each) for each in lines(tmp_path)[0]["relative_error"].values())


def test_a_field_smaller_than_a_patch_stops_before_anything_is_written(tmp_path):
    with pytest.raises(DataError, match=r"field 1 has the grid \(6, 3, 6\): smaller than a patch of 4\^3"):
        run(tmp_path / "run", (FIELD, FIELD[:, :3]))
    assert not (tmp_path / "run").exists()


def test_another_network_cannot_resume(tmp_path):
    run(tmp_path)
    other = initial().replace(params={**initial().params, "mix": jnp.zeros((3, 3))})
    with pytest.raises(ValueError, match="checkpoints"):
        run(tmp_path, start=other)


ON_DEVICES = """
import json, sys
from pathlib import Path
import jax, numpy as np
from polymicros_jax.data.patches import MemoryFields
from polymicros_jax.models import unet3d
from polymicros_jax.train import train
from polymicros_jax.training.mesh import build_mesh
from polymicros_jax.training.prior import Prior
from polymicros_jax.training.step import Optimisation

config = unet3d.UNet3DConfig(channels=2, width=8, multipliers=(1,), blocks=1, heads=1, head_width=4)
shapes = jax.eval_shape(lambda key: unet3d.init(key, config), jax.random.key(0))
rng = np.random.default_rng(0)
params = jax.tree.map(lambda leaf: (0.3 * rng.normal(size=leaf.shape)).astype(np.float32), shapes)
prior = Prior(params=jax.tree.map(jax.numpy.asarray, params), network=config, sigma_data=1.0, representation="rogsh3")
source = MemoryFields((rng.normal(size=(6, 6, 6, 2)).astype(np.float32),))
mesh = build_mesh() if jax.device_count() > 1 else None
optimisation = Optimisation(steps=6, batch=4, accumulate=2, warmup=0, learning_rate=1e-3)
folder = Path(sys.argv[1])
limit = int(sys.argv[2])
from polymicros_jax import train as module
make = module.batch
def batch(source, *, step, **options):
    if step == limit:
        raise KeyboardInterrupt
    return make(source, step=step, **options)
module.batch = batch
try:
    train(folder, prior, source, optimisation, seed=1, patch=4, checkpoint_every=3, log_every=1, mesh=mesh)
except KeyboardInterrupt:
    pass
"""


@pytest.mark.slow
def test_two_devices_and_a_resume_on_them_give_the_losses_of_one(tmp_path):
    def on(devices, folder, limit):
        subprocess.run(
            [sys.executable, "-c", ON_DEVICES, str(tmp_path / folder), str(limit)],
            check=True,
            env={**os.environ, "JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu"},
        )
        return [line["loss"] for line in lines(tmp_path / folder)]

    one = on(1, "one", -1)
    assert len(one) == 6
    assert len(on(2, "two", 4)) == 4
    # Sums over the batch in another order, through six steps of Adam at rate 1e-3.
    np.testing.assert_allclose(on(2, "two", -1), one, rtol=1e-4)
