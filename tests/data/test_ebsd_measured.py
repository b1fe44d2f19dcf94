"""Readers against published files, with the facts their sources state. Skipped where the files are not at hand."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from polymicros_jax.data import ebsd
from polymicros_jax.data.ebsd.frames import from_map
from polymicros_jax.data.errors import DataError
from polymicros_jax.data.volume import OrientationVolume
from polymicros_jax.orientation import quaternion

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="the published files are not here")


def grain_count(volume: OrientationVolume, smallest: int = 10) -> int:
    """Segments of at least `smallest` voxels whose neighbours (faces) are within 5 degrees."""
    number = np.arange(volume.mask.size).reshape(volume.shape)
    pairs = []
    for axis in range(3):
        low = tuple(slice(None, -1) if d == axis else slice(None) for d in range(3))
        high = tuple(slice(1, None) if d == axis else slice(None) for d in range(3))
        both = volume.mask[low] & volume.mask[high]
        if both.any():
            a, b = volume.quaternions[low][both], volume.quaternions[high][both]
            close = np.asarray(quaternion.disorientation(a, b, volume.group)) < np.radians(5)
            pairs.append(np.stack([number[low][both][close], number[high][both][close]]))
    edges = np.concatenate(pairs, axis=1)
    graph = coo_matrix((np.ones(edges.shape[1]), edges), shape=(number.size, number.size))
    _, label = connected_components(graph, directed=False)
    return int((np.bincount(label[volume.mask.reshape(-1)]) >= smallest).sum())


def assert_oriented(volume: OrientationVolume, place: tuple[int, int, int], euler: tuple[float, ...]) -> None:
    """The voxel is observed and has these Bunge angles, in radians; float32: the dot product is good to 1e-6."""
    q = quaternion.from_euler(np.array(euler, np.float32))
    assert volume.mask[place]
    assert abs(abs(np.dot(volume.quaternions[place], q)) - 1) < 1e-6


@dataclasses.dataclass(frozen=True)
class Fact:
    """What a file is known to hold; voxels are index to Bunge angles in radians as its text or bytes show them."""

    path: str
    shape: tuple[int, int, int]
    spacing: tuple[float, ...]
    observed: float
    symmetry: str | tuple[str, ...] = "432"
    voxels: tuple[tuple[tuple[int, int, int], tuple[float, float, float]], ...] = ()
    phases: tuple[float, ...] = ()
    grains: int | None = None
    phase: int | None = None


FACTS = [
    Fact(
        "exp2d_sdss_orix/sdss_ferrite_austenite.ang",
        (117, 100, 1),
        (1.5, 1.5),
        1.0,
        voxels=(
            ((0, 0, 0), (3.54788, 0.67696, 2.98719)),
            ((1, 0, 0), (2.71855, 0.93469, 4.03133)),
            ((116, 99, 0), (2.27744, 0.84674, 3.52001)),
        ),
        phases=(0.483, 0.517),
        grains=75,
        phase=1,
    ),
    Fact(
        "exp2d_mtex_misc/DC06_2uniax.ang",
        (51, 101, 1),
        (1.0, 1.0),
        1.0,
        voxels=(((0, 0, 0), (6.25471, 1.10015, 3.56849)), ((50, 100, 0), (2.93469, 1.91583, 5.92129))),
        grains=22,
    ),
    Fact(
        "exp2d_u720_schulz/ebsd_3-1_Fig1.ctf",
        (200, 200, 1),
        (0.1, 0.1),
        0.765,
        voxels=(
            ((0, 0, 0), tuple(np.radians([248.4804, 31.8310, 68.9251]))),
            ((199, 199, 0), tuple(np.radians([278.2456, 22.4427, 76.2734]))),
        ),
        phases=(0.600, 0.164, 0.001),
        grains=103,
    ),
    Fact(
        "exp2d_copper_mtextools/copperSquare.cpr",
        (293, 296, 1),
        (2.0, 2.0),
        0.9994,
        voxels=(((0, 0, 0), (4.98124, 0.4342434, 1.3269262)), ((292, 295, 0), (0.9762089, 1.6726227, 2.3421671))),
        grains=561,
    ),
    Fact(
        "exp2d_ti64_betaphase_lightform/Sample.crc",
        (380, 380, 1),
        (0.15, 0.15),
        0.838,
        symmetry=("622", "432"),
        # The first point is not indexed: the first that is comes next.
        voxels=(
            ((1, 0, 0), (0.44965583, 0.7419703, 0.7847206)),
            ((379, 379, 0), (0.5229505, 0.7378899, 0.55415237)),
        ),
        phases=(0.382, 0.455),
        grains=93,
        phase=2,
    ),
    Fact(
        "exp2d_nisuperalloy_defdap/testDataEBSD.cpr",
        (359, 243, 1),
        (0.12, 0.12),
        1.0,
        voxels=(((0, 0, 0), (4.511944, 0.7443783, 1.5223058)), ((358, 242, 0), (1.5148166, 0.7853607, 1.1079137))),
        grains=109,
    ),
    Fact(
        "exp2d_ni_edax_ebsdlib/EdaxAngOnly.h5",
        (186, 151, 1),
        (1.5, 1.5),
        1.0,
        voxels=(((0, 0, 0), (4.0124, 0.94030994, 5.56448)), ((185, 150, 0), (2.97947, 1.01044, 5.72402))),
    ),
    Fact(
        "synth3d_cipherparse_dream3d/synthetic_d3d.dream3d",
        (48, 64, 128),
        (1.0, 1.0, 1.0),
        1.0,
        symmetry=("432", "622"),
        # Periodic: one grain holds both corners, so a voxel in between tells the axes apart.
        voxels=(
            ((0, 0, 0), (1.6193657, 1.0141209, 5.4564095)),
            ((20, 3, 10), (4.834629, 2.0990705, 3.185643)),
            ((47, 63, 127), (1.6193657, 1.0141209, 5.4564095)),
        ),
        phases=(354046 / 393216, 39170 / 393216),
    ),
    Fact(
        "synth3d_prisms_copper32/Copper.dream3d",
        (32, 32, 32),
        (11.0, 11.0, 11.0),
        1.0,
        voxels=(
            ((0, 0, 0), (6.003182, 1.9385104, 2.7549698)),
            ((20, 3, 10), (5.942594, 1.2713203, 5.581771)),
            ((31, 31, 31), (6.003182, 1.9385104, 2.7549698)),
        ),
    ),
]


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.path.split("/")[0])
def test_published_file(fact: Fact) -> None:
    volume = ebsd.read(SHARED / fact.path, frame="none")
    assert volume.shape == fact.shape
    assert volume.spacing[: len(fact.spacing)] == pytest.approx(fact.spacing)
    assert volume.symmetry == fact.symmetry
    # Stated to three digits.
    assert volume.mask.mean() == pytest.approx(fact.observed, abs=6e-4)
    for number, share in enumerate(fact.phases, start=1):
        assert (volume.phase == number).mean() == pytest.approx(share, abs=6e-4)
    for place, euler in fact.voxels:
        assert_oriented(volume, place, euler)
    if fact.grains is not None:
        chosen = volume if fact.phase is None else volume.only_phase(fact.phase)
        # Exact where the source counted as here; a tie at 5.000 degrees in float32 may join or part a pair.
        assert abs(grain_count(chosen) - fact.grains) <= max(1, 0.01 * fact.grains)


def test_axes_are_not_exchanged() -> None:
    # Neighbours along a row of the file are neighbours along x: second row of the text has x = 1.5, y = 0.
    volume = ebsd.read(SHARED / FACTS[0].path, frame="none")
    second = quaternion.from_euler(np.array([2.71855, 0.93469, 4.03133], np.float32))
    assert abs(abs(np.dot(volume.quaternions[0, 1, 0], second)) - 1) > 1e-3


def test_in100_sections() -> None:
    volume = ebsd.read(SHARED / "exp3d_in100_raw_slices_1to5", frame="edax", slice_spacing=0.25)
    assert volume.shape == (189, 201, 5)
    assert volume.spacing == (0.25, 0.25, 0.25)
    assert volume.mask.mean() == pytest.approx(0.821, abs=5e-4)
    good = (volume.fields["confidence"] > 0.1) & (volume.fields["image_quality"] > 120)
    assert good.mean() == pytest.approx(0.650, abs=5e-4)
    assert not volume.mask[0, 0].any()
    assert not volume.mask[-1, -1].any()
    # The first indexed line of Slice_1.ang, at x = 37.75, y = 1.25, and the last of Slice_5.ang, at 28.75, 48.25.
    written = from_map(volume, "edax")
    assert_oriented(written, (151, 5, 0), (1.26482, 1.78131, 5.84252))
    assert_oriented(written, (115, 193, 4), (3.34484, 1.33166, 4.23260))
    assert volume.provenance["sections"] == [f"Slice_{i}.ang" for i in range(1, 6)]


def test_kestens_steel_is_cut_from_a_larger_scan() -> None:
    # Its headers keep the step 0.1 of the map it was cut from; the points are 0.4 apart.
    volume = ebsd.read(SHARED / "exp3d_mtex_kestens_steel", frame="edax", slice_spacing=0.12)
    assert volume.shape == (35, 40, 59)
    assert volume.spacing == (0.4, 0.4, 0.12)
    assert volume.mask.mean() == pytest.approx(0.9958, abs=5e-5)
    plain = ebsd.read(SHARED / "exp3d_mtex_kestens_steel", frame="none", slice_spacing=0.12)
    assert_oriented(plain, (0, 0, 0), (4.63245, 0.52904, 1.39061))
    assert_oriented(plain, (34, 39, 58), (5.85837, 0.61718, 0.09447))


def test_hexagonal_copper_map() -> None:
    volume = ebsd.read(SHARED / "exp2d_copper_hexgrid_ebsdlab" / "EBSD.ang", frame="none")
    assert volume.spacing == (0.2, 0.2, 0.2)
    assert volume.shape == (104, 200, 1)  # 20.6 x 39.8 micrometres
    # 2,945 of 23,909 points carry angles of 4 pi; the square grid samples the same area.
    assert volume.mask.mean() == pytest.approx(1 - 2945 / 23909, abs=3e-3)
    assert (volume.fields["confidence"] >= 0.1).mean() == pytest.approx(0.854, abs=3e-3)
    assert not volume.mask[0, 0, 0]
    # The second point of the first row, and the last point, at (20.60, 39.84), nearest to the last voxel.
    assert_oriented(volume, (1, 0, 0), (2.30077, 0.19186, 5.67241))
    assert_oriented(volume, (103, 199, 0), (2.48308, 1.35311, 0.84453))


def test_edax_confidence() -> None:
    volume = ebsd.read(SHARED / "exp2d_ni_edax_ebsdlib" / "EdaxAngOnly.h5", frame="edax")
    assert (volume.fields["confidence"] >= 0.1).mean() == pytest.approx(0.931, abs=5e-4)
    good = dataclasses.replace(volume, mask=volume.fields["confidence"] >= 0.1)
    assert abs(grain_count(good) - 249) <= 3


def test_labdct_volume() -> None:
    volume = ebsd.read(SHARED / "exp3d_al1050_labdct" / "lab_dct_Al1050.h5")
    assert volume.shape == (109, 103, 64)
    assert volume.spacing == pytest.approx((2.5, 2.5, 2.5))
    assert volume.mask.sum() == 717986
    # The file's vectors of the first and the last voxel; the reader takes them with the other sign.
    for place, vector in (
        ((0, 0, 0), (0.13184635, -0.05696225, 0.16793035)),
        ((108, 102, 63), (-0.40914774, -0.283336, -0.01292248)),
    ):
        np.testing.assert_allclose(quaternion.to_rodrigues(volume.quaternions[place]), -np.array(vector), atol=1e-6)
    assert abs(grain_count(volume) - 86) <= 1


def test_feature_file_without_voxels_is_refused() -> None:
    path = SHARED / "exp3d_in100_feature_graph" / "FindConnectedFeatures_Input.dream3d"
    with pytest.raises(DataError, match=r"found no array of \(117, 201, 189\) voxels"):
        ebsd.read(path)
