"""Crystal symmetry acting on orientations: equivalents, fundamental zone. Tables of the groups are in `groups`."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from polymicros_jax.orientation.groups import LAUE_GROUPS, hamilton, operators
from polymicros_jax.orientation.quaternion import canonical, multiply
from polymicros_jax.types import ArrayLike

__all__ = ["LAUE_GROUPS", "equivalents", "in_fundamental_zone", "operators", "reduce_to_fundamental_zone"]


@partial(jax.jit, static_argnames="group")
def equivalents(q: Float[ArrayLike, "*batch 4"], group: str = "432") -> Float[Array, "*batch order 4"]:
    """All descriptions `s * q` of the same crystals, in the order of `operators(group)`.

    >>> from polymicros_jax.orientation.quaternion import from_euler
    >>> equivalents(from_euler(np.zeros(3)), "432").shape  # 24 descriptions of one cube
    (24, 4)
    """
    q = jnp.asarray(q)
    table = operators(group)
    ops = jnp.asarray(table, q.dtype).reshape((1,) * (q.ndim - 1) + table.shape)
    return multiply(ops, q[..., None, :])


@partial(jax.jit, static_argnames="group")
def reduce_to_fundamental_zone(q: Float[ArrayLike, "*batch 4"], group: str = "432") -> Float[Array, "*batch 4"]:
    """The equivalent description with the smallest rotation angle, `w >= 0`.

    On the boundary of the zone, where several share the smallest angle, the first in the order of `operators(group)`
    is taken.

    >>> from polymicros_jax.orientation.quaternion import angle, from_euler
    >>> reduced = reduce_to_fundamental_zone(from_euler(np.radians([80.0, 0.0, 0.0])))
    >>> round(float(np.degrees(angle(reduced))), 3)  # 80 degrees about z are -10 for a cube
    10.0
    """
    q = jnp.asarray(q)
    components = tuple(q[..., i] for i in range(4))
    best = components
    # One operation after the other, elementwise: XLA fuses them, so memory stays that of the result whatever the
    # order of the group.
    for operation in operators(group).tolist()[1:]:
        product = hamilton(operation, components)
        larger = jnp.abs(product[0]) > jnp.abs(best[0])
        best = tuple(jnp.where(larger, new, old) for new, old in zip(product, best, strict=True))
    return canonical(jnp.stack(best, axis=-1))


def in_fundamental_zone(q: np.ndarray, group: str = "432", tolerance: float = 1e-12) -> np.ndarray:
    """Whether no equivalent description has a smaller rotation angle, `(..., 4)` to boolean `(...)`; on the host.

    >>> from polymicros_jax.orientation.quaternion import from_euler
    >>> in_fundamental_zone(np.asarray(from_euler(np.radians([[40.0, 0.0, 0.0], [50.0, 0.0, 0.0]])))).tolist()
    [True, False]
    """
    scalar = q @ (operators(group) * np.array([1.0, -1.0, -1.0, -1.0])).T
    return np.abs(q[..., 0]) >= np.abs(scalar).max(axis=-1) - tolerance
