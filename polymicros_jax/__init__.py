"""Generative models of polycrystalline material structure.

A scan in, the missing slices out::

    import jax, numpy as np, polymicros_jax as pm

    volume = pm.read("scan.h5oina", frame="oxford")
    kind = pm.representation("gsh4")
    known = volume.mask
    draws = pm.super_resolve(jax.random.key(0), pm.load_prior("compact_gsh4"), kind.encode(volume.quaternions), known)
    quaternions, distance = kind.decode(draws[0])
"""

from polymicros_jax.data.ebsd import read
from polymicros_jax.generation import generate
from polymicros_jax.orientation.representation import get as representation
from polymicros_jax.reconstruct import expand, super_resolve
from polymicros_jax.training.prior import load_prior

__all__ = ["expand", "generate", "load_prior", "read", "representation", "super_resolve"]
