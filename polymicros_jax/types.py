"""Array aliases and the vocabulary of axes used in shape annotations.

Axes: ``nx ny nz`` spatial, ``h`` harmonic channels, ``b`` batch, ``n`` anything, ``4`` quaternion components
``(w, x, y, z)``, ``3`` Euler angles or vector components. Arrays are channel last: ``(b, nx, ny, nz, h)``.
"""

import jax
import numpy as np

ArrayLike = jax.Array | np.ndarray
"""What public functions accept: device or host arrays."""

Key = jax.Array
"""A typed PRNG key, from `jax.random.key`."""

SEEDS = 2**32
"""Seeds lie below it: JAX keeps 32 bits, so that two that differ in higher ones alone would draw the same."""

Params = dict
"""Nested dict of arrays."""
