"""The MOSM kernel of Eq. 2 in plain loops, with periodic images, in the corrected and in the printed form of Eq. 14."""

import itertools
import math

import numpy as np


def periodic_covariance(params, shape, printed=False, images=2):
    """``k_bg`` of Eq. 2 summed over `images` periodic images on either side, on the grid of `shape`; float64."""
    w, s, A, theta, phi = (
        np.asarray(value, np.float64)
        for value in (params.weight, params.mean, params.variance, params.delay, params.phase)
    )
    mixtures, channels, dimensions = s.shape
    axes = [np.fft.fftfreq(n) * 2 * math.pi for n in shape]
    lags = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    total = np.zeros((*shape, channels, channels))
    for b, g, q in itertools.product(range(channels), range(channels), range(mixtures)):
        A_b, A_g, s_b, s_g = A[q, b], A[q, g], s[q, b], s[q, g]
        A_bg = 2 * A_b * A_g / (A_b + A_g)
        numerator = A_b * s_b + A_g * s_g if printed else A_b * s_g + A_g * s_b
        s_bg = numerator / (A_b + A_g)
        w_bg = w[q, b] * w[q, g] * np.exp(-0.25 * np.sum((s_b - s_g) ** 2 / (A_b + A_g)))
        alpha = w_bg * (2 * math.pi) ** (dimensions / 2) * np.sqrt(np.prod(A_bg))
        for image in itertools.product(range(-images, images + 1), repeat=dimensions):
            x = lags + 2 * math.pi * np.array(image) + theta[q, b] - theta[q, g]
            wave = np.cos(x @ s_bg + phi[q, b] - phi[q, g])
            total[..., b, g] += alpha * np.exp(-0.5 * (x**2) @ A_bg) * wave
    return total


def smallest_eigenvalue_ratio(covariances):
    """Smallest over largest eigenvalue of the spectral matrices of ``(*n, h, h)`` covariances, over all wavenumbers."""
    covariances = np.asarray(covariances, np.float64)
    eigenvalues = np.linalg.eigvalsh(np.fft.fftn(covariances, axes=range(covariances.ndim - 2)))
    return eigenvalues.min() / eigenvalues.max()
