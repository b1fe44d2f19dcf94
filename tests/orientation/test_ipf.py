"""IPF colours: fixed points, invariance, continuity, folding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polymicros_jax.orientation import ipf, quaternion, symmetry

GROUPS = ("432", "622")


def directions(count, seed=0):
    v = np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)
    return v / np.linalg.norm(v, axis=1, keepdims=True)


@pytest.mark.parametrize("group", GROUPS)
def test_vertices_are_pure_and_the_centre_is_white(group):
    key = ipf.sector(group)
    vertices = np.array(ipf._VERTICES[group], np.float32)
    np.testing.assert_allclose(ipf.direction_colours(vertices, group), np.eye(3), atol=2e-4)
    np.testing.assert_allclose(ipf.direction_colours(key.centre[None].astype(np.float32), group), 1, atol=1e-5)


@pytest.mark.parametrize("group", GROUPS)
def test_fold_is_the_equivalent_in_the_sector(group):
    v = directions(300)
    folded = np.asarray(ipf.fold(v, group))
    assert (folded @ ipf.sector(group).normals.T >= -1e-6).all()
    ops = symmetry.operators(group).astype(np.float32)
    images = np.asarray(quaternion.rotate_vector(ops[None], v[:, None]))
    images = np.concatenate([images, -images], axis=1)
    nearest = np.linalg.norm(images - folded[:, None], axis=-1).min(axis=1)
    assert nearest.max() < 1e-6


@pytest.mark.parametrize("group", GROUPS)
def test_equivalent_crystals_have_one_colour(group):
    q = quaternion.random(jax.random.key(0), (100,))
    all_colours = np.asarray(ipf.colours(symmetry.equivalents(q, group), "y", group))
    # The colour changes by at most 20 a radian (the sector is 0.6 across and white mixes in): rounding 3e-7.
    np.testing.assert_allclose(all_colours, np.repeat(all_colours[:, :1], all_colours.shape[1], axis=1), atol=1e-4)
    assert ((all_colours >= 0) & (all_colours <= 1)).all()
    assert np.allclose(all_colours.max(axis=-1), 1, atol=1e-6)  # full value everywhere: pure hue mixed with white


@pytest.mark.parametrize("group", GROUPS)
def test_colours_are_continuous(group):
    """Neighbouring directions, 1e-3 rad apart, never jump in colour, over sector borders included."""
    v = directions(20_000)
    nearby = v + 1e-3 * directions(20_000, 1)
    nearby /= np.linalg.norm(nearby, axis=1, keepdims=True)
    away = np.linalg.norm(np.asarray(ipf.fold(v, group)) - ipf.sector(group).centre[None], axis=1) > 0.02
    jump = np.abs(np.asarray(ipf.direction_colours(nearby, group) - ipf.direction_colours(v, group))).max(axis=1)
    assert jump[away].max() < 0.03


def test_sample_direction():
    q = quaternion.random(jax.random.key(0), (50,))
    np.testing.assert_allclose(ipf.colours(q, (0.0, 3.0, 0.0)), ipf.colours(q, "y"), atol=1e-6)
    # Turning the sample frame by 90 degrees about z makes the new x the old y.
    r = quaternion.from_axis_angle(np.array([0, 0, 1.0], np.float32), np.pi / 2)
    np.testing.assert_allclose(ipf.colours(quaternion.rotate_sample(q, r), "x"), ipf.colours(q, "y"), atol=1e-4)
    assert jnp.abs(ipf.colours(q, "x") - ipf.colours(q, "y")).max() > 0.3


def test_bad_input_is_named():
    q = quaternion.random(jax.random.key(0), (2,))
    with pytest.raises(ValueError, match=r"direction: found 'nd'; accepted are x, y, z"):
        ipf.colours(q, "nd")
    with pytest.raises(ValueError, match="non-zero vector"):
        ipf.colours(q, (0.0, 0.0, 0.0))
    with pytest.raises(ValueError, match=r"found '422'; colour keys exist for 432, 622"):
        ipf.colours(q, "z", "422")
