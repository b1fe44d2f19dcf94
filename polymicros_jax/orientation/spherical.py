"""Real spherical harmonics of any degree as polynomials of a unit vector.

Racah normalised, so that the addition theorem reads `C_l(a) . C_l(b) = P_l(a . b)` and `|C_l| = 1`, without the
Condon-Shortley phase. Order of a degree: `m = 0, (cos 1, sin 1), (cos 2, sin 2), ...`, where `cos m` goes with `cos(m
azimuth)`.
"""

from functools import cache
from math import factorial, sqrt
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.polynomial import legendre, polynomial

from polymicros_jax.types import ArrayLike


@cache
def _polar(degree: int, order: int) -> tuple[float, ...]:
    """Coefficients in z, lowest power first, of the polynomial that multiplies `(x + i y)^order`."""
    power_series = legendre.leg2poly([0.0] * degree + [1.0])
    derivative = polynomial.polyder(power_series, order) if order else power_series
    norm = sqrt((2 if order else 1) * factorial(degree - order) / factorial(degree + order))
    return tuple(float(c) for c in norm * derivative)


def _horner(coefficients: tuple[float, ...], z: Any) -> Any:
    """Evaluates in powers of z^2: the polynomials are even or odd."""
    odd = (len(coefficients) - 1) % 2
    z2 = z * z
    value = coefficients[-1] + 0.0 * z
    for c in reversed(coefficients[odd:-1:2]):
        value = value * z2 + c
    return value * z if odd else value


def components(degree: int, x: Any, y: Any, z: Any) -> list[Any]:
    """The `2 degree + 1` harmonics as separate arrays, so that sums over symmetric directions fuse.

    JAX and NumPy arrays both work.

    >>> [round(float(value), 4) for value in components(1, 0.0, 0.6, 0.8)]  # proportional to y, z, x
    [0.8, 0.0, 0.6]
    """
    values = [_horner(_polar(degree, 0), z)]
    real, imag = x, y
    for order in range(1, degree + 1):
        polar = _horner(_polar(degree, order), z)
        values += [polar * real, polar * imag]
        real, imag = real * x - imag * y, real * y + imag * x
    return values


def harmonics(v: Float[ArrayLike, "*batch 3"], degree: int) -> Float[Array, "*batch channels"]:
    """All `2 degree + 1` real harmonics of unit vectors.

    Accurate to single precision for degrees up to about 8, to 1e-10 in double to 20.

    >>> v = np.array([[0.0, 0.0, 1.0], [0.48, 0.6, 0.64]])
    >>> (harmonics(v, 4) ** 2).sum(-1).round(3).tolist()  # Unsold: the same for every direction
    [1.0, 1.0]
    """
    v = jnp.asarray(v)
    return jnp.stack(components(degree, v[..., 0], v[..., 1], v[..., 2]), axis=-1)


@cache
def fit_directions(degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Fixed unit vectors `(n, 3)` and the pseudo-inverse `(n, 2 degree + 1)` of the harmonics there; float64.

    >>> directions, inverse = fit_directions(2)
    >>> directions.shape[1], inverse.shape[1]
    (3, 5)
    """
    count = 4 * (2 * degree + 1)
    i = np.arange(count) + 0.5
    z, azimuth = 1.0 - 2.0 * i / count, np.pi * (1.0 + sqrt(5.0)) * i
    r = np.sqrt(1.0 - z * z)
    v = np.stack([r * np.cos(azimuth), r * np.sin(azimuth), z], axis=-1)
    values = np.stack(components(degree, v[:, 0], v[:, 1], v[:, 2]), axis=-1)
    return v, np.linalg.pinv(values).T


def rotation_block(matrix: Float[ArrayLike, "3 3"], degree: int) -> Float[Array, "channels channels"]:
    """Orthogonal `D` with `C_l(matrix @ v) = D @ C_l(v)` for every v.

    Fitted at fixed directions, more of them than channels: the fit is exact because harmonics of one degree rotate
    among themselves.

    >>> quarter = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    >>> v = np.array([0.48, 0.6, 0.64])
    >>> bool(jnp.allclose(harmonics(quarter @ v, 3), rotation_block(quarter, 3) @ harmonics(v, 3), atol=1e-5))
    True
    """
    matrix = jnp.asarray(matrix)
    v, inverse = fit_directions(degree)
    highest = jax.lax.Precision.HIGHEST  # GPUs would round to 10 bits otherwise
    turned = harmonics(jnp.matmul(jnp.asarray(v, matrix.dtype), matrix.T, precision=highest), degree)
    return jnp.matmul(turned.T, jnp.asarray(inverse, matrix.dtype), precision=highest)
