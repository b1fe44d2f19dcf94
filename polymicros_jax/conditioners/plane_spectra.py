"""Recolouring: scales the spectrum of a volume until its orthogonal planes have given two-point covariances.

The covariances of a volume on the lag plane normal to an axis are the inverse transform of its spectral density summed
along that axis. Matching three planes is therefore a matrix version of iterative proportional fitting (Deming & Stephan
1940): for one axis after the other, every mode is multiplied by the Hermitian matrix that carries the summed density
to its target with the least change of the field (the optimal transport map between two Gaussians). Phases, and with
them the grains, stay. A few sweeps do the coarse work that would cost L-BFGS most of its budget.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial, reduce

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

# Modes weaker than this share of the strongest at the same wavenumber are left out of the inverse root: single
# precision does not know their direction.
_RANK_TOLERANCE = 1e-5

# Accelerators would round the factors of a product to fewer digits.
_einsum = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
_matmul = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def plane_roots(planes: Mapping[str, Float[Array, "_ _ h h"]]) -> dict[str, Complex[Array, "_ _ h h"]]:
    """Hermitian square roots of the spectra of plane covariances; negative eigenvalues count as zero.

    Args:
      planes: for each normal the covariances ``(n, m, h, h)`` at the lags of that plane, lags in FFT order.

    Returns:
      For each normal ``(n, m, h, h)``: at each wavenumber the root ``R`` with ``R R = `` spectrum.

    >>> white = jnp.zeros((4, 4, 1, 1)).at[0, 0].set(4.0)  # variance 4, no correlation
    >>> plane_roots({"z": white})["z"].real.round(3).max().item()
    2.0
    """

    def root(covariances: Array) -> Array:
        spectrum = jnp.fft.fft2(covariances, axes=(0, 1))
        return _function_of_eigenvalues(spectrum, lambda values: jnp.sqrt(jnp.maximum(values, 0.0)))

    # One after the other: on CPU, jaxlib's batched eigh waits on its thread for tasks of the same pool, and as many of
    # them at once as the pool has threads wait for ever (seen with two threads and three planes, jaxlib 0.10.2). Adding
    # nought times an earlier result makes the order part of the data.
    roots: dict[str, Array] = {}
    turn: Array | float = 0.0
    for name, plane in planes.items():
        roots[name] = root(plane + turn)
        turn = 0.0 * jnp.real(roots[name][0, 0, 0, 0])
    return roots


def recolour(
    x: Float[Array, "nx ny nz h"], roots: Mapping[str, Complex[Array, "_ _ h h"]], sweeps: int
) -> Float[Array, "nx ny nz h"]:
    """The field, less its mean, with its plane spectra moved towards the targets.

    Args:
      x: field.
      roots: from `plane_roots`, for the axes to match.
      sweeps: times every axis is matched in turn. After each axis that axis is matched exactly, as far as the field has
        enough modes; the others drift a little.

    Returns:
      Field of zero mean per channel.

    >>> from polymicros_jax.conditioners.two_point import plane_covariances
    >>> noise, wanted = (jax.random.normal(key, (4, 4, 4, 1)) for key in jax.random.split(jax.random.key(0)))
    >>> target = {"z": plane_covariances(2 * wanted)["z"]}
    >>> matched = plane_covariances(recolour(noise, plane_roots(target), sweeps=1))["z"]
    >>> bool(jnp.allclose(matched, target["z"], atol=1e-4))
    True
    """
    grid = x.shape[:3]
    spectrum = jnp.fft.fftn(x - jnp.mean(x, axis=(0, 1, 2), keepdims=True), axes=(0, 1, 2))

    def sweep(spectrum: Array, _: None) -> tuple[Array, None]:
        for axis, name in enumerate("xyz"):
            if name not in roots:
                continue
            # Conjugated, because f^{bg}(r) = <m^b(s) m^g(s+r)> has the transform conj(M_b) M_g / S.
            modes = jnp.conj(jnp.moveaxis(spectrum, axis, 2))
            density = _einsum("pqnb,pqng->pqbg", modes, jnp.conj(modes)) / (math.prod(grid) * grid[axis])
            modes = _einsum("pqbg,pqng->pqnb", _transport(density, roots[name].astype(modes.dtype)), modes)
            spectrum = jnp.moveaxis(jnp.conj(modes), 2, axis)
        return spectrum, None

    spectrum, _ = jax.lax.scan(sweep, spectrum, None, length=sweeps)
    return jnp.real(jnp.fft.ifftn(spectrum, axes=(0, 1, 2)))


def _transport(density: Complex[Array, "p q h h"], root: Complex[Array, "p q h h"]) -> Complex[Array, "p q h h"]:
    """``R (R S R)^{-1/2} R``, which maps a Gaussian of covariance ``S`` to one of covariance ``R R``."""

    def inverse_root(values: Array) -> Array:
        kept = values > _RANK_TOLERANCE * values[..., -1:]
        return jnp.where(kept, 1.0 / jnp.sqrt(jnp.where(kept, values, 1.0)), 0.0)

    return _product(root, _function_of_eigenvalues(_product(root, density, root), inverse_root), root)


def _product(*factors: Complex[Array, "p q h h"]) -> Complex[Array, "p q h h"]:
    return reduce(_matmul, factors)


def _function_of_eigenvalues(
    matrix: Complex[Array, "p q h h"], function: Callable[[Array], Array]
) -> Complex[Array, "p q h h"]:
    values, vectors = jnp.linalg.eigh(matrix)
    return _product(vectors * function(values)[..., None, :], jnp.conj(jnp.swapaxes(vectors, -1, -2)))
