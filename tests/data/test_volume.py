import dataclasses
import itertools
from pathlib import Path

import jax
import numpy as np
import pytest

from polymicros_jax.data import simulated
from polymicros_jax.data import volume as volume_module
from polymicros_jax.data.errors import DataError
from polymicros_jax.data.volume import OrientationVolume, crop, load, resample, rotate_frame, save
from polymicros_jax.orientation import quaternion

# float32 quaternion products: a few units of 6e-8 each, a dozen operations.
TOLERANCE = 2e-6


def example(shape: tuple[int, int, int] = (4, 3, 2), seed: int = 0) -> OrientationVolume:
    q = np.asarray(quaternion.random(jax.random.key(seed), shape))
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < 0.8
    mask[0, 0, 0], mask[-1, -1, -1] = True, False
    return OrientationVolume(
        quaternions=q,
        phase=np.where(mask, 1, 0),
        mask=mask,
        spacing=(0.5, 1.0, 2.0),
        symmetry="432",
        frame="edax",
        provenance={"source": "generated", "phases": ["Nickel"]},
        fields={"grain": np.arange(np.prod(shape)).reshape(shape), "pair": rng.random((*shape, 2))},
    )


def axis_rotations() -> list[np.ndarray]:
    found = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            matrix = np.eye(3)[list(order)] * np.array(signs)[:, None]
            if np.linalg.det(matrix) > 0:
                found.append(matrix)
    return found


def equal(a: OrientationVolume, b: OrientationVolume) -> bool:
    """Same grid, same observations, same rotations (q and -q are one)."""
    dots = np.abs(np.sum(a.quaternions.astype(float) * b.quaternions.astype(float), axis=-1))
    return (
        a.shape == b.shape
        and np.allclose(a.spacing, b.spacing)
        and np.array_equal(a.mask, b.mask)
        and np.array_equal(a.phase, b.phase)
        and all(np.array_equal(a.fields[name], b.fields[name]) for name in a.fields)
        and bool(np.all(np.abs(dots - 1) < TOLERANCE))
    )


def test_unobserved_voxels_are_the_identity_whatever_was_given() -> None:
    base = example()
    q = base.quaternions.copy()
    q[~base.mask] = np.nan
    made = dataclasses.replace(base, quaternions=q)
    assert np.array_equal(
        made.quaternions[~base.mask], np.broadcast_to([1, 0, 0, 0], made.quaternions[~base.mask].shape)
    )
    assert np.array_equal(made.quaternions[base.mask], base.quaternions[base.mask])


