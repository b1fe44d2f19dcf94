"""Checkpoints: exact, few, complete, and refused where they do not belong."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from polymicros_jax.training.checkpoint import Checkpoints
from polymicros_jax.training.step import Optimisation, TrainState, create_state


def state_of(step, seed=0, width=3, optimiser=None):
    """A state whose every leaf is random, with values that no decimal text would keep."""
    key = jax.random.key(seed)
    params = {"a": {"kernel": jax.random.normal(key, (width, 2))}, "b": jnp.array([1e-30, 1 / 3])}
    state = create_state(params, Optimisation(steps=10, batch=1))
    if optimiser is not None:
        state = state.replace(optimiser=optimiser.init(params))
    leaves, tree = jax.tree.flatten(state)
    keys = jax.random.split(key, len(leaves))
    noisy = [
        leaf + jax.random.normal(k, leaf.shape) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf + step
        for leaf, k in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(tree, noisy).replace(step=jnp.asarray(step, jnp.int32))


def assert_identical(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def opened(folder):
    return Checkpoints(folder)


def test_what_comes_back_is_bit_identical_and_only_two_are_kept(tmp_path):
    saved = {step: state_of(step, seed=step) for step in (4, 8, 12)}
    checkpoints = opened(tmp_path / "checkpoints")
    assert checkpoints.latest is None
    for step, state in saved.items():
        checkpoints.save(state)
        assert checkpoints.latest == step
    checkpoints.close()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir() if path.is_dir()) == ["12", "8"]
    again = opened(tmp_path / "checkpoints")
    restored = again.restore(state_of(0, seed=99))
    again.close()
    assert isinstance(restored, TrainState)
    assert_identical(restored, saved[12])
    with pytest.raises(AssertionError):
        assert_identical(restored, saved[8])


def test_the_last_checkpoint_can_be_written_again(tmp_path):
    checkpoints = opened(tmp_path)
    checkpoints.save(state_of(4, seed=1))
    checkpoints.save(state_of(4, seed=2))
    assert_identical(checkpoints.restore(state_of(0)), state_of(4, seed=2))
    checkpoints.close()


def test_a_checkpoint_cut_short_is_passed_over(tmp_path):
    checkpoints = opened(tmp_path)
    checkpoints.save(state_of(4, seed=4))
    checkpoints.save(state_of(8, seed=8))
    checkpoints.close()
    # A kill leaves what was being written under a temporary name.
    half = tmp_path / "12.orbax-checkpoint-tmp-1700000000"
    shutil.copytree(tmp_path / "8", half)
    next(path for path in half.rglob("*") if path.is_file()).unlink()
    again = opened(tmp_path)
    assert again.latest == 8
    assert_identical(again.restore(state_of(0)), state_of(8, seed=8))
    again.close()
    assert not half.exists()


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (lambda: state_of(0, width=5), r"params\['a'\]\['kernel'\] of step 4 has shape \(3, 2\), .* has \(5, 2\)"),
        (lambda: state_of(0, optimiser=optax.sgd(0.1)), r"optimiser.*of step 4 has shape .*, this training's has None"),
        (
            lambda: state_of(0, optimiser=optax.chain(Optimisation(steps=9, batch=1).optimiser(), optax.trace(0.9))),
            r"optimiser.*of step 4 has shape None, this training's has",
        ),
    ],
    ids=["wider", "fewer leaves", "more leaves"],
)
def test_another_architecture_or_optimiser_is_refused(tmp_path, other, reason):
    checkpoints = opened(tmp_path)
    checkpoints.save(state_of(4))
    with pytest.raises(ValueError, match=reason):
        checkpoints.restore(other())
    checkpoints.close()


def test_an_empty_folder_has_nothing_to_restore(tmp_path):
    checkpoints = opened(tmp_path / "none")
    with pytest.raises(ValueError, match="none: no checkpoint"):
        checkpoints.restore(state_of(0))
    checkpoints.close()
