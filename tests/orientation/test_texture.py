"""ODF coefficients, pole figures and disorientation distributions against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import eval_legendre

from polymicros_jax.orientation import quaternion, texture
from polymicros_jax.orientation.spherical import harmonics


def sphere(count):
    i = np.arange(count) + 0.5
    z, azimuth = 1 - 2 * i / count, np.pi * (1 + np.sqrt(5)) * i
    r = np.sqrt(1 - z**2)
    return np.stack([r * np.cos(azimuth), r * np.sin(azimuth), z], axis=-1).astype(np.float32)


@pytest.mark.parametrize("max_degree", [4, pytest.param(12, marks=pytest.mark.slow)])
def test_single_crystal_odf(max_degree):
    """All coefficients of one orientation: |C_l|^2 sums to (2l+1)^2 M, and the ODF there to sum (2l+1) M."""
    q = quaternion.random(jax.random.key(0), (1,))
    c = texture.odf_coefficients(q, max_degree, "432")
    count = {0: 1, 4: 1, 6: 1, 8: 1, 9: 1, 10: 1, 12: 2}
    count = {degree: m for degree, m in count.items() if degree <= max_degree}
    assert set(c) == set(count)
    for degree, value in c.items():
        square = float(jnp.sum(jnp.abs(value) ** 2))
        assert square == pytest.approx((2 * degree + 1) ** 2 * count[degree], rel=1e-4)
    peak = sum((2 * degree + 1) * m for degree, m in count.items())
    assert float(texture.odf(c, q)[0]) == pytest.approx(peak, rel=1e-4)
    assert float(texture.texture_index(c)) == pytest.approx(peak, rel=1e-4)
    elsewhere = texture.odf(c, quaternion.random(jax.random.key(1), (5000,)))
    # The mean over SO(3) is 1; its error is that of 5,000 draws of a function of mean square `peak`.
    assert float(elsewhere.mean()) == pytest.approx(1, abs=4 * np.sqrt(peak / 5000))


def test_uniform_texture_has_no_coefficients_but_the_first():
    c = texture.odf_coefficients(quaternion.random(jax.random.key(0), (20_000,)), 4)
    assert complex(c[0][0, 0]) == pytest.approx(1)
    # Each coefficient is 9 times a mean of 20,000 numbers of mean square 1/9.
    assert np.abs(c[4]).max() < 5 * np.sqrt(9 / 20_000)


def test_weights_and_chunks():
    q = quaternion.random(jax.random.key(0), (9000,))  # more than one chunk
    keep = np.arange(9000) < 3
    weighted = texture.odf_coefficients(q, 4, weights=keep.astype(np.float32))
    alone = texture.odf_coefficients(q[:3], 4)
    np.testing.assert_allclose(weighted[4], alone[4], atol=1e-5)


def test_equivalent_poles():
    assert len(texture.equivalent_poles((1, 0, 0))) == 6
    assert len(texture.equivalent_poles((1, 1, 0))) == 12
    assert len(texture.equivalent_poles((1, 1, 1))) == 8
    assert len(texture.equivalent_poles((1, 2, 3))) == 48
    assert len(texture.equivalent_poles((0, 0, 1), "622")) == 2
    assert len(texture.equivalent_poles((1, 0, 0), "622")) == 6
    with pytest.raises(ValueError, match="non-zero crystal direction"):
        texture.equivalent_poles((0, 0, 0))


def test_pole_figure_of_one_crystal():
    """Unit mean over the sphere, the kernel's height at a pole, half of it at the half width."""
    q = quaternion.from_euler(np.array([[0.3, 0.5, 0.2]], np.float32))
    points, width = sphere(4000), float(np.radians(20.0))
    figure = np.asarray(texture.pole_figure(q, (1.0, 0.0, 0.0), points, halfwidth=width))
    assert figure.mean() == pytest.approx(1, abs=0.01)
    pole = np.asarray(texture.pole_directions(q, (1.0, 0.0, 0.0)))[0, 0]
    np.testing.assert_allclose(quaternion.rotate_vector(q[0], pole), texture.equivalent_poles((1, 0, 0))[0], atol=1e-6)
    aside = np.cross(pole, [0.0, 0, 1])
    aside /= np.linalg.norm(aside)
    off = (np.cos(width) * pole + np.sin(width) * aside).astype(np.float32)
    at_pole, at_width = texture.pole_figure(q, (1.0, 0.0, 0.0), np.stack([pole, off]), halfwidth=width)
    kappa = np.log(0.5) / (2 * np.log(np.cos(width / 2)))
    assert float(at_pole) == pytest.approx(
        (1 + kappa) / 6, rel=1e-4
    )  # six poles, 90 degrees apart: the others add 1e-7
    assert float(at_width) == pytest.approx(float(at_pole) / 2, rel=1e-3)


