"""Random patches: pure functions of (seed, step), the 48 symmetries of the grid, the law of the positions."""

import itertools

import numpy as np
import pytest

from polymicros_jax.data import patches
from polymicros_jax.data.errors import DataError
from polymicros_jax.data.patches import JoinedFields, MemoryFields, batch, check_sizes, cube_symmetries, grid_of_patches
from polymicros_jax.data.volume import OrientationVolume
from polymicros_jax.orientation import quaternion, representation

KIND = representation.get("gsh4")
SIDE = 4
# Product, normalisation and storage round each component of a quaternion by 6e-8: an angle of up to 2 * 2 * 3 * 6e-8,
# at sqrt(20 / 3) * 3 / 2 of the field per radian 2.8e-6. The polynomials and matrix products add below 20 * 6e-8.
TOLERANCE = 4e-6


@pytest.fixture(scope="module")
def symmetries():
    return cube_symmetries(KIND.sample_rotation)


@pytest.fixture(scope="module")
def turns(symmetries):
    """The 48 matrices that take old to new coordinates, from the table's positions alone."""
    matrices = np.zeros((48, 3, 3))
    for matrix, axes, flips in zip(matrices, symmetries.permutations, symmetries.flips, strict=True):
        matrix[range(3), axes] = np.where(flips, -1.0, 1.0)
    return matrices


@pytest.fixture(scope="module")
def volume():
    """A crystal of its own in every voxel: whatever is misplaced or misturned shows."""
    q = np.random.default_rng(0).normal(size=(SIDE, SIDE, SIDE, 4))
    ones = np.ones((SIDE,) * 3, int)
    return OrientationVolume(q / np.linalg.norm(q, axis=-1, keepdims=True), ones, ones, (1.0, 1.0, 1.0))


@pytest.fixture(scope="module")
def field(volume):
    return np.asarray(KIND.encode(volume.quaternions))


def source_of(*sizes, channels=2, seed=0):
    rng = np.random.default_rng(seed)
    return MemoryFields(tuple(rng.normal(size=(*size, channels)).astype(np.float32) for size in sizes))


def test_the_operations_are_all_signed_permutations(turns):
    signed = {
        tuple(np.diag(signs)[list(axes)].ravel())
        for axes in itertools.permutations(range(3))
        for signs in itertools.product((1, -1), repeat=3)
    }
    assert {tuple(turn.ravel()) for turn in turns} == signed
    assert len(signed) == 48


def test_rotations_turn_positions_and_crystals_of_a_volume(symmetries, turns, volume, field):
    proper = [number for number, turn in enumerate(turns) if np.linalg.det(turn) > 0]
    assert len(proper) == 24
    for number in proper:
        expected = KIND.encode(volume.rotate_frame(turns[number]).quaternions)
        np.testing.assert_allclose(symmetries.apply(number, field), expected, atol=TOLERANCE)


def test_reflections_act_on_the_crystal_axes_as_on_vectors(symmetries, turns, volume, field):
    # Rows of the orientation matrix are the crystal axes in the sample frame. Reflected, they are left-handed; turning
    # all three round describes the same centrosymmetric crystal by a rotation.
    axes = np.asarray(quaternion.to_matrix(volume.quaternions), float)
    positions = np.stack(np.indices((SIDE,) * 3), axis=-1) - (SIDE - 1) / 2
    improper = [number for number, turn in enumerate(turns) if np.linalg.det(turn) < 0]
    assert len(improper) == 24
    for number in improper:
        moved = np.empty_like(axes)
        to = np.rint(positions @ turns[number].T + (SIDE - 1) / 2).astype(int)
        moved[tuple(np.moveaxis(to, -1, 0))] = -axes @ turns[number].T
        expected = KIND.encode(np.asarray(quaternion.from_matrix(moved.astype(np.float32))))
        np.testing.assert_allclose(symmetries.apply(number, field), expected, atol=TOLERANCE)


def test_the_operations_form_a_group(symmetries, turns, field):
    numbers = {tuple(turn.ravel()): number for number, turn in enumerate(turns)}
    once = [symmetries.apply(number, field) for number in range(48)]
    for a, b in itertools.product(range(48), repeat=2):
        product = numbers[tuple((turns[b] @ turns[a]).ravel())]
        np.testing.assert_allclose(symmetries.apply(b, once[a]), once[product], atol=TOLERANCE)


def test_norms_stay_and_the_inversion_leaves_the_channels_alone(symmetries, turns, field):
    for number in range(48):
        turned = symmetries.apply(number, field)
        np.testing.assert_allclose(np.linalg.norm(turned, axis=-1), 1.5, rtol=20 * 6e-8)
    inversion = next(number for number, turn in enumerate(turns) if np.array_equal(turn, -np.eye(3)))
    np.testing.assert_allclose(symmetries.apply(inversion, field), field[::-1, ::-1, ::-1], atol=1e-6)


def test_mirrors_undo_themselves(symmetries, turns, field):
    mirrors = [n for n, turn in enumerate(turns) if np.trace(turn) == 1 and np.linalg.det(turn) < 0]
    assert len(mirrors) == 9  # three of the faces, six of the face diagonals
    for number in mirrors:
        assert np.abs(symmetries.apply(number, field) - field).max() > 0.1
        back = symmetries.apply(number, symmetries.apply(number, field))
        np.testing.assert_allclose(back, field, atol=TOLERANCE)


