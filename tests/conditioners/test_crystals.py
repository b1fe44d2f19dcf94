"""The guide towards crystals: idle on exact denoisers of crystals, and what it makes of shrunk ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polymicros_jax.conditioners.crystals import CrystalGuide
from polymicros_jax.diffusion.sampler import sample
from polymicros_jax.diffusion.schedule import karras
from polymicros_jax.orientation import quaternion, representation

KIND = representation.get("gsh4")
CRYSTALS = KIND.encode(quaternion.from_euler(np.radians([[10.0, 20.0, 30.0], [80.0, 40.0, 15.0], [33.0, 51.0, 70.0]])))
SHARES = np.array([0.5, 0.3, 0.2])


def denoise(x, sigma):
    """Exact for voxels that are independently one of three crystals."""
    distances = jnp.sum(jnp.square(x[:, None] - CRYSTALS[None]), axis=-1)
    return jax.nn.softmax(jnp.log(SHARES)[None] - distances / (2.0 * sigma**2), axis=-1) @ CRYSTALS


def shrunk(x, sigma):
    return 0.8 * denoise(x, sigma)


def distances(field):
    return np.asarray(KIND.decode(field)[1])


def test_an_exact_denoiser_of_crystals_is_left_alone():
    # Three crystals a norm apart: at 0.15 a voxel is told from its neighbours at five standard deviations.
    assert float(jnp.linalg.norm(CRYSTALS[0] - CRYSTALS[1])) > 1.0
    x = CRYSTALS[np.arange(30) % 3] + 0.15 * jax.random.normal(jax.random.key(0), (30, 9))
    np.testing.assert_allclose(CrystalGuide("gsh4")(denoise)(x, 0.15), denoise(x, 0.15), atol=5e-3)


def test_the_share_is_linear_in_the_logarithm():
    x = jax.random.normal(jax.random.key(1), (50, 9))
    plain = denoise(x, 0.4)
    crystal = KIND.encode(KIND.decode(plain)[0])
    assert float(jnp.abs(crystal - plain).max()) > 0.1
    guide = CrystalGuide("gsh4", sigma_full=0.1, sigma_off=1.6)
    for sigma, share in ((0.05, 1.0), (0.1, 1.0), (0.2, 0.75), (0.4, 0.5), (1.6, 0.0), (9.0, 0.0)):
        guided = guide(lambda x, sigma: plain)(x, sigma)
        np.testing.assert_allclose(guided, plain + share * (crystal - plain), atol=1e-5)


def test_draws_are_crystals_in_the_right_shares():
    init, sigmas = jnp.zeros((2000, 9)), karras(30, sigma_max=20.0)
    draw = jax.jit(lambda denoise, key: sample(key, denoise, init, sigmas, churn=None), static_argnums=0)
    found = draw(CrystalGuide("gsh4")(denoise), jax.random.key(2))
    nearest = np.argmin(np.linalg.norm(np.asarray(found)[:, None] - np.asarray(CRYSTALS), axis=-1), axis=-1)
    assert np.quantile(distances(found), 0.99) < 1e-3
    # Four standard deviations of a share among 2000, and the error of 30 steps, which has been no larger than 0.01.
    np.testing.assert_allclose(np.bincount(nearest, minlength=3) / 2000, SHARES, atol=4 * 0.5 / np.sqrt(2000) + 0.01)


def test_shrinkage_is_taken_back():
    # A denoiser that is 20 % short leaves every voxel off the manifold, by a fifth of the norm of 1.5 and more.
    init, sigmas = jnp.zeros((500, 9)), karras(30, sigma_max=20.0)
    plain, guided = (
        sample(jax.random.key(3), each, init, sigmas, churn=None) for each in (shrunk, CrystalGuide("gsh4")(shrunk))
    )
    assert distances(plain).min() > 0.2
    assert distances(guided).max() < 1e-3


def test_a_field_about_an_origin_is_read_with_it():
    origin = np.linspace(-0.3, 0.3, 9).astype(np.float32)
    x = jax.random.normal(jax.random.key(4), (20, 9))
    guided = CrystalGuide("gsh4", origin=origin)(lambda x, sigma: x)(x, 0.1)
    about = x + origin[None]
    np.testing.assert_allclose(guided, KIND.encode(KIND.decode(about)[0]) - origin[None], atol=1e-6)
    assert float(jnp.max(distances(guided + origin[None]))) < 1e-3 < 0.1 < float(jnp.min(distances(guided)))


def test_representations_that_cannot_be_read_are_refused():
    with pytest.raises(ValueError, match="cannot be read from rogsh3"):
        CrystalGuide("rogsh3")(lambda x, sigma: x)
