"""Snapping to measured crystals: exact where a crystal is in reach, silent where none is."""

import jax
import numpy as np

from polymicros_jax.orientation import quaternion
from polymicros_jax.orientation.embedding import encode
from polymicros_jax.orientation.snapping import snap

GRID = (9, 8, 13)


def _bicrystal() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Channels of two grains with a tilted boundary, which voxels are known, and the two crystals."""
    crystals = np.asarray(encode(quaternion.random(jax.random.key(3), (2,))))
    x, _, z = np.meshgrid(*(np.arange(n) for n in GRID), indexing="ij")
    values = crystals[(x + 0.5 * z > 7).astype(int)]
    known = np.zeros(GRID, bool)
    known[:, :, ::4] = True
    return values, known, crystals


def test_noise_smaller_than_half_the_distance_between_crystals_is_removed() -> None:
    values, known, crystals = _bicrystal()
    apart = float(np.linalg.norm(crystals[0] - crystals[1]))
    push = np.random.default_rng(0).normal(size=values.shape).astype(np.float32)
    # Each voxel is moved by 0.45 of the distance: less than half, so the nearest crystal is still its own.
    field = values + 0.45 * apart * push / np.linalg.norm(push, axis=-1, keepdims=True)
    np.testing.assert_array_equal(snap(field, values, known, reach=3), values)
    # Negative control: moved by 0.6 of it straight at the other crystal, every missing voxel changes sides.
    other = crystals[0] + crystals[1] - values
    crossed = np.asarray(snap(values + 0.6 * (other - values), values, known, reach=9))
    np.testing.assert_allclose(crossed[~known], other[~known], atol=1e-6)  # other is a sum of three: rounding
    np.testing.assert_array_equal(crossed[known], values[known])


def test_the_result_is_the_brute_force_nearest_in_reach() -> None:
    rng = np.random.default_rng(1)
    field, values = rng.normal(size=(2, 5, 4, 6, 3)).astype(np.float32)
    known = rng.random((5, 4, 6)) < 0.1
    result = np.asarray(snap(field, values, known, reach=1))
    silent = 0
    for index in np.ndindex(5, 4, 6):
        box = tuple(slice(max(i - 1, 0), i + 2) for i in index)
        candidates = values[box][known[box]]
        if known[index]:
            expected = values[index]
        elif len(candidates):
            expected = candidates[np.argmin(((candidates - field[index]) ** 2).sum(-1))]
        else:
            expected, silent = field[index], silent + 1
        np.testing.assert_array_equal(result[index], expected)
    assert 0 < silent < known.size


def test_unknown_values_are_never_read() -> None:
    values, known, _ = _bicrystal()
    holes = np.where(known[..., None], values, np.nan)
    np.testing.assert_array_equal(snap(values, holes, known), snap(values, values, known))
