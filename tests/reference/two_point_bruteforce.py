"""Two-point statistics by looping over lags and pairs of voxels, for grids of a few hundred voxels."""

import itertools

import numpy as np


def lags_of(n: int) -> list[list[int]]:
    """The lags that each index stands for, in FFT order; the last index of the first half of an even axis has two."""
    lags = [[i] if i <= (n - 1) // 2 else [i - n] for i in range(n)]
    if n % 2 == 0:
        lags[n // 2] = [-(n // 2), n // 2]
    return lags


def sums_and_counts(m: np.ndarray, mask: np.ndarray, periodic: bool) -> tuple[np.ndarray, np.ndarray]:
    """Sum of ``m^b(s) m^g(s+r)`` over observed pairs, and their number, at every lag."""
    shape, channels = m.shape[:-1], m.shape[-1]
    sums = np.zeros((*shape, channels, channels))
    counts = np.zeros(shape, int)
    voxels = list(itertools.product(*map(range, shape)))
    for index in voxels:
        # A periodic pair at +n/2 is the pair at -n/2: count it once.
        choices = [lags_of(n)[i][:1] if periodic else lags_of(n)[i] for n, i in zip(shape, index, strict=True)]
        for lag in itertools.product(*choices):
            for s in voxels:
                t = tuple(a + b for a, b in zip(s, lag, strict=True))
                if periodic:
                    t = tuple(a % n for a, n in zip(t, shape, strict=True))
                elif any(a < 0 or a >= n for a, n in zip(t, shape, strict=True)):
                    continue
                if mask[s] and mask[t]:
                    sums[index] += np.outer(m[s], m[t])
                    counts[index] += 1
    return sums, counts
