"""The representations of an orientation field, by name.

Everything downstream takes its number of channels and scale from here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np

from polymicros_jax.orientation import embedding, rogsh


@dataclass(frozen=True)
class Representation:
    """How orientations become channels and back.

    Attributes:
        name: the key of `get`.
        group: proper rotation group of the Laue class whose equivalents share one value.
        channels: number H of real channels.
        sigma_data: root mean square over channels of the standard deviation under uniform texture; a trained prior
            measures its own.
        encode: quaternions `(..., 4)` to `(..., H)`.
        decode: `(..., H)` to the nearest quaternions `(..., 4)` and the distance `(...)` to the manifold. For "rogsh3"
            the orientation is the nearest of a 2-degree grid and **cannot be trusted**: at least 16 orientations share
            each triple (see `rogsh`).
        sample_rotation: a quaternion r to the orthogonal `(H, H)` matrix D with `encode(q * r) = D @ encode(q)`; None
            where there is no such matrix, so that fields in this representation must not be augmented by rotations.
        invertible: whether `decode(encode(q))` is the same crystal.
    """

    name: str
    group: str
    channels: int
    sigma_data: float
    encode: Callable[..., jax.Array]
    decode: Callable[..., tuple[jax.Array, jax.Array]]
    sample_rotation: Callable[..., jax.Array] | None
    invertible: bool = True

    @property
    def norm(self) -> float:
        """Root mean square length of the channels of a crystal under uniform texture."""
        return self.sigma_data * self.channels**0.5


def _embedding(name: str, group: str) -> Representation:
    return Representation(
        name=name,
        group=group,
        channels=embedding.channels(group),
        sigma_data=embedding.SIGMA_DATA,
        encode=partial(embedding.encode, group=group),
        decode=partial(embedding.decode, group=group),
        sample_rotation=partial(embedding.sample_rotation, group=group),
    )


_REPRESENTATIONS: dict[str, Representation] = {
    "gsh4": _embedding("gsh4", "432"),
    "hex27": _embedding("hex27", "622"),
    "rogsh3": Representation(
        name="rogsh3",
        group="432",
        channels=rogsh.CHANNELS,
        sigma_data=float(np.sqrt(np.mean(np.square(rogsh.STANDARD_DEVIATIONS)))),
        encode=rogsh.encode,
        decode=rogsh.lookup,
        sample_rotation=None,
        invertible=False,
    ),
}


def names() -> tuple[str, ...]:
    """The known representations.

    >>> names()
    ('gsh4', 'hex27', 'rogsh3')
    """
    return tuple(_REPRESENTATIONS)


def get(name: str) -> Representation:
    """A representation by name: "gsh4" (cubic, the default), "hex27" (hexagonal), "rogsh3" (the paper's).

    Raises:
        ValueError: there is no representation of this name.

    >>> kind = get("gsh4")
    >>> kind.group, kind.channels, kind.sigma_data
    ('432', 9, 0.5)
    """
    if name not in _REPRESENTATIONS:
        raise ValueError(f"representation: found {name!r}; accepted are {', '.join(names())}")
    return _REPRESENTATIONS[name]
