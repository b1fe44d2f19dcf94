"""Distributions of local structure against polycrystals whose structure is known."""

import jax
import numpy as np
import pytest

from polymicros_jax.data import structure
from polymicros_jax.orientation import quaternion, representation
from polymicros_jax.simulate.voronoi import voronoi

KIND = representation.get("gsh4")
NORM = 1.5


def line(profile: np.ndarray) -> np.ndarray:
    """A field that changes along x alone, from one crystal's channels to another's by the profile."""
    one, other = np.asarray(KIND.encode(quaternion.random(jax.random.key(1), (2,))))
    values = one + profile[:, None] * (other - one)
    return np.broadcast_to(values[:, None, None], (len(profile), 3, 3, 9)).astype(np.float32)


def test_sharpness_of_a_step_is_one_and_of_a_ramp_its_share() -> None:
    step = structure.sharpness(line(np.repeat([0.0, 1.0], 8)), NORM, periodic=False)
    np.testing.assert_allclose(step, 1.0, rtol=1e-5)
    assert len(step) == 4 * 9  # four windows hold the face, on each of 9 lines; nothing changes along y and z
    # A ramp over w faces: the largest of equal changes in a window that holds them all is 1 / w.
    for width in (2, 4):
        profile = np.clip((np.arange(16) - 6) / width, 0, 1)
        found = structure.sharpness(line(profile), NORM, periodic=False)
        assert found.min() == pytest.approx(1 / width, rel=1e-4)
    # Periodic: the second boundary is where the sides touch.
    assert len(structure.sharpness(line(np.repeat([0.0, 1.0], 8)), NORM, periodic=True)) == 2 * 4 * 9


def test_small_changes_are_no_boundaries() -> None:
    noise = 0.01 * np.random.default_rng(0).standard_normal((8, 8, 8, 9)).astype(np.float32)
    assert len(structure.sharpness(noise, NORM, periodic=True)) == 0
    assert len(structure.sharpness(np.zeros((3, 3, 3, 9), np.float32), NORM, periodic=False)) == 0


def blocks(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Cubes of ``side`` voxels in a periodic box, each a crystal of its own."""
    corners = np.asarray(quaternion.random(jax.random.key(0), (3, 3, 3)))
    q = corners.repeat(side, 0).repeat(side, 1).repeat(side, 2)
    return q, np.asarray(KIND.encode(q))


def test_distributions_of_blocks_are_those_of_blocks() -> None:
    q, field = blocks(4)
    found = structure.distributions(q, field, NORM, group="432", periodic=True)
    assert set(found) == {"diameter", "chord", "disorientation", "sharpness"}
    np.testing.assert_allclose(found["diameter"], 2 * np.cbrt(3 * 64 / (4 * np.pi)), rtol=1e-6)
    assert len(found["diameter"]) == 27
    np.testing.assert_array_equal(found["chord"], 4.0)
    assert len(found["chord"]) == 3 * 3 * 12**2
    assert (found["disorientation"] > 5).all()
    assert (found["disorientation"] < 62.8).all()
    np.testing.assert_allclose(found["sharpness"], 1.0, rtol=1e-4)


def test_a_volume_is_like_itself_and_unlike_a_coarser_one() -> None:
    fine, coarse = (structure.distributions(*blocks(side), NORM, group="432", periodic=True) for side in (3, 6))
    same = structure.compare(fine, fine)
    assert all(value == 0.0 for name, value in same.items() if name.endswith("_distance"))
    row = structure.compare(coarse, fine)
    assert row["chord_median"] == 6.0
    assert row["chord_distance"] == 3.0  # all chords are 3 longer, and the source has no spread to measure by
    assert row["diameter_distance"] == pytest.approx(2 * np.cbrt(3 / (4 * np.pi)) * 3, rel=1e-6)
    assert row["disorientation_distance"] == pytest.approx(0.0, abs=1e-6)  # the same crystals side by side
    empty = {name: np.zeros(0) for name in fine}
    assert structure.compare(empty, fine)["chord_distance"] is None


def test_a_blurred_polycrystal_is_told_by_its_boundaries() -> None:
    labels = voronoi(0, (16, 16, 16), 12)
    q = np.asarray(quaternion.random(jax.random.key(2), (12,)))[labels]
    field = np.asarray(KIND.encode(q))
    blurred = sum(np.roll(field, shift, axis) for axis in range(3) for shift in (-1, 0, 1)) / 9
    sharp, soft = (np.median(structure.sharpness(each, NORM, periodic=True)) for each in (field, blurred))
    assert sharp > 0.9
    assert soft < 0.8
