"""Fourier conventions; every other module of `spectral` refers to this page.

1. A field has shape ``(nx, ny, nz, h)`` or ``(nx, ny, h)``: channel last, one sample a voxel.
2. The forward transform is ``M[k] = sum_s m[s] exp(-2 pi i k.s / n)``; the inverse carries ``1/S``, S the number of
   voxels.
3. Real fields use the half spectrum: the last spatial axis holds wavenumbers ``0 .. n//2`` only. The column of
   wavenumber 0 and, for an even axis, the column of the Nyquist wavenumber stand for themselves; every other column
   stands for itself and its conjugate (`half_spectrum_weights`). Half spectra are never shifted.
4. Lags and wavenumbers are in FFT order: zero at index 0, then the positive ones, then the negative ones. An even
   axis has one Nyquist index, ``n/2``; it means ``-n/2``, which on a periodic grid is also ``+n/2``.
5. Physical coordinates: every axis spans ``[-pi, pi)``, the right end excluded, whatever its number of points;
   wavenumbers are then integers, and zero lag lies on the grid for odd and even axes alike.
6. Powers: ``conj(M) M / S`` is the transform of the correlation of Eq. 1, so its mean over wavenumbers is the mean
   square.
"""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float
from scipy import fft as scipy_fft

from polymicros_jax.types import ArrayLike


def integer_lags(n: int) -> np.ndarray:
    """Lags of one axis of `n` voxels, in voxels and FFT order; an even axis has ``-n/2`` at index ``n/2``.

    >>> integer_lags(4).tolist(), integer_lags(5).tolist()
    ([0, 1, -2, -1], [0, 1, 2, -2, -1])
    """
    return np.fft.ifftshift(np.arange(n) - n // 2)


def lag_coordinates(n: int) -> np.ndarray:
    """Lags of one axis in radians on ``[-pi, pi)``, in FFT order, float64.

    >>> (lag_coordinates(4) / np.pi).tolist()
    [0.0, 0.5, -1.0, -0.5]
    """
    return integer_lags(n) * (2 * math.pi / n)


def band_wavenumbers(band: int) -> np.ndarray:
    """Integer wavenumbers ``-band .. band`` in rising order, for sums that are not tied to a grid.

    >>> band_wavenumbers(2).tolist()
    [-2, -1, 0, 1, 2]
    """
    return np.arange(-band, band + 1)


def half_spectrum_weights(n: int) -> np.ndarray:
    """How many wavenumbers each column of the half spectrum stands for, along a last axis of `n` voxels.

    Returns shape ``(n//2 + 1,)``: 1 for the zero and the Nyquist column, 2 elsewhere.

    >>> half_spectrum_weights(6).tolist(), half_spectrum_weights(5).tolist()
    ([1.0, 2.0, 2.0, 1.0], [1.0, 2.0, 2.0])
    """
    weights = np.full(n // 2 + 1, 2.0)
    weights[0] = 1.0
    if n % 2 == 0:
        weights[-1] = 1.0
    return weights


def forward(m: Float[ArrayLike, "*n"], axes: tuple[int, ...]) -> Complex[Array, "*k"]:
    """Half spectrum of a real array over `axes`, the last of which is halved. Unnormalised.

    >>> wave = np.cos(2 * np.pi * np.arange(8) / 8)
    >>> abs(forward(wave, (0,))).round(3).tolist()  # n / 2 at wavenumber 1
    [0.0, 4.0, 0.0, 0.0, 0.0]
    """
    return jnp.fft.rfftn(m, axes=axes)


def inverse(spectrum: Complex[ArrayLike, "*k"], shape: tuple[int, ...], axes: tuple[int, ...]) -> Float[Array, "*n"]:
    """Real array of spatial `shape` from its half spectrum over `axes`; undoes `forward`.

    >>> m = np.arange(6.0).reshape(2, 3)
    >>> inverse(forward(m, (0, 1)), (2, 3), (0, 1)).round(3).tolist()
    [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    """
    return jnp.fft.irfftn(spectrum, s=shape, axes=axes)


def negate(f: Array, axes: tuple[int, ...]) -> Array:
    """Value at the opposite index, ``f[-r]``, over `axes` in FFT order: index 0 and the Nyquist index stay in place.

    >>> negate(jnp.array([0, 1, -2, -1]), (0,)).tolist()  # the Nyquist lag stays
    [0, -1, -2, 1]
    """
    return jnp.roll(jnp.flip(f, axes), [1] * len(axes), axes)


def padded_length(n: int) -> int:
    """Shortest fast transform length at which the lags ``-n//2 .. n//2`` of `n` voxels do not wrap onto each other.

    Lags of zero-padded data run over ``-(n-1) .. n-1``. A lag up to ``n//2`` in size is met by another only if the
    two differ by the transform length, so ``n + n//2`` suffices; the full ``2n - 1`` is not needed.

    >>> padded_length(10), padded_length(128)
    (15, 192)
    """
    return int(scipy_fft.next_fast_len(n + n // 2, real=True))


def crop_lags(f: Array, n: int, axis: int) -> Array:
    """Takes the lags of an axis of `n` voxels out of a zero-padded correlation along `axis`.

    At the Nyquist index of an even axis the **sums** at ``+n/2`` and ``-n/2`` are added: both lags own that index, so
    their pairs are pooled, and the result keeps ``f^{bg}(r) = f^{gb}(-r)`` at every index.

    >>> padded = jnp.array([0, 1, 2, 0, -2, -1])  # lags of a transform of six, as long as four voxels need
    >>> crop_lags(padded, 4, 0).tolist()  # the sums at +2 and -2 share an index
    [0, 1, 0, -1]
    """
    padded = f.shape[axis]
    half = n // 2

    def take(start: int, stop: int) -> Array:
        return jnp.take(f, np.arange(start, stop), axis=axis)

    if n % 2:
        return jnp.concatenate([take(0, half + 1), take(padded - half, padded)], axis=axis)
    nyquist = take(half, half + 1) + take(padded - half, padded - half + 1)
    return jnp.concatenate([take(0, half), nyquist, take(padded - half + 1, padded)], axis=axis)
