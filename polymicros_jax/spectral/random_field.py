"""Multi-output Gaussian random fields with given covariances on the periodic grid (App. A.5).

Three samplers. `sample_mosm` is exact for the MOSM kernel and the default. `sample_spectral` is exact for any
covariances, measured ones above all. `sample_reference_row` is the paper's Alg. 1, which honours one row of the
covariances only.

Every sampler takes the key first, returns ``(*shape, h)``, and accepts the mean: None draws the spatial mean like
every other mode, but for Alg. 1, which makes it zero; a vector makes the mean of **this** draw exactly that vector (the
zero frequency is conditioned on).
"""

import dataclasses
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from polymicros_jax.choice import clip
from polymicros_jax.spectral import grid
from polymicros_jax.spectral.hermitian import check_covariances
from polymicros_jax.spectral.mosm_kernel import Leaf, MosmParams, amplitude_filters, with_band
from polymicros_jax.types import ArrayLike, Key


def sample_mosm(
    key: Key, params: MosmParams, shape: tuple[int, ...], *, mean: Float[ArrayLike, " h"] | None = None
) -> Float[Array, "*n h"]:
    """Draws a field whose covariances are exactly `mosm.covariance(params, shape)`.

    The spectral density is a sum of Q rank-one matrices, so Q complex white fields, each filtered into all channels,
    carry it (SCIENCE section 4). Only wavenumbers up to ``params.band`` have any power. They are summed along one
    axis after the other by a matrix product with ``exp(i k x)``: cheaper than a transform of the whole grid at 128^3,
    and exact on small grids too, where wavenumbers above the Nyquist one fold back.

    Args:
        key: PRNG key.
        params: one parameter set, without batch axes.
        shape: number of voxels along each axis.
        mean: exact mean of the draw for every channel; None leaves it random.

    Raises:
        ValueError: a shape of the wrong number of axes; a band too small for the parameters, where their values are
            known (not inside `jit`).

    >>> from polymicros_jax.spectral.mosm import with_band
    >>> zero = jnp.zeros((1, 1, 1))
    >>> one = with_band(MosmParams(jnp.ones((1, 1)), zero, zero + 9.0, zero, jnp.zeros((1, 1))))
    >>> draw = sample_mosm(jax.random.key(0), one, (8,), mean=jnp.array([3.0]))
    >>> draw.shape, round(float(draw.mean()), 3)
    ((8, 1), 3.0)
    """
    if len(shape) != params.mean.shape[-1]:
        raise ValueError(
            f"shape: {shape} has {len(shape)} axes; the parameters have {params.mean.shape[-1]} space dimensions"
        )
    if not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(params)):
        needed = with_band(params).band
        if params.band < needed:
            raise ValueError(
                f"params: band = {params.band}, but there is power up to wavenumber {needed}; with_band(params) sets it"
            )
    return _with_mean(_sample_mosm(key, params, tuple(shape)), mean)


@partial(jax.jit, static_argnums=2)
def _sample_mosm(key: Key, params: MosmParams, shape: tuple[int, ...]) -> Array:
    mixtures, channels, dimensions = params.mean.shape
    k = grid.band_wavenumbers(params.band)
    filters = amplitude_filters(params, k.astype(float))
    gains = params.weight * jnp.exp(-1j * params.phase)
    modes = (len(k),) * dimensions

    def add_mixture(total: Array, q: Array) -> tuple[Array, None]:
        # Unit variance in the real and in the imaginary part: the real part of the sum then has the density itself.
        parts = jax.random.normal(jax.random.fold_in(key, q), (2, *modes), params.weight.dtype)
        product = jax.lax.complex(parts[0], parts[1])[..., None] * gains[q].reshape((1,) * dimensions + (channels,))
        for axis in range(dimensions):
            lead = [1] * dimensions
            lead[axis] = len(k)
            product = product * filters[q, :, axis, :].T.reshape(*lead, channels)
        return total + product, None

    start = jnp.zeros((*modes, channels), gains.dtype)
    spectrum = jax.lax.scan(add_mixture, start, jnp.arange(mixtures))[0]
    return _band_to_field(spectrum, k, shape)