def test_pole_figure_of_uniform_texture_is_flat():
    q = quaternion.random(jax.random.key(0), (20_000,))
    figure = np.asarray(texture.pole_figure(q, (1.0, 1.0, 1.0), sphere(50), halfwidth=float(np.radians(15.0))))
    kappa = np.log(0.5) / (2 * np.log(np.cos(np.radians(7.5))))
    mean_square = (1 + kappa) ** 2 / (1 + 2 * kappa)  # of the kernel over the sphere
    assert np.abs(figure - 1).max() < 5 * np.sqrt(mean_square / (20_000 * 4))  # 8 poles, opposite ones not independent


def test_pole_figure_agrees_with_the_odf():
    """Degree 4 of the {100} pole figure: mean of P_4 over poles, or from the ODF by the addition theorem."""
    q = quaternion.random(jax.random.key(3), (5,))
    points = sphere(30)
    poles = np.asarray(texture.pole_directions(q, (1.0, 0.0, 0.0))).reshape(-1, 3)
    direct = eval_legendre(4, poles @ points.T).mean(axis=0)
    c = np.asarray(texture.odf_coefficients(q, 4)[4])[:, 0] / 9
    # T_4^{n,1}(q) is proportional to the sample harmonic of the cube axes: their sum, by the addition theorem.
    moment = np.concatenate(
        [[c[4].real], *([np.sqrt(2) * c[4 + n].real, -np.sqrt(2) * c[4 + n].imag] for n in range(1, 5))]
    )
    np.testing.assert_allclose(direct, np.asarray(harmonics(points, 4)) @ moment * np.sqrt(5.25) / 3, atol=1e-5)


def test_mackenzie():
    """Random cubic disorientations: density 24 (1 - cos t) / pi below 45 degrees, mean 40.74, none above 62.80."""
    angles = np.asarray(texture.random_disorientations(jax.random.key(0), 200_000))
    edges, density = texture.disorientation_distribution(angles, bins=65)
    assert np.sum(density * np.diff(edges)) == pytest.approx(1)
    assert np.degrees(angles.mean()) == pytest.approx(40.74, abs=0.1)
    low = edges[1:] < np.radians(45)
    middle = 0.5 * (edges[1:] + edges[:-1])
    # Standard error of a bin: sqrt(density / (n width)); 5 of them, and 1e-3 for the curvature inside a bin.
    error = 5 * np.sqrt(density[low] / (200_000 * np.diff(edges)[0])) + 2e-3
    assert (np.abs(density[low] - 24 / np.pi * (1 - np.cos(middle[low]))) < error).all()


def test_uncorrelated_disorientations():
    """Of two orientations in equal shares half of all pairs are unlike, wherever in the volume they lie."""
    two = quaternion.random(jax.random.key(0), (2,))
    pair = jnp.broadcast_to(two[:, None], (2, 50, 4))
    between = float(quaternion.disorientation(two[0], two[1]))
    angles = np.asarray(texture.uncorrelated_disorientations(jax.random.key(1), pair, 4000))
    hit = np.abs(angles - between) < 1e-5
    assert hit.mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(4000))
    assert np.abs(angles[~hit]).max() < 1e-5


