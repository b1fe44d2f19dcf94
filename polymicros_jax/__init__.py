"""Generative models of polycrystalline material structure.

The names below do a job in ten lines; the modules they come from hold the rest. The points that the indexing of a
scan of serial sections missed::

    import jax
    import numpy as np
    import polymicros_jax as pm

    volume = pm.read("my_sections/", frame="edax", slice_spacing=0.25)
    kind = pm.representation("gsh4")
    draws = pm.super_resolve(
        jax.random.key(0), pm.load_prior("compact_gsh4"), kind.encode(volume.quaternions), volume.mask, start=0.5
    )
    quaternions, distance = kind.decode(draws[0])
    pm.plot(quaternions, spacing=volume.spacing).savefig("filled.png")

How alike two places of a section are, by their distance::

    section = pm.load_sample("in100").quaternions[:, :, 10]
    pairs = pm.two_point.covariances(kind.encode(section), periodic=False)
    alike = np.trace(pairs, axis1=-2, axis2=-1)  # 1, 0.52, 0.24, 0.09, 0 of its value at zero, every micrometre along x
"""

from polymicros_jax.data.ebsd import read
from polymicros_jax.data.export import write
from polymicros_jax.data.samples import load as load_sample
from polymicros_jax.generation import generate
from polymicros_jax.orientation.representation import get as representation
from polymicros_jax.reconstruct import expand, super_resolve
from polymicros_jax.spectral import two_point
from polymicros_jax.training.prior import load_prior
from polymicros_jax.viz.volumes import plot

__all__ = [
    "expand",
    "generate",
    "load_prior",
    "load_sample",
    "plot",
    "read",
    "representation",
    "super_resolve",
    "two_point",
    "write",
]
