"""Embeddings: what they are (tensors), what they keep (symmetry, distance, variance), and the way back under noise.

Compiling costs more than computing here: batches are of two sizes, and smaller ones are padded (`decode`).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import spearmanr

from polymicros_jax.orientation import embedding, lookup, quaternion, symmetry

GROUPS = ("432", "622")
ISOMETRY = {"432": np.sqrt(15.0), "622": 5.71940}  # embedding distance per radian, from the tensors, see test_metric
F32 = 5e-6  # sums of products of up to six float32 factors, values below 3
COUNT = 8192
MANY = 100_000  # several chunks of `decode`, and not a multiple of one


@pytest.fixture(scope="module", params=GROUPS)
def group(request):
    return request.param


def draw(seed, count=COUNT):
    return quaternion.random(jax.random.key(seed), (count,))


def decode(e, group):
    """Pads to COUNT rows, so that all calls share one program a group."""
    q, distance = embedding.decode(jnp.pad(e, ((0, COUNT - len(e)), (0, 0))), group)
    return q[: len(e)], distance[: len(e)]


@pytest.fixture(scope="module")
def round_trip(group):
    """MANY orientations, their embeddings, and what comes back."""
    q = draw(2, MANY)
    e = embedding.encode(q, group)
    return (q, e, *embedding.decode(e, group))


def inner_products(q, p, group):
    """The tensors' own inner products, from angles between crystal axes alone, with what is isotropic removed."""
    gq, gp = np.asarray(quaternion.to_matrix(q), np.float64), np.asarray(quaternion.to_matrix(p), np.float64)
    if group == "432":
        cosines = np.einsum("nki,nli->nkl", gq, gp)
        # Traceless part of order 4: P_4, mean 0; scaled to norm 3/2.
        legendre = (35 * cosines**4 - 30 * cosines**2 + 3) / 8
        return 9 / 4 * legendre.sum(axis=(1, 2)) / 5.25
    a = np.array([[1, 0, 0], [-0.5, np.sqrt(0.75), 0], [-0.5, -np.sqrt(0.75), 0]])
    sixth = (np.einsum("nki,nli->nkl", a @ gq, a @ gp) ** 6).mean(axis=(1, 2)) - 1 / 7
    second = np.einsum("ni,ni->n", gq[:, 2], gp[:, 2]) ** 2 - 1 / 3
    plain = (4 / (3 * np.sqrt(2))) ** 2 * sixth + (1 / np.sqrt(24)) ** 2 * second
    norm = 8 / 9 * ((1 + 2 * 0.5**6) / 3 - 1 / 7) + 1 / 24 * 2 / 3
    return 27 / 4 * plain / norm


@pytest.mark.usefixtures("x64")
def test_inner_products_are_those_of_the_tensors(group):
    q, p = draw(0, 200), draw(1, 200)
    inner = jnp.sum(embedding.encode(q, group) * embedding.encode(p, group), axis=-1)
    np.testing.assert_allclose(inner, inner_products(q, p, group), atol=1e-12)


def test_channels_and_norm(group):
    e = embedding.encode(draw(0), group)
    size = {"432": 9, "622": 27}[group]
    assert e.shape == (COUNT, size)
    assert embedding.channels(group) == size
    np.testing.assert_allclose(jnp.linalg.norm(e, axis=-1), np.sqrt(size) / 2, rtol=3e-6)