def test_the_group_is_the_one_asked_for():
    """Hexagonal crystals: six equivalent orientations have one ODF and no disorientation."""
    q = quaternion.random(jax.random.key(2), (1,))
    turns = np.radians(60.0 * np.arange(6)) / 2
    about_c = np.stack([np.cos(turns), 0 * turns, 0 * turns, np.sin(turns)], axis=-1).astype(np.float32)
    alike = quaternion.multiply(about_c, q)
    c = texture.odf_coefficients(q, 4, "622")
    # M = 1 for l = 0, 2, 4: the peak is the sum of 2 l + 1.
    np.testing.assert_allclose(texture.odf(c, alike, "622"), 1 + 5 + 9, rtol=1e-4)
    assert float(texture.pole_figure(q, (0.0, 0.0, 1.0), sphere(4000), "622").mean()) == pytest.approx(1, abs=0.01)
    pole = texture.pole_directions(q, (0.0, 0.0, 1.0), "622")[0, :1]
    kappa = np.log(0.5) / (2 * np.log(np.cos(np.radians(7.5) / 2)))
    figure = texture.pole_figure(q, (0.0, 0.0, 1.0), pole, "622")
    assert float(figure[0]) == pytest.approx((1 + kappa) / 2, rel=1e-4)  # two poles of c
    assert float(texture.uncorrelated_disorientations(jax.random.key(0), alike, 50, "622").max()) < 1e-3
    assert float(texture.uncorrelated_disorientations(jax.random.key(0), alike, 50, "432").max()) > 0.4


def test_equivalent_orientations_have_one_pole_figure(x64):
    """Turns of 60 degrees about c. The density goes as (1 + cosine)^323, which magnifies the rounding of a cosine."""
    turns = np.radians(60.0 * np.arange(6)) / 2
    about_c = np.stack([np.cos(turns), 0 * turns, 0 * turns, np.sin(turns)], axis=-1)
    q = np.asarray(quaternion.random(jax.random.key(2), (1,)), np.float64)
    alike = quaternion.multiply(about_c, q / np.linalg.norm(q))
    figures = np.stack([texture.pole_figure(each[None], (0.0, 0.0, 1.0), sphere(400), "622") for each in alike])
    assert figures.max() > 10
    # 162, the peak, times 323 times a few roundings of 1e-16.
    np.testing.assert_allclose(figures, np.stack([figures[0]] * 6), rtol=0, atol=1e-10)
    # With cubic symmetry other poles come with the turns.
    cubic = [texture.pole_figure(each[None], (1.0, 0.0, 0.0), sphere(400), "432") for each in alike[:2]]
    assert np.abs(cubic[1] - cubic[0]).max() > 1


def test_bad_angles_are_named():
    with pytest.raises(ValueError, match="no angles"):
        texture.disorientation_distribution(np.zeros(0))
    with pytest.raises(ValueError, match=r"largest angle of 80\.2 degrees"):
        texture.disorientation_distribution(np.array([0.1, 1.4]))


def test_what_has_no_weight_may_be_nan():
    q = np.array(quaternion.random(jax.random.key(0), (20,)))
    alone = texture.odf_coefficients(q[:19], 4)
    q[19] = np.nan
    weighted = texture.odf_coefficients(q, 4, weights=(np.arange(20) < 19).astype(np.float32))
    np.testing.assert_allclose(weighted[4], alone[4], atol=1e-5)


@pytest.mark.parametrize("halfwidth", [7.5, 0.0])
def test_a_halfwidth_in_degrees_is_refused(halfwidth):
    with pytest.raises(ValueError, match="accepted are radians between 0 and pi"):
        texture.pole_figure(np.eye(1, 4, dtype=np.float32), (1, 0, 0), np.eye(3, dtype=np.float32), halfwidth=halfwidth)