def _band_to_field(spectrum: Complex[Array, "*k h"], k: np.ndarray, shape: tuple[int, ...]) -> Float[Array, "*n h"]:
    """``Re sum_k U(k) exp(i k.x)`` on the grid: one matrix product an axis, the first axis last, in real arithmetic."""
    precision = jax.lax.Precision.HIGHEST
    waves = [np.exp(2j * math.pi / n * np.outer(np.arange(n), k)) for n in shape]
    for axis in reversed(range(1, len(shape))):
        wave = jnp.asarray(waves[axis], spectrum.dtype)
        spectrum = jnp.moveaxis(jnp.tensordot(wave, spectrum, axes=(1, axis), precision=precision), 0, axis)
    rows = jnp.concatenate([spectrum.real, -spectrum.imag], axis=0)
    columns = jnp.asarray(np.concatenate([waves[0].real, waves[0].imag], axis=1), rows.dtype)
    return jnp.tensordot(columns, rows, axes=1, precision=precision)


@partial(jax.tree_util.register_dataclass, data_fields=["root", "clipped_share"], meta_fields=["shape"])
@dataclasses.dataclass(frozen=True)
class SpectralFactor:
    """Square root of a spectral matrix, ready to filter white noise.

    Attributes:
        root: Hermitian roots ``(*half spectrum, h, h)``.
        clipped_share: sum of the negative eigenvalues that were set to zero over the sum of all magnitudes; 0 for
            covariances that are positive semi-definite.
        shape: number of voxels along each axis (static).
    """

    root: Leaf
    clipped_share: Leaf
    shape: tuple[int, ...]


def factorise(covariances: Float[ArrayLike, "*n h h"]) -> SpectralFactor:
    """Factors the h x h Hermitian spectral matrix at every wavenumber, clipping negative eigenvalues.

    Measured covariances of a periodic volume are positive semi-definite; non-periodic or masked ones need not be, and
    their `clipped_share` says by how much. Differentiable wherever no two eigenvalues coincide; those that
    are clipped have the gradient zero.

    Raises:
        ValueError: for covariances that are not finite (missing lags) or not Hermitian in (pair, lag), outside `jit`.

    >>> covariances = np.exp(-(np.fft.fftfreq(16) * 8) ** 2)[:, None, None]
    >>> factor = factorise(covariances)
    >>> factor.root.shape, bool(factor.clipped_share < 1e-4)
    ((9, 1, 1), True)
    """
    covariances = jnp.asarray(covariances)
    check_covariances(covariances)
    return _factorise(covariances)


@jax.jit
def _factorise(covariances: Array) -> SpectralFactor:
    shape = covariances.shape[:-2]
    axes = tuple(range(len(shape)))
    # conj: with f^{bg} = <m^b(s) m^g(s+r)> the transform is E[conj(M_b) M_g] / S, and the filter needs E[M M^H] / S.
    spectrum = jnp.conj(grid.forward(covariances, axes))

    def roots(matrices: Array) -> tuple[Array, Array, Array]:
        values, vectors = jnp.linalg.eigh(matrices)
        # Nought, not infinity, is the gradient of the root of an eigenvalue that was clipped.
        kept = values > 0
        scaled = vectors * jnp.where(kept, jnp.sqrt(jnp.where(kept, values, 1)), 0)[..., None, :]
        root = jnp.einsum("...ij,...kj->...ik", scaled, jnp.conj(vectors), precision=jax.lax.Precision.HIGHEST)
        return root, jnp.sum(clip(-values, low=0.0), -1), jnp.sum(jnp.abs(values), -1)

    # One plane of wavenumbers at a time keeps the work space of the eigensolver small.
    root, negative, magnitude = jax.lax.map(roots, spectrum)
    weights = jnp.asarray(grid.half_spectrum_weights(shape[-1]), magnitude.dtype)
    weights = weights.reshape((1,) * (len(shape) - 1) + (-1,))
    share = jnp.sum(negative * weights) / clip(jnp.sum(magnitude * weights), low=float(jnp.finfo(magnitude.dtype).tiny))
    return SpectralFactor(root=root, clipped_share=share, shape=shape)


def sample_factor(
    key: Key, factor: SpectralFactor, *, mean: Float[ArrayLike, " h"] | None = None
) -> Float[Array, "*n h"]:
    """Draws a field from a factor: white noise, transformed, filtered by the root, transformed back.

    >>> factor = factorise(np.exp(-(np.fft.fftfreq(16) * 8) ** 2)[:, None, None])
    >>> draw = sample_factor(jax.random.key(0), factor, mean=np.array([3.0]))
    >>> draw.shape, round(float(draw.mean()), 3)
    ((16, 1), 3.0)
    """
    return _with_mean(_sample_factor(key, factor), mean)


