import dataclasses

import jax
import numpy as np
import pytest

from polymicros_jax.data import samples
from polymicros_jax.data.errors import DataError
from polymicros_jax.data.repair import fill, reject, to_cubic
from polymicros_jax.data.volume import OrientationVolume, crop
from polymicros_jax.orientation import quaternion


def scan(shape: tuple[int, int, int] = (7, 6, 5), observed: float = 0.3, seed: int = 0) -> OrientationVolume:
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < observed
    return OrientationVolume(
        quaternions=np.asarray(quaternion.random(jax.random.key(seed), shape)),
        phase=np.where(mask, rng.integers(1, 3, shape), 0),
        mask=mask,
        spacing=(1.0, 1.3, 0.7),
        fields={"confidence": rng.random(shape), "number": np.arange(mask.size).reshape(shape)},
    )


@pytest.mark.parametrize("max_distance", [None, 1.0, 1.3])
def test_fill_takes_the_nearest_observed_voxel(max_distance: float | None) -> None:
    volume = scan()
    filled = fill(volume, max_distance)
    place = np.stack(np.indices(volume.shape), axis=-1) * np.array(volume.spacing)
    known = place[volume.mask]
    numbers = volume.fields["number"][volume.mask]
    for index in np.ndindex(volume.shape):
        distance = np.linalg.norm(known - place[index], axis=-1)  # brute force
        if volume.mask[index]:
            source = volume.fields["number"][index]
        elif max_distance is None or distance.min() <= max_distance + 1e-9:
            source = filled.fields["number"][index]
            assert source in numbers[distance < distance.min() + 1e-6]
        else:
            assert not filled.mask[index]
            continue
        origin = np.unravel_index(source, volume.shape)
        assert filled.mask[index]
        assert filled.fields["filled"][index] == (not volume.mask[index])
        assert np.array_equal(filled.quaternions[index], volume.quaternions[origin])
        assert filled.phase[index] == volume.phase[origin]


def test_fill_knows_that_voxels_are_not_cubes() -> None:
    # A hole whose z-neighbour is 0.7 away and whose x-neighbour is 1.0 away takes the former, and the reverse for tall
    # voxels.
    volume = scan(observed=2.0)
    mask = np.zeros(volume.shape, bool)
    mask[2, 2, 2], mask[3, 2, 1] = True, True
    sparse = dataclasses.replace(volume, mask=mask)
    flat, tall = fill(sparse), fill(dataclasses.replace(sparse, spacing=(0.7, 1.3, 1.0)))
    assert flat.fields["number"][3, 2, 2] == volume.fields["number"][3, 2, 1]
    assert tall.fields["number"][3, 2, 2] == volume.fields["number"][2, 2, 2]


def test_fill_is_only_where_asked_and_remembers() -> None:
    volume = scan()
    near = fill(volume, 0.7)
    both = fill(near)
    assert not near.mask.all()
    assert both.mask.all()
    assert np.array_equal(both.fields["filled"], ~volume.mask)
    assert np.array_equal(fill(volume, 0.0).mask, volume.mask)
    nothing = dataclasses.replace(volume, mask=np.zeros(volume.shape, bool))
    with pytest.raises(DataError, match="no observed voxel"):
        fill(nothing)
    with pytest.raises(DataError, match="max_distance: found -1"):
        fill(volume, -1.0)


def test_reject_masks_low_confidence_and_what_is_not_a_number() -> None:
    volume = scan(observed=0.8)
    confidence = volume.fields["confidence"].copy()
    confidence[0, 0, 0] = np.nan
    volume = dataclasses.replace(volume, fields={**volume.fields, "confidence": confidence})
    kept = reject(volume, "confidence", 0.4)
    assert np.array_equal(kept.mask, volume.mask & (np.nan_to_num(confidence, nan=-1) >= 0.4))
    assert 0 < kept.mask.sum() < volume.mask.sum()
    with pytest.raises(DataError, match=r"field: found 'ci', accepted are \['confidence', 'number'\]"):
        reject(volume, "ci", 0.1)


def test_to_cubic_uses_the_finest_edge() -> None:
    cubic = to_cubic(scan())
    assert cubic.spacing == (0.7, 0.7, 0.7)
    assert cubic.shape == (10, 11, 5)  # 7 / 0.7, 7.8 / 0.7 rounded, 3.5 / 0.7
    # Centres at 0.35, 1.05, ... lie in the old voxels 0, 1, 1, 2, 3, ... of edges 1 and 1.3; z keeps its own.
    x, y = ((np.arange(n) + 0.5) * 0.7 // edge for n, edge in ((10, 1.0), (11, 1.3)))
    number = np.ravel_multi_index(
        np.meshgrid(x.astype(int), np.minimum(y.astype(int), 5), np.arange(5), indexing="ij"), (7, 6, 5)
    )
    np.testing.assert_array_equal(cubic.fields["number"], number)
    flat = crop(scan(), (0, 0, 0), (7, 6, 1))
    assert to_cubic(flat).spacing == (1.0, 1.0, 1.0)
    assert to_cubic(flat, 0.5).shape == (14, 16, 1)


def test_measured_sections_can_be_repaired() -> None:
    # The threshold that the source states for these sections keeps 65.0 % of the points.
    volume = samples.load("in100_raw_slices")
    good = reject(reject(volume, "confidence", 0.1 + 5e-4), "image_quality", 120 + 0.05)
    assert good.mask.mean() == pytest.approx(0.650, abs=5e-4)
    full = fill(good)
    assert full.mask.all()
    assert np.array_equal(full.quaternions[good.mask], good.quaternions[good.mask])
    assert len(np.unique(full.quaternions.reshape(-1, 4), axis=0)) == len(
        np.unique(good.quaternions[good.mask], axis=0)
    )
