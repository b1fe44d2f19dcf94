"""Folders of sections as people have them: sections lost, copied, cut off, with phases in another order."""

import dataclasses
import warnings
from pathlib import Path

import numpy as np
import pytest

from polymicros_jax.data.ebsd import read
from polymicros_jax.data.ebsd.slices import positions
from polymicros_jax.data.errors import DataError
from polymicros_jax.data.export import write
from polymicros_jax.data.samples import load
from polymicros_jax.data.volume import OrientationVolume
from polymicros_jax.orientation import quaternion

SHAPE = (7, 6, 8)


@pytest.fixture(scope="module")
def volume() -> OrientationVolume:
    """Two phases of one symmetry, divided by a plane, all observed."""
    whole = load("in100").crop((10, 10, 10), (17, 16, 18))
    phase = np.where(np.arange(7)[:, None, None] < 3, 1, 2) * np.ones(SHAPE, int)
    return dataclasses.replace(
        whole,
        mask=np.ones(SHAPE, bool),
        phase=phase,
        symmetry=("432", "432"),
        provenance={**whole.provenance, "phases": ["Nickel", "Ferrite"]},
    )


@pytest.fixture
def folder(volume: OrientationVolume, tmp_path: Path) -> Path:
    return write(volume, tmp_path / "sections", frame="edax")


def test_a_folder_written_by_the_front_door_is_read_back(volume: OrientationVolume, folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        back = read(folder, frame="edax", slice_spacing=0.25)
    assert back.shape == SHAPE
    assert back.mask.all()
    assert back.phase_names == ("Nickel", "Ferrite")
    np.testing.assert_array_equal(back.phase, volume.phase)
    with pytest.raises(DataError, match=r"found suffix '', accepted are \.vti.* or none and a frame"):
        write(volume, folder)
    with pytest.raises(DataError, match=r"map\.ang: frame: none was given; accepted are edax"):
        write(volume.crop((0, 0, 0), (7, 6, 1)), folder / "map.ang")


def test_a_lost_section_leaves_a_plane_unobserved(volume: OrientationVolume, folder: Path) -> None:
    """Sections after it keep their place; the fields of the lost one are unknown too."""
    (folder / "section_0003.ang").unlink()
    with pytest.warns(UserWarning, match=r"1 of 8 sections are lost, after section_0002\.ang"):
        back = read(folder, frame="edax", slice_spacing=0.25)
    assert back.shape == SHAPE
    np.testing.assert_array_equal(back.mask.all(axis=(0, 1)), np.arange(8) != 3)
    assert not back.mask[:, :, 3].any()
    angle = quaternion.disorientation(back.quaternions[:, :, 4], volume.quaternions[:, :, 4], "432")
    assert float(np.degrees(angle).max()) < 0.01  # angles are written to 1e-6 radians
    assert np.isnan(back.fields["confidence"][:, :, 3]).all()
    assert np.isfinite(back.fields["confidence"][:, :, 4]).all()


def test_more_lost_than_measured_is_no_stack(folder: Path) -> None:
    for number in (2, 3, 4, 5, 6):
        (folder / f"section_{number:04d}.ang").unlink()
    with pytest.raises(DataError, match=r"found 3 sections with the numbers of 8, after section_0001\.ang"):
        read(folder, frame="edax", slice_spacing=0.25)


@pytest.mark.parametrize(
    ("names", "places"),
    [
        (["s9", "s10", "s11"], [0, 1, 2]),
        (["s0", "s4", "s8", "s16"], [0, 1, 2, 4]),
        (["first", "second"], [0, 1]),
        (["run1_s1", "run2_s5", "run3_s6"], [0, 1, 2]),  # two numbers change: neither is the place for certain
        (["20201129", "20201130", "20201202"], [0, 1, 2]),  # dates
        (["only5"], [0]),
    ],
)
def test_places_from_names(names: list[str], places: list[int]) -> None:
    assert positions([Path(f"{name}.ang") for name in names]) == places


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["s1", "s3", "s6"], r"found s6\.ang after s3\.ang, accepted are numbers that rise in steps of 2"),
        (["s1", "s01", "s2"], r"found s01\.ang after s1\.ang"),
        (["s1", "s2", "s2 - Copy"], r"found names like s#, s# - copy"),
    ],
)
def test_names_that_leave_the_place_open_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        positions([Path(f"{name}.ang") for name in names])


def _exchange_phases(path: Path) -> None:
    """The same section as another session of the software writes it, phases the other way round."""
    lines = path.read_text().splitlines()
    names = {"Nickel": "Ferrite", "Ferrite": "Nickel"}
    for at, line in enumerate(lines):
        if "MaterialName" in line:
            name = line.split()[-1]
            lines[at] = line.replace(name, names[name])
        elif line and not line.startswith("#"):
            cells = line.split()
            cells[7] = {"1": "2", "2": "1"}[cells[7]]
            lines[at] = " ".join(cells)
    path.write_text("\n".join(lines) + "\n")


def test_phases_are_told_by_their_names(volume: OrientationVolume, folder: Path) -> None:
    _exchange_phases(folder / "section_0005.ang")
    back = read(folder, frame="edax", slice_spacing=0.25)
    assert back.phase_names == ("Nickel", "Ferrite")
    np.testing.assert_array_equal(back.phase, volume.phase)


def test_a_phase_of_two_symmetries_is_refused_by_name(folder: Path) -> None:
    path = folder / "section_0004.ang"
    first, _, rest = path.read_text().partition("Symmetry              43")
    path.write_text(f"{first}Symmetry              62{rest}")
    with pytest.raises(
        DataError, match=r"section_0004\.ang: symmetry: found 622 for the phase 'Nickel'.*0000\.ang, 432"
    ):
        read(folder, frame="edax", slice_spacing=0.25)


def test_a_map_cut_off_at_the_end_of_a_row_is_mentioned(volume: OrientationVolume, folder: Path) -> None:
    """It may be a part of a scan as well, with the header of the whole."""
    path = folder / "section_0000.ang"
    path.write_text("\n".join(path.read_text().splitlines()[:-7]) + "\n")
    with pytest.warns(UserWarning, match=r"found 5 whole rows where the header promises 6"):
        part = read(path, frame="edax")
    angle = quaternion.disorientation(part.quaternions, volume.quaternions[:, :5, :1], "432")
    assert float(np.degrees(angle).max()) < 0.01


def test_a_mark_of_the_encoding_is_no_part_of_the_header(folder: Path) -> None:
    path = folder / "section_0000.ang"
    before = read(path, frame="edax")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    after = read(path, frame="edax")
    np.testing.assert_array_equal(after.quaternions, before.quaternions)
    assert after.phase_names == before.phase_names
