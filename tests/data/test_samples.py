from pathlib import Path

import numpy as np
import pytest

from polymicros_jax.data import ebsd, samples
from polymicros_jax.data.errors import DataError
from polymicros_jax.orientation import grains, quaternion

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the published files are not here")


def boundary_disorientations(volume: samples.OrientationVolume) -> np.ndarray:
    """Degrees across every face between observed voxels of two grains."""
    found = []
    for axis in range(3):
        low, high = (
            tuple(slice(a, b) if d == axis else slice(None) for d in range(3)) for a, b in ((None, -1), (1, None))
        )
        grain = volume.fields["grain"]
        faces = volume.mask[low] & volume.mask[high] & (grain[low] != grain[high])
        pairs = volume.quaternions[low][faces], volume.quaternions[high][faces]
        found.append(np.degrees(np.asarray(quaternion.disorientation(*pairs, "432"))))
    return np.concatenate(found)


def test_samples_are_listed_small_and_documented() -> None:
    assert samples.names() == ("al1050", "generated_al1050", "generated_in100", "in100", "in100_raw_slices")
    assert sum(path.stat().st_size for path in samples.FOLDER.iterdir()) < 12e6
    for name in samples.names():
        volume = samples.load(name)
        assert {"source", "licence", "citation", "conversions", "limits"} <= set(volume.provenance)
        assert (samples.FOLDER / f"LICENSE.{name}").is_file()


def test_in100_is_the_published_crop() -> None:
    volume = samples.load("in100")
    assert volume.shape == (100, 100, 68)
    assert volume.spacing == (0.25, 0.25, 0.25)
    assert volume.group == "432"
    # Grain 1 of the published table: Bunge 4.298848, 0.420528, 1.273094.
    first = volume.quaternions[volume.fields["grain"] == 1]
    expected = quaternion.from_euler(np.array([4.298848, 0.420528, 1.273094], np.float32))
    assert len(first) > 0
    assert np.abs(first - np.asarray(expected)).max() < 1e-6
    # Twins: the source states 29 % of the boundary area at 58 to 62.8 degrees on the full crop, of which this is 68 %.
    # Random texture would give 3.4 %.
    angles = boundary_disorientations(volume)
    assert 0.26 < np.mean((angles > 58) & (angles < 62.8)) < 0.32


@pytest.mark.parametrize("name", ["generated_in100", "generated_al1050"])
def test_generated_samples_say_so_and_are_periodic(name: str) -> None:
    volume = samples.load(name)
    assert volume.provenance["simulated"]
    assert name.removeprefix("generated_") in volume.provenance["method"]
    assert volume.shape == (64, 64, 64)
    assert volume.mask.all()
    q = volume.quaternions
    for axis in range(3):
        steps = np.degrees(np.asarray(quaternion.disorientation(q, np.roll(q, 1, axis), "432")))
        across, inside = (np.moveaxis(steps, axis, 0)[part].mean() for part in (0, slice(1, None)))
        # The wrap is one plane of 64 like any other: means over 4096 faces in some 100 grains scatter by a tenth. In a
        # volume that is not periodic neighbours there are unrelated: 40 degrees apart, not 10.
        assert across == pytest.approx(inside, rel=0.35)
    grain = grains.segment(q, periodic=True)
    assert grains.sizes(grain).max() < 0.05 * grain.size
    # Two voxels apart by half the side are unrelated.
    apart = np.degrees(np.asarray(quaternion.disorientation(q, np.roll(q, (32, 32, 32), (0, 1, 2)), "432")))
    assert apart.mean() > 30


def test_al1050_has_the_published_counts() -> None:
    volume = samples.load("al1050")
    assert volume.shape == (109, 103, 64)
    assert volume.spacing == (2.5, 2.5, 2.5)
    assert volume.mask.sum() == 717986
    assert len(np.unique(volume.quaternions[volume.mask], axis=0)) == 104
    assert "not verified" in volume.provenance["convention"]


def test_raw_slices_keep_their_unindexed_points() -> None:
    volume = samples.load("in100_raw_slices")
    assert volume.shape == (189, 201, 5)
    assert volume.mask.mean() == pytest.approx(0.821, abs=5e-4)  # stated by the source, three digits
    assert np.all(volume.fields["confidence"][~volume.mask] == -1)


@pytest.mark.parametrize("name", sorted(samples.SPLITS))
def test_training_and_evaluation_never_share_a_voxel(name: str) -> None:
    whole = samples.load(name)
    train, evaluate = samples.load(name, "train"), samples.load(name, "evaluate")
    (a, b), (c, d) = samples.SPLITS[name]["train"], samples.SPLITS[name]["evaluate"]
    assert a == 0
    assert b + 2 <= c
    assert d == whole.shape[0]
    assert np.array_equal(train.quaternions, whole.quaternions[a:b])
    assert np.array_equal(evaluate.quaternions, whole.quaternions[c:d])
    assert min(*train.shape, *evaluate.shape) >= 32  # a patch fits into either
    assert train.provenance["split"] == f"train: {a} <= x < {b}"


def test_unknown_names_are_refused() -> None:
    with pytest.raises(DataError, match=r"found 'steel', accepted are al1050, generated_al1050, gen"):
        samples.load("steel")
    with pytest.raises(DataError, match=r"split of in100: found 'test', accepted are all, train, evaluate"):
        samples.load("in100", "test")
    with pytest.raises(DataError, match=r"accepted are all"):
        samples.load("in100_raw_slices", "train")


@shared
def test_bundles_agree_with_the_published_files() -> None:
    published = ebsd.read(SHARED / "exp3d_al1050_labdct" / "lab_dct_Al1050.h5")
    bundled = samples.load("al1050")
    assert np.array_equal(bundled.mask, published.mask)
    assert np.abs(bundled.quaternions - published.quaternions).max() < 1e-6
    published = ebsd.read(SHARED / "exp3d_in100_raw_slices_1to5", frame="none", slice_spacing=0.25)
    bundled = samples.load("in100_raw_slices")
    assert np.array_equal(bundled.mask, published.mask)
    # Angles of up to 2 pi in float32 are good to 5e-7; half of that, times a few operations.
    dots = np.abs(np.sum(bundled.quaternions.astype(float) * published.quaternions, axis=-1))
    assert dots.min() > 1 - 1e-6
    ids = np.fromfile(SHARED / "exp3d_in100_crop" / "FeatureIds.raw", "<i4").reshape(68, 100, 100)
    assert np.array_equal(samples.load("in100").fields["grain"], ids.transpose(2, 1, 0))
