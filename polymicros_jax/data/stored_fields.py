"""A generated dataset as a source of training patches."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from polymicros_jax.data.store import Store, read_patch


@dataclasses.dataclass(frozen=True)
class StoredFields:
    """Complete samples of a store as a source of training patches (`patches.FieldSource`).

    Attributes:
      store: open dataset.
      indices: the samples to use, e.g. from `completed`.
    """

    store: Store
    indices: tuple[int, ...]

    @property
    def shapes(self) -> Sequence[tuple[int, int, int]]:
        """Grid of each field."""
        return (self.store.shape,) * len(self.indices)

    @property
    def channels(self) -> int:
        """Channels of every field."""
        return self.store.channels

    def read_patch(self, index: int, origin: tuple[int, int, int], size: int) -> Float[np.ndarray, "s s s h"]:
        """The cube of side ``size`` that starts at ``origin`` in the field at position ``index`` of the list."""
        return np.asarray(read_patch(self.store, self.indices[index], origin, size), np.float32)
