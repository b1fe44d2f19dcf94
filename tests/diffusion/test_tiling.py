"""Tiled denoising against the whole field."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polymicros_jax.diffusion.tiling import tiled


def box_filter(mode):
    """A nonlinear denoiser that looks one voxel far."""

    def denoise(x, sigma):
        padded = jnp.pad(jnp.asarray(x), ((1, 1),) * 3 + ((0, 0),), mode=mode)
        total = sum(
            padded[i : i + x.shape[0], j : j + x.shape[1], k : k + x.shape[2]]
            for i in range(3)
            for j in range(3)
            for k in range(3)
        )
        return jnp.tanh(total / 9) / (1 + sigma)

    return denoise


@pytest.mark.parametrize(("periodic", "shape"), [(False, (20, 14, 6)), (True, (20, 16, 12)), (True, (6, 20, 4))])
def test_a_local_denoiser_is_reproduced_exactly(periodic, shape):
    x = jax.random.normal(jax.random.key(0), (*shape, 2))
    found = tiled(box_filter("edge"), 8, 4, periodic=periodic, multiple=2)(x, 0.3)
    expected = box_filter("wrap" if periodic else "edge")(x, 0.3)
    # The weights sum to one up to a few roundings of single precision.
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_wrong_padding_is_noticed():
    x = jax.random.normal(jax.random.key(0), (16, 16, 16, 1))
    found = tiled(box_filter("edge"), 8, 4, periodic=False)(x, 0.3)
    assert float(jnp.max(jnp.abs(found - box_filter("wrap")(x, 0.3)))) > 0.1


def test_a_global_denoiser_has_an_error_without_seams():
    n = 24
    x = jax.random.normal(jax.random.key(0), (n, n, n, 1)) + jnp.sin(jnp.arange(n) / n)[:, None, None, None]

    def denoise(x, sigma):
        return x - jnp.mean(x)

    error = np.asarray(tiled(denoise, 12, 6)(x, 1.0) - denoise(x, 1.0))[..., 0]
    # Each tile takes off its own mean, so there is an error; the blend keeps its jumps well below the difference of two
    # tiles (up to half the range of means, crossed over `overlap - 2` = 4 voxels by sin^2, steepest slope pi / 8).
    jumps = max(np.abs(np.diff(error, axis=axis)).max() for axis in range(3))
    assert np.ptp(error) > 1e-3
    assert jumps < 0.45 * np.ptp(error)


def test_differentiable():
    x = jax.random.normal(jax.random.key(0), (12, 8, 8, 1))
    gradients = [
        jax.grad(lambda x, f=f: jnp.sum(f(x, 0.3) ** 2))(x)
        for f in (tiled(box_filter("edge"), 8, 4), box_filter("edge"))
    ]
    np.testing.assert_allclose(*gradients, atol=2e-5)


@pytest.mark.parametrize(("tile", "overlap", "reason"), [(9, 4, "multiple"), (8, 3, "overlap"), (8, 5, "overlap")])
def test_bad_sizes_are_refused(tile, overlap, reason):
    with pytest.raises(ValueError, match=reason):
        tiled(box_filter("edge"), tile, overlap, multiple=2)


def test_tiles_of_a_stride_have_no_room_for_an_overlap():
    with pytest.raises(ValueError, match="tile = 8: accepted is at least 12, its overlap and 8 voxels"):
        tiled(box_filter("edge"), 8, 4, multiple=8)
    x = jax.random.normal(jax.random.key(0), (24, 16, 16, 1))
    whole, parts = (f(x, 0.3) for f in (box_filter("edge"), tiled(box_filter("edge"), 16, 4, multiple=8)))
    np.testing.assert_allclose(parts, whole, atol=2e-5)