def test_invariance_under_every_crystal_operation(group):
    order = len(symmetry.operators(group))
    q = symmetry.equivalents(draw(0, COUNT // 24), group)
    e = np.asarray(embedding.encode(jnp.resize(q.reshape(-1, 4), (COUNT, 4)), group))
    e = e[: COUNT // 24 * order].reshape(COUNT // 24, order, -1)
    np.testing.assert_allclose(e, np.repeat(e[:, :1], order, axis=1), atol=F32)  # the first operation is the identity


def test_wrong_symmetry_is_not_invariant():
    s = symmetry.operators("432")[1]
    q = draw(0)
    assert jnp.abs(embedding.encode(quaternion.multiply(s, q), "622") - embedding.encode(q, "622")).max() > 0.5


def test_equivariance_under_rotation_of_the_sample(group):
    q, r = draw(0), draw(5)[0]
    d = embedding.sample_rotation(r, group)
    size = embedding.channels(group)
    np.testing.assert_allclose(d @ d.T, np.eye(size), atol=F32)
    e = embedding.encode(q, group)
    np.testing.assert_allclose(embedding.encode(quaternion.rotate_sample(q, r), group), e @ d.T, atol=2 * F32)
    assert jnp.abs(embedding.encode(quaternion.multiply(r, q), group) - e @ d.T).max() > 0.1  # the other side is not


def test_standard_deviation_one_half_under_uniform_texture(round_trip):
    e = np.asarray(round_trip[1])
    # Standard error of a deviation s of n draws: s sqrt((kurtosis - 1) / 4 n), kurtosis below 4; four of them.
    tolerance = 4 * 0.5 * np.sqrt(3 / 4 / 100_000)
    np.testing.assert_allclose(e.std(axis=0), 0.5, atol=tolerance)
    np.testing.assert_allclose(e.mean(axis=0), 0.0, atol=4 * 0.5 / np.sqrt(100_000))


@pytest.mark.usefixtures("x64")
def test_metric_is_isotropic(group):
    """The pull-back of the Euclidean metric is a multiple of the identity, the same at every orientation."""
    q = quaternion.random(jax.random.key(0), (4,))

    def turned(v, q):
        return embedding.encode(quaternion.multiply(quaternion.from_rotation_vector(v), q), group)

    j = jax.vmap(jax.jacobian(turned), (None, 0))(jnp.zeros(3), q)
    metric = np.einsum("nhi,nhj->nij", j, j)
    np.testing.assert_allclose(metric, np.tile(ISOMETRY[group] ** 2 * np.eye(3), (4, 1, 1)), rtol=1e-5, atol=1e-10)


def test_distance_is_monotone_in_disorientation(group):
    q, p = draw(0), draw(1)
    angle = np.asarray(quaternion.disorientation(q, p, group))
    distance = np.linalg.norm(np.asarray(embedding.encode(q, group) - embedding.encode(p, group)), axis=-1)
    assert spearmanr(angle, distance).statistic > 0.95  # measured: 0.97 (432), 0.965 (622)
    by_angle = np.array([part.mean() for part in np.array_split(distance[np.argsort(angle)], 12)])
    # Mean distance in twelve classes of disorientation grows to the last, up to the noise of the plateau at the end.
    assert (np.diff(by_angle) > -0.01 * by_angle[-1]).all()


@pytest.mark.usefixtures("x64")
def test_mixing_is_orthogonal(group):
    o = embedding.mixing(group)
    np.testing.assert_allclose(o @ o.T, np.eye(len(o)), atol=1e-14)


@pytest.mark.usefixtures("x64")
def test_generators_are_derivatives(group):
    q = quaternion.random(jax.random.key(0), (5,))
    lie = embedding.generators(group)

    @jax.jit
    def turned(v):
        return embedding.encode_harmonics(quaternion.multiply(q, quaternion.from_rotation_vector(v)), group)

    e = np.asarray(turned(jnp.zeros(3)))
    derivatives = np.asarray(jax.jacfwd(turned)(jnp.zeros(3)))
    for i in range(3):
        np.testing.assert_allclose(derivatives[..., i], e @ lie[i].T, atol=1e-12)


def test_round_trip(group, round_trip):
    """0.05 degrees at every one of 10^5 orientations is asked for; single precision gives a hundred times better."""
    q, _, recovered, distance = round_trip
    assert np.degrees(quaternion.disorientation(recovered, q, group)).max() < 5e-4
    assert distance.max() < 2 * F32
    assert symmetry.in_fundamental_zone(np.asarray(recovered), group, 1e-6).all()


@pytest.mark.usefixtures("x64")
def test_round_trip_in_double_precision(group):
    q = quaternion.random(jax.random.key(2), (200,))
    recovered, _ = embedding.decode(embedding.encode(q, group), group)
    assert recovered.dtype == jnp.float64
    assert np.degrees(quaternion.disorientation(recovered, q, group)).max() < 1e-9


def test_noise_acts_as_the_isometry_predicts(group):
    """Noise s per channel, projected on three tangents of length k: root mean square error sqrt3 s / k radians.

    At s = 0.05: 1.28 (432) and 0.87 (622) degrees. The curvature of the manifold, neglected here, adds below 2 %. The
    largest is bounded by 5.8 s / k, the 1e-7 quantile of a chi with three degrees of freedom.
    """
    q = draw(3)
    e = embedding.encode(q, group)
    noisy = e + 0.05 * jax.random.normal(jax.random.key(4), e.shape)
    recovered, distance = decode(noisy, group)
    error = np.asarray(quaternion.disorientation(recovered, q, group), np.float64)
    predicted = np.sqrt(3) * 0.05 / ISOMETRY[group]
    assert np.sqrt(np.mean(error**2)) == pytest.approx(predicted, rel=0.03)
    assert error.max() < 5.8 * 0.05 / ISOMETRY[group]
    # Three of H dimensions are absorbed, the rest is the distance.
    rest = 0.05 * np.sqrt(embedding.channels(group) - 3)
    assert np.sqrt(np.mean(np.asarray(distance) ** 2)) == pytest.approx(rest, rel=0.01)


@pytest.mark.parametrize("noise", [0.2, 0.5])
def test_degrades_smoothly_and_never_nan(group, noise):
    q = draw(5)
    e = embedding.encode(q, group)
    recovered, distance = decode(e + noise * jax.random.normal(jax.random.key(6), e.shape), group)
    assert np.isfinite(recovered).all()
    assert np.isfinite(distance).all()
    error = np.asarray(quaternion.disorientation(recovered, q, group), np.float64)
    assert np.sqrt(np.mean(error**2)) < 2 * np.sqrt(3) * noise / ISOMETRY[group]


@pytest.fixture(scope="module")
def fine_grid(group):
    """Embeddings of a 3-degree grid."""
    grid = lookup.fundamental_zone_grid(group, float(np.radians(3.0))).astype(np.float32)
    padded = jnp.resize(grid, (MANY, 4))
    return np.asarray(embedding.encode(padded, group))[: len(grid)]


@pytest.mark.reference
@pytest.mark.parametrize(("noise", "excess"), [(0.2, 1e-4), (0.5, 0.06), (10.0, 0.1)])
def test_decode_finds_the_nearest_point(group, fine_grid, noise, excess):
    """Against brute force on a 3-degree grid: never farther at noise 0.2.

    At 0.5, and in pure noise (10), several orientations explain a point almost equally well; one of them is returned.
    """
    size = embedding.channels(group)
    e = embedding.encode(draw(0), group)[:400] + noise * jax.random.normal(jax.random.key(0), (400, size))
    _, distance = decode(e, group)
    best = (np.asarray(e) @ fine_grid.T).max(axis=1)
    brute = np.sqrt((np.asarray(e) ** 2).sum(axis=1) + size / 4 - 2 * best)
    assert (np.asarray(distance) <= brute * (1 + excess)).all()


def test_blur_is_seen_in_the_distance():
    q, p = draw(0), draw(1)
    blurred = 0.5 * (embedding.encode(q) + embedding.encode(p))
    _, distance = decode(blurred, "432")
    apart = np.asarray(quaternion.disorientation(q, p)) > np.radians(30)
    assert np.median(np.asarray(distance)[apart]) > 0.3


def test_non_finite_and_zero_input(group):
    size = embedding.channels(group)
    good = embedding.encode(draw(0), group)[0]
    e = jnp.stack([jnp.zeros(size), jnp.full(size, jnp.nan), jnp.full(size, jnp.inf), good])
    q, distance = decode(e, group)
    assert np.isfinite(q).all()
    np.testing.assert_allclose(distance, [np.sqrt(size) / 2, np.inf, np.inf, 0], atol=F32)


def test_gradients_on_and_off_the_manifold():
    """Finite at a crystal, where the distance is zero, at the origin, and beside a voxel that is not a number.

    Off the manifold the nearest crystal does not move to first order along the distance, whose gradient therefore is
    the unit vector from there.
    """
    crystal = embedding.encode(draw(0))[0]
    e = jnp.stack([crystal, jnp.zeros(9), jnp.full(9, jnp.nan), crystal + 0.2])

    def total(x):
        q, distance = embedding.decode(x)
        return distance[0] + distance[3] + q[:3].sum(), (q, distance)

    gradient, (q, distance) = jax.grad(total, has_aux=True)(e)
    assert np.isfinite(gradient).all()
    # The steps converge linearly off the manifold; what six of them leave was at most 6e-5 at eight such points.
    np.testing.assert_allclose(gradient[3], (e[3] - embedding.encode(q[3])) / distance[3], atol=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_gradient_of_decode_is_the_inverse_metric(group):
    """To first order decode projects on the tangent space: d(angle vector)/de = J^T / k^2."""
    q = quaternion.random(jax.random.key(8))
    e = embedding.encode(q, group)

    def rotation_vector(x):
        turn = quaternion.multiply(quaternion.conjugate(embedding.decode(e, group)[0]), embedding.decode(x, group)[0])
        return 2 * turn[1:]

    expected = np.stack(
        [
            jax.jvp(
                lambda v: embedding.encode(quaternion.multiply(q, quaternion.from_rotation_vector(v)), group),
                (jnp.zeros(3),),
                (axis,),
            )[1]
            for axis in jnp.eye(3)
        ]
    )
    np.testing.assert_allclose(jax.jacobian(rotation_vector)(e), expected / ISOMETRY[group] ** 2, atol=1e-5)


def test_chunks_do_not_matter(group, round_trip):
    _, e, whole, distance = round_trip
    part, part_distance = decode(e[-COUNT:], group)
    np.testing.assert_allclose(np.abs(np.sum(np.asarray(whole[-COUNT:] * part), axis=-1)), 1.0, atol=F32)
    np.testing.assert_allclose(distance[-COUNT:], part_distance, atol=F32)


@pytest.mark.slow
def test_memory_of_a_million_voxels_is_that_of_a_chunk():
    """Compiles without running: the table of inner products of all at once would take 3 GB."""
    e = jax.ShapeDtypeStruct((1_000_000, 9), jnp.float32)
    analysis = embedding.decode.lower(e, "432").compile().memory_analysis()
    # Padded input, quaternions, distances and their reduction, 80 bytes a voxel, and the inner products of one chunk.
    assert analysis.temp_size_in_bytes < 4 * analysis.argument_size_in_bytes + 100e6


def test_one_voxel_at_a_time_gives_the_same():
    """Both directions, and what they are built of, under vmap."""
    q, p = draw(0), draw(1)
    e, angle = embedding.encode(q), quaternion.disorientation(q, p)
    recovered, distance = decode(e[:16], "432")
    np.testing.assert_allclose(jax.vmap(embedding.encode)(q), e, atol=F32)
    np.testing.assert_allclose(jax.vmap(quaternion.disorientation)(q, p), angle, atol=F32)
    one_by_one = jax.vmap(embedding.decode)(e[:16])
    np.testing.assert_allclose(one_by_one[0], recovered, atol=F32)
    np.testing.assert_allclose(one_by_one[1], distance, atol=F32)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"found '23'.*432, 622"):
        embedding.encode(draw(0), "23")
    with pytest.raises(ValueError, match="found 3 channels; group 432 has 9"):
        embedding.decode(jnp.zeros((2, 3)))