@pytest.mark.parametrize("with_symmetries", [False, True])
def test_a_batch_is_a_function_of_seed_and_step(symmetries, with_symmetries):
    source = source_of((20, 21, 22), (19, 24, 20), channels=9)
    kept = symmetries if with_symmetries else None

    def make(seed=3, step=11, count=6, **options):
        return batch(source, seed=seed, step=step, count=count, size=4, symmetries=kept, **options)

    whole = make()
    assert (whole.shape, whole.dtype) == ((6, 4, 4, 4, 9), np.float32)
    assert whole.flags.c_contiguous
    np.testing.assert_array_equal(make(), whole)
    # A process that makes a share alone makes exactly that share.
    np.testing.assert_array_equal(make(count=2, first=4), whole[4:])
    np.testing.assert_array_equal(make(count=3), whole[:3])
    for other in (make(seed=4), make(step=12), make(first=6)):
        assert not any(np.array_equal(a, b) for a, b in itertools.product(whole, other))


def test_patches_are_pieces_of_their_field():
    # Voxel values are their own addresses.
    shape = (5, 6, 7)
    source = MemoryFields((np.stack(np.indices(shape), axis=-1).astype(np.float32),))
    seen = set()
    for patch in batch(source, seed=0, step=0, count=600, size=4):
        origin = patch[0, 0, 0]
        expected = origin + np.stack(np.indices((4, 4, 4)), axis=-1)
        np.testing.assert_array_equal(patch, expected)
        seen.add(tuple(origin.astype(int).tolist()))
    # Every one of the 2 x 3 x 4 places, ends included: 600 draws miss one with probability 24 (23/24)^600 = 2e-10.
    assert seen == set(itertools.product(range(2), range(3), range(4)))


def marked(*sizes):
    return MemoryFields(tuple(np.full((*size, 1), number, np.float32) for number, size in enumerate(sizes)))


@pytest.mark.parametrize(
    ("weights", "shares"),
    # By default uniform over the positions of a patch of 2: 1, 27 and 8 of them.
    [(None, [1 / 36, 27 / 36, 8 / 36]), ((1.0, 1.0, 2.0), [0.25, 0.25, 0.5]), ((0.0, 3.0, 1.0), [0.0, 0.75, 0.25])],
)
def test_fields_are_drawn_by_their_weights(weights, shares):
    source, count = marked((2, 2, 2), (4, 4, 4), (3, 3, 3)), 2000
    drawn = batch(source, seed=1, step=0, count=count, size=2, weights=weights)[:, 0, 0, 0, 0]
    for number, share in enumerate(shares):
        # Binomial: five standard deviations.
        assert abs((drawn == number).sum() - share * count) <= 5 * np.sqrt(count * share * (1 - share))


def test_fields_of_several_sources_are_numbered_one_after_the_other():
    first, second = marked((2, 2, 2), (4, 4, 4)), marked((3, 3, 3))
    joined = JoinedFields((first, second))
    assert joined.shapes == ((2, 2, 2), (4, 4, 4), (3, 3, 3))
    for index, (source, own) in enumerate([(first, 0), (first, 1), (second, 0)]):
        np.testing.assert_array_equal(joined.read_patch(index, (0, 0, 0), 2), source.read_patch(own, (0, 0, 0), 2))
    with pytest.raises(DataError, match=r"fields: found \[1, 2\] channels"):
        JoinedFields((first, MemoryFields((np.zeros((2, 2, 2, 2)),))))


@pytest.mark.parametrize("weights", [(1.0,), (1.0, 1.0, 1.0), (2.0, -1.0), (0.0, 0.0), (np.nan, 1.0)])
def test_weights_that_are_not_shares_of_the_fields_are_refused(weights):
    with pytest.raises(DataError, match=r"weights: found \(.*each of the 2 fields"):
        batch(marked((2, 2, 2), (3, 3, 3)), seed=0, step=0, count=1, size=2, weights=weights)


def test_all_symmetries_are_drawn(symmetries, monkeypatch):
    drawn = []
    monkeypatch.setattr(patches.CubeSymmetries, "apply", lambda self, number, patch: drawn.append(number) or patch)
    batch(marked((2, 2, 2)), seed=0, step=0, count=2400, size=2, symmetries=symmetries)
    counts = np.bincount(drawn, minlength=48)
    # Chi-squared with 47 degrees: mean 47, variance 94; five standard deviations.
    assert len(counts) == 48
    assert abs(((counts - 50) ** 2 / 50).sum() - 47) < 5 * np.sqrt(94)


def test_a_field_smaller_than_a_patch_is_named():
    check_sizes(source_of((8, 8, 8), (9, 8, 8)), 8)
    with pytest.raises(DataError, match=r"field 1 has the grid \(9, 7, 8\): smaller than a patch of 8\^3"):
        check_sizes(source_of((8, 8, 8), (9, 7, 8)), 8)


def test_grid_of_patches():
    source = MemoryFields(
        tuple(
            np.stack(np.indices(shape), axis=-1).astype(np.float32) + 100 * n for n, shape in enumerate([(4, 6, 7)] * 2)
        )
    )
    found = grid_of_patches(source, size=4, stride=2)
    origins = [(x, y, z) for x in (0,) for y in (0, 2) for z in (0, 2)]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:, 0, 0, 0], [*origins, *(np.array(o) + 100 for o in origins)])
    np.testing.assert_array_equal(found[3], source.fields[0][0:4, 2:6, 2:6])
    assert source.channels == 3
    assert isinstance(source, patches.FieldSource)
