"""Checkpoints of a training, with exact resume."""

from pathlib import Path

import jax
from orbax.checkpoint.experimental import v1 as ocp

from polymicros_jax.training.step import TrainState


class Checkpoints:
    """Numbered checkpoints in a folder; the latest two are kept. Each appears complete or not at all."""

    def __init__(self, folder: Path):
        self._folder = folder
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

    def save(self, state: TrainState) -> None:
        """Writes the state under its step."""
        self._checkpointer.save(int(state.step), _plain(state), overwrite=True)

    def restore(self, like: TrainState) -> TrainState:
        """The newest state, with the shapes, types and shardings of ``like``, whatever devices wrote it.

        Raises:
          ValueError: there is no checkpoint, or it belongs to another architecture or optimiser.
        """
        step, wanted = self.latest, _plain(like)
        if step is None:
            raise ValueError(f"{self._folder}: no checkpoint in it")
        found = {name: leaf.shape for name, leaf in self._checkpointer.metadata(step).metadata.items()}
        for name in sorted(found.keys() | wanted.keys()):
            shape = wanted[name].shape if name in wanted else None
            if found.get(name) != shape:
                raise ValueError(
                    f"{self._folder}: {name} of step {step} has shape {found.get(name)}, this training's has {shape}"
                )
        abstract = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), wanted
        )
        restored = self._checkpointer.load(step, abstract)
        return jax.tree.unflatten(jax.tree.structure(like), jax.tree.leaves(restored))

    def close(self) -> None:
        """Waits for what is being written."""
        self._checkpointer.close()


def _plain(state: TrainState) -> dict:
    """The leaves under their paths: a nested dict survives a change of the optimiser library, a class does not."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {f"{number:05d}{jax.tree_util.keystr(path)}": leaf for number, (path, leaf) in enumerate(leaves)}
