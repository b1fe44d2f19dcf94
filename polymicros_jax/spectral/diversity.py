"""How diverse is a set of microstructures: principal components of their two-point statistics (Sec. 3, Fig. 3).

Thousands of volumes do not fit in memory, their statistics hardly do. A `StreamingPca` keeps the mean, `rank`
directions and the total variance; batches are merged into it one after the other, and states of several workers into
one another. Its memory is ``rank`` feature vectors plus one batch. It is exact while no more than `rank` directions
carry variance; beyond that, each merge drops the smallest ones, and `captured` tells how much of the variance the
kept directions hold.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from polymicros_jax.choice import clip
from polymicros_jax.types import ArrayLike


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["count", "mean", "components", "singular_values", "squared_sum"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class StreamingPca:
    """State of a principal component analysis over samples seen so far.

    Attributes:
        count: number of samples, a float scalar.
        mean: mean feature vector, ``(features,)``.
        components: orthonormal directions in falling order of variance, ``(rank, features)``; zero rows where there
            are none yet.
        singular_values: of the centred data, ``(rank,)``.
        squared_sum: sum of squared distances from the mean over **all** directions, kept and dropped; a scalar.
    """

    count: Any
    mean: Any
    components: Any
    singular_values: Any
    squared_sum: Any


def features(statistics: PyTree[Float[ArrayLike, "..."]]) -> Float[Array, " features"]:
    """One vector from a pytree of statistics, for instance the orthogonal planes of a volume.

    Missing lags count as zero.

    >>> import numpy as np
    >>> features({"x": np.array([1.0, np.nan]), "y": np.eye(2)}).tolist()
    [1.0, 0.0, 1.0, 0.0, 0.0, 1.0]
    """
    return jnp.concatenate([jnp.nan_to_num(jnp.ravel(leaf)) for leaf in jax.tree.leaves(statistics)])


def empty(size: int, rank: int, dtype: jnp.dtype | type = jnp.float32) -> StreamingPca:
    """The state before any sample, for feature vectors of `size` entries and at most `rank` components.

    >>> state = empty(size=100, rank=5)
    >>> float(state.count), state.components.shape
    (0.0, (5, 100))
    """
    zero = jnp.zeros((), dtype)
    return StreamingPca(zero, jnp.zeros(size, dtype), jnp.zeros((rank, size), dtype), jnp.zeros(rank, dtype), zero)


@jax.jit
def update(state: StreamingPca, batch: Float[ArrayLike, "samples features"]) -> StreamingPca:
    """The state after a further batch of feature vectors. Any batch size from 1 on; two different ones compile twice.

    >>> import numpy as np
    >>> state = update(empty(size=3, rank=2), np.array([[1.0, 0.0, 0.0], [3.0, 0.0, 0.0]]))
    >>> state.mean.tolist(), abs(state.components[0]).round(3).tolist()
    ([2.0, 0.0, 0.0], [1.0, 0.0, 0.0])
    """
    batch = jnp.asarray(batch, state.mean.dtype)
    mean = jnp.mean(batch, axis=0)
    rows = batch - mean[None, :]
    return _combined(state, jnp.asarray(len(batch), mean.dtype), mean, rows, jnp.sum(rows**2))


@jax.jit
def merge(first: StreamingPca, second: StreamingPca) -> StreamingPca:
    """The state of the samples of both, with the rank of the first: for workers that each saw a part.

    >>> import numpy as np
    >>> parts = np.array([[0.0, 0.0], [2.0, 0.0]]), np.array([[4.0, 0.0], [6.0, 0.0]])
    >>> first, second = (update(empty(size=2, rank=1), part) for part in parts)
    >>> whole = merge(first, second)
    >>> float(whole.count), whole.mean.round(3).tolist()
    (4.0, [3.0, 0.0])
    """
    rows = second.singular_values[:, None] * second.components
    return _combined(first, second.count, second.mean, rows, second.squared_sum)


def _combined(state: StreamingPca, count: Array, mean: Array, rows: Array, squared_sum: Array) -> StreamingPca:
    """Adds samples given by their number, mean, and any rows with the same scatter matrix about that mean.

    The scatter of the union is the sum of the two and ``n1 n2 / (n1 + n2)`` times the outer product of the difference
    of means (Chan, Golub & LeVeque 1983), so stacking that difference as one more row and decomposing gives the
    union's components.
    """
    total = state.count + count
    share = count / jnp.maximum(total, 1)  # nothing and nothing is nothing
    offset = jnp.sqrt(state.count * share) * (mean - state.mean)
    stacked = jnp.concatenate([state.singular_values[:, None] * state.components, rows, offset[None, :]])
    _, values, directions = jnp.linalg.svd(stacked, full_matrices=False)
    noise = min(stacked.shape) * jnp.finfo(values.dtype).eps * values[0]
    values = jnp.where(values > noise, values, 0.0)
    directions = jnp.where(values[:, None] > 0, directions, 0.0)  # of no variance, and then any direction would do
    rank = len(state.singular_values)
    missing = max(0, rank - len(values))
    return StreamingPca(
        count=total,
        mean=state.mean + share * (mean - state.mean),
        components=jnp.pad(directions[:rank], ((0, missing), (0, 0))),
        singular_values=jnp.pad(values[:rank], (0, missing)),
        squared_sum=state.squared_sum + squared_sum + jnp.sum(offset**2),
    )


def variances(state: StreamingPca) -> Float[Array, " rank"]:
    """Variance along every component (divided by the number of samples less one).

    >>> import numpy as np
    >>> batch = np.array([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> variances(update(empty(size=2, rank=2), batch)).round(3).tolist()  # 18 / 3 and 2 / 3
    [6.0, 0.667]
    """
    return state.singular_values**2 / jnp.maximum(state.count - 1, 1)


def explained_variance_curve(state: StreamingPca) -> Float[Array, " rank"]:
    """Share of the total variance in the leading components, by their number; dropped directions are in the total.

    >>> import numpy as np
    >>> batch = np.array([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> explained_variance_curve(update(empty(size=2, rank=2), batch)).round(3).tolist()
    [0.9, 1.0]
    """
    return jnp.cumsum(state.singular_values**2) / clip(state.squared_sum, low=float(jnp.finfo(state.mean.dtype).tiny))


def captured(state: StreamingPca) -> Float[Array, ""]:
    """Share of the total variance in the kept components: near 1, the analysis is exact.

    >>> import numpy as np
    >>> batch = np.array([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> round(float(captured(update(empty(size=2, rank=1), batch))), 3)
    0.9
    """
    return explained_variance_curve(state)[-1]


def effective_rank(state: StreamingPca) -> Float[Array, ""]:
    """Exponential of the entropy of the variance shares (Roy & Vetterli 2007): k for k equal directions.

    Computed over the kept components alone, so it is at most `rank`; read it together with `captured`.

    >>> import numpy as np
    >>> batch = np.concatenate([np.eye(3), -np.eye(3)])
    >>> round(float(effective_rank(update(empty(size=3, rank=3), batch))), 3)
    3.0
    """
    power = state.singular_values**2
    share = power / clip(jnp.sum(power), low=float(jnp.finfo(power.dtype).tiny))
    return jnp.exp(-jnp.sum(jnp.where(share > 0, share * jnp.log(jnp.where(share > 0, share, 1)), 0)))


def scores(state: StreamingPca, batch: Float[ArrayLike, "samples features"]) -> Float[Array, "samples rank"]:
    """Coordinates of feature vectors along the components, from the mean (the axes of Fig. 3).

    Other data sets project too.

    >>> import numpy as np
    >>> state = update(empty(size=2, rank=1), np.array([[1.0, 0.0], [5.0, 0.0]]))
    >>> abs(scores(state, np.array([[3.0, 7.0], [4.0, 0.0]]))).round(3).tolist()
    [[0.0], [1.0]]
    """
    centred = jnp.asarray(batch) - state.mean[None, :]
    return jnp.matmul(centred, state.components.T, precision=jax.lax.Precision.HIGHEST)