def test_device_arrays_and_lists_are_accepted() -> None:
    base = example()
    made = OrientationVolume(
        quaternions=jax.numpy.asarray(base.quaternions),
        phase=jax.numpy.asarray(base.phase),
        mask=jax.numpy.asarray(base.mask),
        spacing=[0.5, 1, 2],
        fields={"grain": jax.numpy.asarray(base.fields["grain"])},
    )
    assert isinstance(made.quaternions, np.ndarray)
    assert made.spacing == (0.5, 1.0, 2.0)
    assert np.array_equal(made.quaternions, base.quaternions)
    assert isinstance(made.fields["grain"], np.ndarray)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quaternions": np.ones((4, 3, 2, 3))}, "quaternions: found shape"),
        ({"quaternions": 2 * np.ones((4, 3, 2, 4))}, "found norm 4.0 in an observed voxel"),
        ({"quaternions": np.full((4, 3, 2, 4), np.nan)}, "found norm nan"),
        ({"phase": np.ones((4, 3))}, "phase: found shape"),
        ({"mask": np.ones((4, 3), bool)}, "mask: found shape"),
        ({"spacing": (1.0, 0.0, 1.0)}, "spacing: found"),
        ({"spacing": (1.0, np.nan, 1.0)}, "spacing: found"),
        ({"symmetry": "m-3m"}, "symmetry: found 'm-3m', accepted are 1, 2"),
        ({"symmetry": ("432", "622"), "phase": np.full((4, 3, 2), 3)}, "phase: found 3 to 3"),
        ({"fields": {"grain": np.zeros((4, 3))}}, "fields\\['grain'\\]"),
    ],
)
def test_arrays_that_disagree_are_refused(change: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        dataclasses.replace(example(), **change)


def test_group_of_several_phases_must_be_chosen() -> None:
    base = example()
    phase = np.where(base.fields["grain"] % 2 == 0, 1, 2)
    duplex = dataclasses.replace(base, phase=phase, symmetry=("432", "622"))
    with pytest.raises(DataError, match="only_phase"):
        _ = duplex.group
    second = duplex.only_phase(2)
    assert second.group == "622"
    assert np.array_equal(second.mask, base.mask & (phase == 2))
    for absent in (0, 3):
        with pytest.raises(DataError, match=f"phase: found {absent}, accepted are 1 to 2"):
            duplex.only_phase(absent)
    assert (duplex.phase_groups, second.phase_groups) == (("432", "622"), ("622", "622"))
    assert dataclasses.replace(base, symmetry=("432", "432"), phase=phase).symmetry == "432"


def test_crop_keeps_what_lies_inside_and_refuses_boxes_that_leave_the_grid() -> None:
    base = example()
    part = crop(base, (1, 0, 1), (3, 2, 2))
    assert np.array_equal(part.fields["grain"], base.fields["grain"][1:3, 0:2, 1:2])
    assert np.array_equal(part.mask, base.mask[1:3, 0:2, 1:2])
    for start, stop in [((0, 0, 0), (5, 3, 2)), ((2, 0, 0), (2, 3, 2)), ((-1, 0, 0), (2, 3, 2)), ((0, 0), (2, 2))]:
        with pytest.raises(DataError, match="crop: found start"):
            crop(base, start, stop)


def test_what_was_done_to_a_volume_is_listed_in_order() -> None:
    base = dataclasses.replace(example(), provenance={"source": "made up"})
    cut = crop(base, (1, 0, 0), (3, 3, 2))
    assert cut.provenance == {"source": "made up", "processing": ["voxels (1, 0, 0) to (3, 3, 2) of (4, 3, 2)"]}
    last = resample(rotate_frame(cut, np.diag([-1.0, -1.0, 1.0])), 0.5).provenance["processing"]
    assert last[0] == cut.provenance["processing"][0]
    assert last[1:] == [
        "described in the frame of axes [[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]]",
        "nearest voxel at (0.5, 0.5, 0.5) micrometres, from (0.5, 1.0, 2.0)",
    ]
    assert crop(base, (0, 0, 0), base.shape).provenance == base.provenance == {"source": "made up"}


def test_resample_takes_the_voxel_that_contains_the_new_centre() -> None:
    base = example()
    # Edges 0.5, 1, 2 on a 0.5 grid: every voxel repeated 1, 2 and 4 times.
    cubic = resample(base, 0.5)
    expected = base.fields["grain"].repeat(2, axis=1).repeat(4, axis=2)
    assert cubic.shape == (4, 6, 8)
    assert np.array_equal(cubic.fields["grain"], expected)
    assert equal(resample(cubic, base.spacing), base)
    assert equal(resample(base, base.spacing), base)
    # Coarser by 3/2: new centres at 0.375, 1.125, 1.875 (of 4 voxels of 0.5) lie in voxels 0, 2, 3.
    assert np.array_equal(
        resample(base, (0.75, 1.0, 2.0)).fields["grain"][:, 0, 0], base.fields["grain"][[0, 2, 3], 0, 0]
    )
    flat = crop(base, (0, 0, 0), (4, 3, 1))
    assert resample(flat, 0.5).shape == (4, 6, 1)
    with pytest.raises(DataError, match="spacing"):
        resample(base, (1.0, -1.0, 1.0))


@pytest.mark.parametrize("index", range(24))
def test_axis_rotation_moves_positions_and_orientations_together(index: int) -> None:
    base, rotation = example(), axis_rotations()[index]
    turned = rotate_frame(base, rotation)
    centre = np.array(base.shape) * base.spacing / 2
    new_centre = np.array(turned.shape) * turned.spacing / 2
    directions = np.random.default_rng(1).normal(size=(5, 3))
    for place in itertools.product(*map(range, base.shape)):
        position = (np.array(place) + 0.5) * base.spacing - centre
        moved = (rotation @ position + new_centre) / turned.spacing - 0.5
        target = tuple(np.round(moved).astype(int))
        assert turned.fields["grain"][target] == base.fields["grain"][place]
        assert turned.mask[target] == base.mask[place]
        if base.mask[place]:
            # The same physical direction has the same crystal coordinates before and after.
            before = np.asarray(quaternion.to_matrix(base.quaternions[place])) @ directions.T
            after = np.asarray(quaternion.to_matrix(turned.quaternions[target])) @ (rotation @ directions.T)
            assert np.abs(before - after).max() < 10 * TOLERANCE


def test_rotations_compose_and_the_wrong_direction_is_told_apart() -> None:
    base, rotations = example(), axis_rotations()
    first, second = rotations[5], rotations[10]
    assert equal(rotate_frame(rotate_frame(base, first), second), rotate_frame(base, second @ first))
    assert equal(rotate_frame(rotate_frame(base, first), first.T), base)
    quarter = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert not equal(rotate_frame(base, quarter), rotate_frame(base, quarter.T))


def test_general_rotation_resamples_into_the_bounding_box() -> None:
    cube = example((20, 20, 6))
    cube = dataclasses.replace(
        cube, mask=np.ones(cube.shape, bool), phase=np.ones(cube.shape, int), spacing=(1.0, 1.0, 1.0)
    )
    angle = np.radians(30.0)
    rotation = np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    turned = rotate_frame(cube, rotation)
    assert turned.shape == (27, 27, 6)  # 20 (cos 30 + sin 30) = 27.3
    # The area of the scan is kept, up to the voxels its edge cuts: 80 of 400, half of them either way, in one direction
    # at most.
    assert abs(turned.mask.sum() / turned.shape[2] - 400) < 20
    place = (13, 13, 3)
    position = (np.array(place) + 0.5) - np.array(turned.shape) / 2
    source = tuple(np.floor(rotation.T @ position + np.array(cube.shape) / 2).astype(int))
    assert turned.fields["grain"][place] == cube.fields["grain"][source]
    for matrix in (2 * np.eye(3), np.diag([1.0, 1.0, -1.0])):
        with pytest.raises(DataError, match="rotation: found"):
            rotate_frame(cube, matrix)


def test_saved_volume_comes_back_bit_for_bit(tmp_path: Path) -> None:
    base = dataclasses.replace(example(), symmetry=("432", "622"))
    back = load(save(base, tmp_path / "deep" / "volume.npz"))
    for name in ("quaternions", "phase", "mask"):
        assert np.array_equal(getattr(back, name), getattr(base, name))
        assert getattr(back, name).dtype == getattr(base, name).dtype
    assert (back.spacing, back.symmetry, back.frame) == (base.spacing, base.symmetry, base.frame)
    assert back.provenance == base.provenance
    assert all(np.array_equal(back.fields[name], base.fields[name]) for name in base.fields)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["volume.npz"]


def test_damaged_or_foreign_npz_is_refused(tmp_path: Path) -> None:
    path = save(example(), tmp_path / "volume.npz")
    data = path.read_bytes()
    for number, content in enumerate([b"", data[: len(data) // 2], b"not a zip"]):
        bad = tmp_path / f"bad{number}.npz"
        bad.write_bytes(content)
        with pytest.raises(DataError, match=rf"bad{number}.npz"):
            load(bad)
    foreign = tmp_path / "foreign.npz"
    np.savez(foreign, quaternions=np.ones(3))
    with pytest.raises(DataError, match=r"foreign.npz.*written by OrientationVolume.save"):
        load(foreign)
    with pytest.raises(FileNotFoundError, match=r"missing.npz"):
        load(tmp_path / "missing.npz")
    with pytest.raises(DataError, match="suffix"):
        save(example(), tmp_path / "volume.txt")


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(example(), tmp_path / "volume.npz")
    before = path.read_bytes()

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(volume_module.np, "savez_compressed", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save(example(seed=1), path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["volume.npz"]


def test_what_was_cut_does_not_wrap_around() -> None:
    """Grains are followed through the faces of what says that it is periodic."""
    whole = simulated.load("simulated/voronoi?side=8&grains=6")
    quarter = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    for same in (whole, crop(whole, (0, 0, 0), (8, 8, 8)), resample(whole, 2.0), rotate_frame(whole, quarter)):
        assert same.provenance["periodic"] is True
    slanted = np.asarray(quaternion.to_matrix(quaternion.from_axis_angle(np.array([0.0, 0.0, 1.0]), 0.3)))
    for part in (crop(whole, (0, 0, 0), (8, 8, 7)), resample(whole, 3.0), rotate_frame(whole, slanted)):
        assert part.provenance["periodic"] is False
