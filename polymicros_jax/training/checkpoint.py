"""Checkpoints of a training, with exact resume.

What comes back is what was saved, or an error that names the checkpoint: the arrays' own format notices a missing or
shortened file but restores a flipped bit in silence, so each leaf is saved with a checksum.
"""

import contextlib
from pathlib import Path

import jax
import jax.numpy as jnp
from jaxtyping import Array, UInt32
from orbax.checkpoint.experimental import v1 as ocp

from polymicros_jax.data.errors import DataError
from polymicros_jax.training.step import TrainState

_CHECKSUMS, _SECONDS = "checksums", "seconds"


class Checkpoints:
    """Numbered checkpoints in a folder; the latest two are kept. Each appears complete or not at all."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._failed = False
        self._checkpointer = ocp.training.Checkpointer(
            folder.absolute(),
            preservation_policy=ocp.training.preservation_policies.LatestN(2),
            cleanup_tmp_directories=True,
        )

    @property
    def latest(self) -> int | None:
        """Step of the newest complete checkpoint."""
        newest = self._checkpointer.latest
        return None if newest is None else newest.step

    @property
    def seconds(self) -> float:
        """Time spent up to the newest complete checkpoint, as `save` was told; 0 without one."""
        step = self.latest
        return (
            0.0 if step is None else float((self._checkpointer.metadata(step).custom_metadata or {}).get(_SECONDS, 0))
        )

    def save(self, state: TrainState, seconds: float = 0.0) -> None:
        """Writes the state under its step.

        Args:
          state: what to write.
          seconds: time the training has taken so far, over all its runs.

        Raises:
          DataError: it could not be written, because the disk is full for one; earlier checkpoints are as they were.
        """
        plain = _plain(state)
        sums = {name: int(value) for name, value in _checksums(plain).items()}
        notes = {_CHECKSUMS: sums, _SECONDS: seconds}
        try:
            self._checkpointer.save(int(state.step), plain, overwrite=True, custom_metadata=notes)
        except (OSError, ValueError) as error:  # the latter is how the array library reports a full disk
            self._failed = True
            kept = "there is no complete one yet" if self.latest is None else f"step {self.latest} is complete"
            raise DataError(
                f"{self._folder}: the checkpoint of step {int(state.step)} could not be written: {_first_line(error)}; "
                f"{kept}. Started again, the training goes on from there"
            ) from error

    def restore(self, like: TrainState) -> TrainState:
        """The newest state, with the shapes, types and shardings of ``like``, whatever devices wrote it.

        Raises:
          DataError: there is no checkpoint, it is damaged, or it belongs to another architecture or optimiser.
        """
        step, wanted = self.latest, _plain(like)
        if step is None:
            raise DataError(f"{self._folder}: no checkpoint in it")
        place = self._folder / str(step)
        abstract = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), wanted
        )
        # Damage shows as errors of many kinds in the libraries below, AttributeError among them: all are caught.
        try:
            described = self._checkpointer.metadata(step)
        except Exception as error:
            raise self._unusable(place, f"is damaged or no checkpoint: {_first_line(error)}") from error
        if described.metadata is None:
            raise self._unusable(place, "is damaged or no checkpoint: the list of its arrays cannot be read")
        found = {name: leaf.shape for name, leaf in described.metadata.items()}
        for name in sorted(found.keys() | wanted.keys()):
            shape = wanted[name].shape if name in wanted else None
            if found.get(name) != shape:
                raise DataError(
                    f"{self._folder}: {name} of step {step} has shape {found.get(name)}, this training's has {shape}"
                )
        try:
            restored = self._checkpointer.load(step, abstract)
        except Exception as error:
            raise self._unusable(place, f"cannot be read: {_first_line(error)}") from error
        # Checkpoints of earlier versions carry no sums.
        saved = (described.custom_metadata or {}).get(_CHECKSUMS, {})
        for name, value in _checksums(restored).items():
            if name in saved and int(value) != saved[name]:
                raise self._unusable(place, f"is damaged: {name} is not what was saved (checksum {int(value)})")
        return jax.tree.unflatten(jax.tree.structure(like), jax.tree.leaves(restored))

    def _unusable(self, place: Path, reason: str) -> DataError:
        older = [int(path.name) for path in self._folder.iterdir() if path.name.isdigit() and path != place]
        hint = f"delete it to go on from step {max(older)}" if older else "it is the only one: give another --workdir"
        return DataError(f"{place}: {reason}; {hint}")

    def close(self) -> None:
        """Waits for what is being written."""
        # A failed write is reported by `save`; the library would report it again.
        with contextlib.suppress(*((OSError, ValueError) if self._failed else ())):
            self._checkpointer.close()


def _plain(state: TrainState) -> dict:
    """The leaves under their numbers and paths: a flat dict outlives a change of the classes that hold them."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {f"{number:05d}{jax.tree_util.keystr(path)}": leaf for number, (path, leaf) in enumerate(leaves)}


@jax.jit
def _checksums(leaves: dict[str, jax.Array]) -> dict[str, UInt32[Array, ""]]:
    """Sum of each leaf's words times an odd number of their place, modulo 2^32.

    An odd factor is invertible, so that no change of a single word goes unseen; and integers add up to the same on any
    number of devices.
    """

    def checksum(leaf: Array) -> Array:
        word = jnp.dtype(f"uint{8 * min(leaf.dtype.itemsize, 4)}")
        words = jax.lax.bitcast_convert_type(leaf, word).astype(jnp.uint32)
        place, stride = jnp.zeros(words.shape, jnp.uint32), 1
        for axis in reversed(range(words.ndim)):
            place = place + jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis) * jnp.uint32(stride % 2**32)
            stride *= words.shape[axis]
        return jnp.sum(words * (2 * place + 1), dtype=jnp.uint32)

    return {name: checksum(leaf) for name, leaf in leaves.items()}


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:400]
