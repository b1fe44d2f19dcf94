"""The devices of a training as a named mesh, and where its arrays lie on it.

The mesh has two axes. "data" splits a batch into rows, "space" splits each sample along its first spatial axis, for
volumes that do not fit one device. Parameters and optimiser state lie whole on every device.
"""

from collections.abc import Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

DATA, SPACE = "data", "space"

Tree = TypeVar("Tree")


def build_mesh(devices_per_sample: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Mesh of the axes "data" and "space" over devices, by default all of every process.

    The devices of a process stand together: the spatial axis, which exchanges boundary layers at every convolution,
    runs inside a host as far as it can, and a process owns a contiguous range of the rows of a batch.

    Args:
      devices_per_sample: length of the spatial axis.
      devices: what to build it of.

    Raises:
      ValueError: the devices cannot be divided so.

    >>> import jax
    >>> mesh = build_mesh(devices=jax.devices()[:1])
    >>> dict(mesh.shape)
    {'data': 1, 'space': 1}
    """
    devices = jax.devices() if devices is None else devices
    if devices_per_sample < 1 or len(devices) % devices_per_sample:
        raise ValueError(f"devices_per_sample: found {devices_per_sample}, accepted is a divisor of {len(devices)}")
    ordered = sorted(devices, key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(ordered, dtype=object).reshape(-1, devices_per_sample), (DATA, SPACE))


def patch_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of patches ``(b, nx, ny, nz, h)``: rows over "data", x over "space".

    >>> import jax
    >>> tuple(patch_sharding(build_mesh(devices=jax.devices()[:1])).spec)
    ('data', 'space')
    """
    return NamedSharding(mesh, PartitionSpec(DATA, SPACE))


def replicated(mesh: Mesh) -> NamedSharding:
    """Sharding of what lies whole on every device.

    >>> import jax
    >>> replicated(build_mesh(devices=jax.devices()[:1])).is_fully_replicated
    True
    """
    return NamedSharding(mesh, PartitionSpec())


def rows_of_process(mesh: Mesh | None, count: int) -> tuple[int, int]:
    """Number of the first row of a batch of ``count`` that this process needs, and how many.

    Processes that share a sample along "space" need the same rows.

    >>> rows_of_process(None, 32)
    (0, 32)
    """
    if mesh is None:
        return 0, count
    needed = NamedSharding(mesh, PartitionSpec(DATA)).addressable_devices_indices_map((count,))
    ranges = [index[0].indices(count) for index in needed.values() if index is not None]
    first = min(start for start, _, _ in ranges)
    return first, max(stop for _, stop, _ in ranges) - first


def place_patches(
    mesh: Mesh | None, rows: Float[np.ndarray, "rows nx ny nz h"], count: int
) -> Float[Array, "b nx ny nz h"]:
    """The batch of ``count`` patches, of which this process hands in the rows that `rows_of_process` names.

    >>> place_patches(None, np.zeros((2, 4, 4, 4, 9), np.float32), 2).shape
    (2, 4, 4, 4, 9)
    """
    if mesh is None:
        return jnp.asarray(rows)
    shape = (count, *rows.shape[1:])
    return jax.make_array_from_process_local_data(patch_sharding(mesh), np.asarray(rows), shape)


def place_whole(mesh: Mesh | None, tree: Tree) -> Tree:
    """A tree of arrays that every process has alike, whole on every device of the mesh.

    >>> place_whole(None, {"w": np.ones(3)})["w"].tolist()
    [1.0, 1.0, 1.0]
    """
    if mesh is None:
        return tree
    everywhere = replicated(mesh)

    def place(leaf: jax.Array) -> jax.Array:
        values = np.asarray(leaf)
        return jax.make_array_from_process_local_data(everywhere, values, values.shape)

    return jax.tree.map(place, tree)


def on_this_process(tree: Tree) -> Tree:
    """A tree of arrays that lie whole on every device, as this process's first device has it.

    What a process computes for itself, such as a validation, must not wait for the devices of others.
    """
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)
