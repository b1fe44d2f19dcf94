"""Texture rotation: the crystals of a patch turn, nothing else does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polymicros_jax.orientation import quaternion, representation
from polymicros_jax.training.augment import texture_rotation

KIND = representation.get("gsh4")
KEY = jax.random.key(5)
# Product and storage round each component of a quaternion by 6e-8: an angle of up to 2 * 2 * 3 * 6e-8, at
# sqrt(20 / 3) * 3 / 2 of the field per radian 2.8e-6. The polynomials and the matrix product add below 20 * 6e-8.
TOLERANCE = 4e-6


@pytest.fixture(scope="module")
def crystals():
    return quaternion.random(jax.random.key(0), (3, 2, 3, 4))


@pytest.fixture(scope="module")
def turned(crystals):
    return jax.jit(texture_rotation(KIND))(KEY, KIND.encode(crystals))


def test_it_is_one_rotation_of_the_sample_a_patch(crystals, turned):
    rotations = quaternion.random(KEY, (3,))
    each = zip(crystals, rotations, strict=True)
    expected = [KIND.encode(quaternion.multiply(q, r.reshape(1, 1, 1, 4))) for q, r in each]
    np.testing.assert_allclose(turned, jnp.stack(expected), atol=TOLERANCE)


def test_distances_and_norms_stay(crystals, turned):
    def distances(field):
        voxels = np.asarray(field, float).reshape(3, -1, 9)
        return np.linalg.norm(voxels[:, :, None] - voxels[:, None], axis=-1)

    before = KIND.encode(crystals)
    np.testing.assert_allclose(distances(turned), distances(before), atol=3 * TOLERANCE)
    np.testing.assert_allclose(np.linalg.norm(turned, axis=-1), 1.5, atol=3 * TOLERANCE)
    assert np.abs(np.asarray(turned - before)).max() > 0.1


def test_texture_becomes_uniform():
    # One crystal in 4000 patches: each channel gets mean 0 and variance 1/4 of the uniform texture.
    patches = jnp.broadcast_to(KIND.encode(quaternion.random(KEY)), (4000, 1, 1, 1, 9))
    values = np.asarray(jax.jit(texture_rotation(KIND))(jax.random.key(1), patches)).reshape(4000, 9)
    # Five standard errors; a channel is bounded by 3/2, so the variance of its square is at most 1/4 (9/4 - 1/4).
    np.testing.assert_allclose(values.mean(axis=0), 0.0, atol=5 * 0.5 / np.sqrt(4000))
    np.testing.assert_allclose((values**2).mean(axis=0), 0.25, atol=5 * np.sqrt(0.5 / 4000))


def test_the_papers_representation_is_refused():
    with pytest.raises(ValueError, match="rogsh3 has no rotations"):
        texture_rotation(representation.get("rogsh3"))