@jax.jit
def _sample_factor(key: Key, factor: SpectralFactor) -> Array:
    axes = tuple(range(len(factor.shape)))
    noise = jax.random.normal(key, (*factor.shape, factor.root.shape[-1]), factor.root.real.dtype)
    # The transform of real noise has the symmetry of a real field at every wavenumber, zero and Nyquist included.
    white = grid.forward(noise, axes)
    filtered = jnp.einsum("...ij,...j->...i", factor.root, white, precision=jax.lax.Precision.HIGHEST)
    return grid.inverse(filtered, factor.shape, axes)


def sample_spectral(
    key: Key, covariances: Float[ArrayLike, "*n h h"], *, mean: Float[ArrayLike, " h"] | None = None
) -> Float[Array, "*n h"]:
    """Draws a field with the given covariances (mean-free; Eq. 12), exact for all pairs and lags.

    Equal to ``sample_factor(key, factorise(covariances))``; keep the factor to draw many, or to read its
    `clipped_share`. Raises as `factorise`.

    >>> covariances = np.exp(-(np.fft.fftfreq(16) * 8) ** 2)[:, None, None]
    >>> draws = jax.vmap(lambda key: sample_spectral(key, covariances))(jax.random.split(jax.random.key(0), 4000))
    >>> found = (draws[:, :1, 0] * draws[:, :, 0]).mean(0)
    >>> bool(jnp.abs(found - covariances[:, 0, 0]).max() < 0.08)
    True
    """
    return sample_factor(key, factorise(covariances), mean=mean)


def sample_reference_row(
    key: Key,
    covariances: Float[ArrayLike, "*n h h"],
    *,
    mean: Float[ArrayLike, " h"] | None = None,
    epsilon: float = 1e-12,
) -> Float[Array, "*n h"]:
    """The paper's Alg. 1, kept for comparison: channel 0 is drawn, all others are filtered out of channel 0.

    Only the row ``f^{0g}`` is honoured. Every other channel is a deterministic function of channel 0, so it loses the
    part of its variance that is not coherent with channel 0: with the paper's bounds channels 1 and 2 keep 2 to 30 %.
    As in Alg. 1, line 9, the zero frequency is left out: the mean of a draw is exactly `mean` (zero by default).
    Raises as `factorise`.

    >>> white = np.zeros((16, 2, 2))
    >>> white[0] = np.eye(2)  # two channels that know nothing of each other
    >>> draw = sample_reference_row(jax.random.key(0), white)
    >>> bool(draw[:, 0].std() > 0.5), round(float(draw[:, 1].std()), 3)  # the second is lost
    (True, 0.0)
    """
    covariances = jnp.asarray(covariances)
    check_covariances(covariances)
    m = _sample_reference_row(key, covariances[..., 0, :], epsilon)
    return m if mean is None else m + jnp.broadcast_to(jnp.asarray(mean, m.dtype), m.shape)


@partial(jax.jit, static_argnames="epsilon")
def _sample_reference_row(key: Key, row: Float[Array, "*n h"], epsilon: float) -> Array:
    shape = row.shape[:-1]
    axes = tuple(range(len(shape)))
    spectra = jnp.fft.fftn(row, axes=axes)
    # An autocorrelation has a real, non-negative transform; round-off leaves small negative values.
    power = clip(spectra[..., 0].real, low=0.0).at[(0,) * len(shape)].set(0)
    parts = jax.random.normal(key, (2, *shape), row.dtype)
    first = jnp.fft.fftn(jnp.sqrt(power / math.prod(shape)) * jax.lax.complex(parts[0], parts[1])).real
    reference = jnp.fft.fftn(first)
    others = jnp.fft.ifftn((spectra / (spectra[..., :1] + epsilon)) * reference[..., None], axes=axes).real
    return jnp.concatenate([first[..., None], others[..., 1:]], axis=-1)


def _with_mean(m: Array, mean: ArrayLike | None) -> Array:
    """The field with its zero frequency set to `mean`, or untouched for None."""
    if mean is None:
        return m
    drawn = jnp.mean(m, axis=tuple(range(m.ndim - 1)))
    return m + jnp.broadcast_to(jnp.asarray(mean, m.dtype) - drawn, m.shape)
