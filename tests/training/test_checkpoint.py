"""Checkpoints: exact, few, complete, and refused where they do not belong."""

import os
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from polymicros_jax.data.errors import DataError
from polymicros_jax.training import checkpoint as module
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


def damaged(folder, part, how):
    """Damages the largest file of a checkpoint, which holds the arrays, or the index of them."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    path = max(files, key=lambda path: path.stat().st_size) if part == "arrays" else folder / "state" / part
    content = bytearray(path.read_bytes())
    if how == "one bit":
        content[len(content) // 2] ^= 0x10
    path.write_bytes(content[: len(content) // 2] if how == "cut" else content)


# What the array library had begun to read is dropped with a complaint of its own.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("part", "how", "reason"),
    [
        ("arrays", "one bit", r"is damaged: 0000\d\.\S+ is not what was saved"),
        ("arrays", "cut", "cannot be read"),
        ("manifest.ocdbt", "one bit", "is damaged or no checkpoint"),
    ],
    ids=["one bit of the arrays", "arrays cut short", "one bit of the index"],
)
def test_a_damaged_checkpoint_is_refused_by_name_and_the_one_before_is_offered(tmp_path, part, how, reason):
    checkpoints = opened(tmp_path)
    for step in (4, 8):
        checkpoints.save(state_of(step, seed=step, width=2000))
    checkpoints.close()
    damaged(tmp_path / "8", part, how)
    again = opened(tmp_path)
    with pytest.raises(DataError, match=rf"/8: {reason}.*; delete it to go on from step 4"):
        again.restore(state_of(0, width=2000))
    again.close()
    shutil.rmtree(tmp_path / "8")
    again = opened(tmp_path)
    assert_identical(again.restore(state_of(0, width=2000)), state_of(4, seed=4, width=2000))
    again.close()


def test_a_folder_that_is_no_checkpoint_is_refused_by_name(tmp_path):
    foreign = tmp_path / "6"
    foreign.mkdir()
    (foreign / "notes.txt").write_text("six")
    checkpoints = opened(tmp_path)
    with pytest.raises(DataError, match=r"/6: is damaged or no checkpoint.*it is the only one"):
        checkpoints.restore(state_of(0))
    checkpoints.close()
    assert (foreign / "notes.txt").read_text() == "six"


def test_checksums_see_every_word_and_its_place():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5, 7)).astype(np.float32)
    words = values.view(np.uint32).reshape(-1).astype(object)
    expected = sum(int(word) * (2 * place + 1) for place, word in enumerate(words)) % 2**32
    assert int(module._checksums({"a": jnp.asarray(values)})["a"]) == expected
    swapped = values.copy()
    swapped[[1, 3]] = swapped[[3, 1]]
    assert int(module._checksums({"a": jnp.asarray(swapped)})["a"]) != expected
    halves = module._checksums({"a": jnp.asarray(values, jnp.bfloat16), "step": jnp.asarray(3)})
    assert int(halves["step"]) == 3


def test_a_checkpoint_without_checksums_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_checksums", lambda leaves: {})
    checkpoints = opened(tmp_path)
    checkpoints.save(state_of(4, seed=4))
    monkeypatch.undo()
    assert_identical(checkpoints.restore(state_of(0)), state_of(4, seed=4))
    checkpoints.close()


def test_a_write_that_fails_keeps_what_was_there(tmp_path, monkeypatch):
    checkpoints = opened(tmp_path)

    def full(*args, **kwargs):
        (tmp_path / "8.orbax-checkpoint-tmp").mkdir()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints._checkpointer, "save", full)
    with pytest.raises(DataError, match="there is no complete one yet"):
        checkpoints.save(state_of(4, seed=4))
    monkeypatch.undo()
    # Opening the folder clears such remains in a thread of its own, which on a busy machine comes this late.
    shutil.rmtree(tmp_path / "8.orbax-checkpoint-tmp", ignore_errors=True)
    checkpoints.save(state_of(4, seed=4))
    monkeypatch.setattr(checkpoints._checkpointer, "save", full)
    with pytest.raises(DataError, match=r"step 8 could not be written: .*No space left on device; step 4 is complete"):
        checkpoints.save(state_of(8, seed=8))
    checkpoints.close()
    again = opened(tmp_path)
    assert again.latest == 4
    assert_identical(again.restore(state_of(0)), state_of(4, seed=4))
    again.close()


ON_A_SMALL_DISK = """
import sys
from pathlib import Path
import jax
import numpy as np
from polymicros_jax.training.checkpoint import Checkpoints
from polymicros_jax.training.step import Optimisation, create_state

folder = Path(sys.argv[1])

def state(step):
    params = {"kernel": np.random.default_rng(step).normal(size=(300, 200)).astype(np.float32)}
    made = create_state(jax.tree.map(jax.numpy.asarray, params), Optimisation(steps=9, batch=1))
    return made.replace(step=jax.numpy.asarray(step, "int32"))

checkpoints = Checkpoints(folder)
for step in (1, 2, 3, 4):
    try:
        checkpoints.save(state(step))
    except ValueError as error:
        print("refused", step, error)
        break
checkpoints.close()
again = Checkpoints(folder)
# What was half written may still be there, under a name that no checkpoint has: it is cleared in the background.
print("latest", again.latest, sorted(path.name for path in folder.iterdir() if path.name.isdigit()))
found = again.restore(state(0))
same = all(map(np.array_equal, jax.tree.leaves(found), jax.tree.leaves(state(again.latest))))
print("intact", same)
again.close()
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs a file system of its own")
def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path):
    # A state of 60,000 random parameters, their average and two moments of zeros takes 0.45 MB: two fit, a third does
    # not. Written under a temporary name, it must not be taken for a checkpoint.
    script = 'mount -t tmpfs -o size=1200k tmpfs {0} && exec {1} -c "$SCRIPT" {0}/checkpoints'
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script.format(tmp_path, sys.executable)]
    environment = {**os.environ, "SCRIPT": ON_A_SMALL_DISK, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip(f"no file system of its own: {done.stderr.splitlines()[0]}")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("refused 3 "), done.stdout + done.stderr
    assert "No space left on device" in lines[0]
    assert "step 2 is complete" in lines[0]
    assert lines[1:] == ["latest 2 ['1', '2']", "intact True"]
