"""The convert task end to end: a scan in, files out, done once; and mistakes that leave no half-written file."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import yaml
from ml_collections import ConfigDict

from polymicros_jax import config as configs
from polymicros_jax import tasks
from polymicros_jax.config import ConfigError
from polymicros_jax.data import ebsd
from polymicros_jax.data.errors import DataError
from polymicros_jax.data.volume import OrientationVolume
from polymicros_jax.orientation import quaternion

# Angles in float32, written with five decimals in .ang: 1e-5 rad and its rounding.
DEGREES = 1e-3


GRAINS = np.asarray(quaternion.random(jax.random.key(3), (3,)))


def scan(depth: int = 1) -> OrientationVolume:
    """5 x 4 voxels a section, three grains in stripes along x, one voxel unobserved."""
    shape = (5, 4, depth)
    ids = np.minimum(np.arange(5)[:, None, None] // 2, 2) + np.zeros(shape, int)
    mask = np.ones(shape, bool)
    mask[1, 2, 0] = False
    return OrientationVolume(
        quaternions=GRAINS[ids],
        phase=mask.astype(int),
        mask=mask,
        spacing=(0.5, 0.5, 1.0),
        symmetry="432",
        provenance={"phases": ["Nickel"]},
        fields={"grain": ids.astype(np.int32)},
    )


def convert(source: Path, *outputs: str, **options: bool | str | float) -> ConfigDict:
    config = configs.default("convert")
    config.convert.volume.source = str(source)
    config.convert.outputs = outputs
    config.convert.update(options)
    return config


def largest_angle(a: OrientationVolume, b: OrientationVolume) -> float:
    """Degrees between the rotations themselves, without symmetry, where both were observed."""
    apart = quaternion.angle(quaternion.multiply(a.quaternions, quaternion.conjugate(b.quaternions)))
    return float(np.degrees(np.asarray(apart))[a.mask & b.mask].max())


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_one_scan_becomes_every_format(tmp_path: Path) -> None:
    volume = scan()
    source, folder = volume.save(tmp_path / "scan.npz"), tmp_path / "run"
    wanted = ("a.vti", "a.dream3d", "a.ang", "a.npz")
    results = tasks.run(convert(source, *wanted, map_frame="edax"), folder)
    assert [path.name for path in results.files] == list(wanted)
    head, row = results.summary.splitlines()
    assert re.split("  +", head)[1:] == ["voxels", "their edges (µm)", "symmetry", "observed (%)"]
    assert re.split("  +", row) == [str(source), "5 x 4 x 1", "0.5 x 0.5 x 1", "432", "95.0"]
    assert names(folder) == sorted([*wanted, "config.json", "environment.json", "results.json"])
    for name, frame in (("a.dream3d", None), ("a.ang", "edax"), ("a.npz", None)):
        back = ebsd.read(folder / name, frame)
        assert back.shape == volume.shape
        assert np.allclose(back.spacing[:2], (0.5, 0.5))
        assert np.array_equal(back.mask, volume.mask)
        assert largest_angle(back, volume) < DEGREES
    # The two half turns that the frames stand for make a quarter turn about z.
    assert largest_angle(ebsd.read(folder / "a.ang", "oxford"), volume) == pytest.approx(90.0, abs=DEGREES)


def vtk_image(path: Path) -> Any:
    vtk = pytest.importorskip("vtk")
    reader = vtk.vtkXMLImageDataReader()
    reader.SetFileName(str(path))
    reader.Update()
    return reader.GetOutput()


def vtk_array(path: Path, name: str) -> np.ndarray:
    from vtk.util.numpy_support import vtk_to_numpy

    return vtk_to_numpy(vtk_image(path).GetCellData().GetArray(name))


def test_image_data_holds_the_orientations(tmp_path: Path) -> None:
    volume = scan(depth=3)
    results = tasks.run(convert(volume.save(tmp_path / "scan.npz"), "a.vti"), tmp_path / "run")
    image = vtk_image(results.files[0])
    assert image.GetDimensions() == (6, 5, 4)
    assert image.GetSpacing() == volume.spacing
    q = vtk_array(results.files[0], "quaternion").reshape(3, 4, 5, 4).transpose(2, 1, 0, 3)
    np.testing.assert_array_equal(q, volume.quaternions)


def test_repair_where_asked(tmp_path: Path) -> None:
    """Half as thick sections, twice as many; the hole takes the orientation of its row, which is one grain."""
    volume = scan(depth=2)
    source = volume.save(tmp_path / "scan.npz")
    tasks.run(convert(source, "a.npz", cubic=True, fill=True), tmp_path / "run")
    back = ebsd.read(tmp_path / "run" / "a.npz")
    assert back.shape == (5, 4, 4)
    assert back.spacing == (0.5, 0.5, 0.5)
    assert back.mask.all()
    for row, grain in enumerate([0, 0, 1, 1, 2]):
        np.testing.assert_array_equal(back.quaternions[row], np.broadcast_to(GRAINS[grain], (4, 4, 4)))


def test_damask_input_has_one_material_a_grain(tmp_path: Path) -> None:
    """Voxels half a degree apart are 20 orientations and three grains; the hole belongs to the grain around it."""
    volume = scan()
    turns = quaternion.from_rotation_vector(np.radians(0.5) * np.linspace(-1, 1, 60).reshape(5, 4, 1, 3) / np.sqrt(3))
    noisy = np.asarray(quaternion.multiply(turns.astype(np.float32), volume.quaternions))
    source = dataclasses.replace(volume, quaternions=noisy).save(tmp_path / "scan.npz")
    for name, angle, count in (("grains", 5.0, 3), ("voxels", 0.0, 19)):
        config = convert(source, damask="geometry.vti", grain_degrees=angle, fill=True)
        results = tasks.run(config, tmp_path / name)
        assert results.files == [tmp_path / name / "geometry.vti", tmp_path / name / "material.yaml"]
        materials = yaml.safe_load(results.files[1].read_text())["material"]
        assert len(materials) == count
        number = vtk_array(results.files[0], "material").reshape(4, 5).T
        for (i, j), each in np.ndenumerate(number):
            (constituent,) = materials[each]["constituents"]
            # DAMASK's quaternion is the conjugate of ours.
            q = np.array(constituent["O"], np.float32) * np.array([1, -1, -1, -1], np.float32)
            apart = np.degrees(float(quaternion.disorientation(q, GRAINS[min(i // 2, 2)])))
            assert apart < 0.51, (i, j)
            assert constituent["phase"] == "Nickel"


def test_grains_are_numbered_without_damask_too(tmp_path: Path) -> None:
    tasks.run(convert(scan().save(tmp_path / "scan.npz"), "a.npz", grain_degrees=5.0), tmp_path / "run")
    back = ebsd.read(tmp_path / "run" / "a.npz")
    np.testing.assert_array_equal(back.fields["material"], np.where(back.mask, back.fields["grain"], -1))


def test_a_stack_becomes_a_folder_of_sections(tmp_path: Path) -> None:
    volume = scan(depth=3)
    config = convert(volume.save(tmp_path / "scan.npz"), "sections/", map_frame="edax")
    (folder,) = tasks.run(config, tmp_path / "run").files
    back = ebsd.read(folder, "edax", slice_spacing=1.0)
    assert back.shape == volume.shape
    assert largest_angle(back, volume) < DEGREES


def test_damask_phases_are_segmented_each_by_its_symmetry(tmp_path: Path) -> None:
    """A quarter turn about z is nothing to the cubic half of the map and another crystal to the hexagonal half."""
    turned = np.array([[1, 0, 0, 0], [np.sqrt(0.5), 0, 0, np.sqrt(0.5)]], np.float32)
    volume = OrientationVolume(
        quaternions=np.broadcast_to(turned[None, :, None], (4, 2, 1, 4)),
        phase=np.array([1, 1, 2, 2]).repeat(2).reshape(4, 2, 1),
        mask=np.ones((4, 2, 1), bool),
        spacing=(1.0, 1.0, 1.0),
        symmetry=("432", "622"),
    )
    config = convert(volume.save(tmp_path / "scan.npz"), "a.npz", damask="geometry.vti", grain_degrees=5.0)
    beside, geometry, _ = tasks.run(config, tmp_path / "run").files
    number = vtk_array(geometry, "material").reshape(2, 4).T
    np.testing.assert_array_equal(number, [[0, 0], [0, 0], [1, 2], [1, 2]])
    # What is computed for a material is looked up in the other files.
    np.testing.assert_array_equal(ebsd.read(beside).fields["material"][:, :, 0], number)


@pytest.mark.parametrize("stop", [(0, 0, 0), (0, 0, 7)])
def test_damask_grains_run_through_the_faces_of_periodic_volumes(tmp_path: Path, stop: tuple[int, ...]) -> None:
    """Cells of a periodic tessellation are convex, in one piece on the torus and in several in the box or in a cut."""
    config = convert(Path("simulated/voronoi?side=8&grains=6"), damask="geometry.vti", grain_degrees=5.0)
    config.convert.volume.stop = stop
    files = tasks.run(config, tmp_path / "run").files
    count = len(yaml.safe_load(files[1].read_text())["material"])
    assert count == 6 if stop == (0, 0, 0) else count > 6


def test_a_second_call_says_so_and_writes_nothing(tmp_path: Path) -> None:
    source, folder = scan().save(tmp_path / "scan.npz"), tmp_path / "run"
    tasks.run(convert(source, "a.npz"), folder)
    before = (folder / "a.npz").stat().st_mtime_ns
    again = tasks.run(convert(source, "a.npz"), folder)
    assert again.summary.startswith("(done before)")
    assert again.files == [folder / "a.npz"]
    assert (folder / "a.npz").stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match=r"config\.convert\.outputs"):
        tasks.run(convert(source, "b.npz"), folder)


def _unknown_suffix(folder: Path) -> ConfigDict:
    return convert(scan().save(folder / "scan.npz"), "a.npz", "a.stl")


def _outside(folder: Path) -> ConfigDict:
    return convert(scan().save(folder / "scan.npz"), "../a.npz")


def _above(folder: Path) -> ConfigDict:
    return convert(scan(3).save(folder / "scan.npz"), "..", map_frame="edax")  # no ending: a folder of sections


def _twice(folder: Path) -> ConfigDict:
    return convert(scan().save(folder / "scan.npz"), "a.npz", "a.npz")


def _no_outputs(folder: Path) -> ConfigDict:
    return convert(scan().save(folder / "scan.npz"))


def _damask_with_a_hole(folder: Path) -> ConfigDict:
    return convert(scan().save(folder / "scan.npz"), damask="geometry.vti")


def _damask_of_another_kind(folder: Path) -> ConfigDict:
    return convert(scan().save(folder / "scan.npz"), damask="material.yaml", fill=True)


def _damask_in_degrees_beyond_sense(folder: Path) -> ConfigDict:
    return convert(scan().save(folder / "scan.npz"), damask="geometry.vti", grain_degrees=500.0, fill=True)


def _unknown_input(folder: Path) -> ConfigDict:
    (folder / "scan.tif").write_bytes(b"II*")
    return convert(folder / "scan.tif", "a.npz")


def _input_without_frame(folder: Path) -> ConfigDict:
    first = convert(scan().save(folder / "scan.npz"), "scan.ang", map_frame="none")
    return convert(tasks.run(first, folder / "first").files[0], "a.npz")


def _missing_file(folder: Path) -> ConfigDict:
    return convert(folder / "nowhere.npz", "a.npz")


def _truncated_file(folder: Path) -> ConfigDict:
    path = scan().save(folder / "scan.npz")
    path.write_bytes(path.read_bytes()[:-200])
    return convert(path, "a.npz")


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (_unknown_suffix, ConfigError, r"convert\.outputs: found 'a\.stl', accepted endings are \.vti, \.dream3d"),
        (_outside, ConfigError, r"convert\.outputs: found '\.\./a\.npz', accepted are names, no paths"),
        (_above, ConfigError, r"convert\.outputs: found '\.\.', accepted are names, no paths"),
        (_twice, ConfigError, r"convert\.outputs: found 'a\.npz', accepted are names, .* each of them once"),
        (_no_outputs, ConfigError, r"convert\.outputs: found none"),
        (_damask_with_a_hole, ConfigError, r"convert\.damask: the volume has 1 unobserved voxels.*convert\.fill=True"),
        (_damask_of_another_kind, ConfigError, r"convert\.damask: found 'material\.yaml', accepted is a name in \.vti"),
        (_damask_in_degrees_beyond_sense, ConfigError, r"convert\.grain_degrees: found 500\.0"),
        (_unknown_input, DataError, r"scan\.tif: found suffix '\.tif', accepted are \.ang"),
        (_input_without_frame, DataError, r"scan\.ang: frame: none was given"),
        (_missing_file, FileNotFoundError, r"nowhere\.npz: no such file"),
        (_truncated_file, DataError, r"scan\.npz"),
    ],
)
def test_wrong_input_is_one_error_and_no_file(
    tmp_path: Path, make: Callable[[Path], ConfigDict], kind: type[Exception], message: str
) -> None:
    config, folder = make(tmp_path), tmp_path / "run"
    with pytest.raises(kind, match=message):
        tasks.run(config, folder)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("depth", "frame", "message"),
    [
        (1, "", r"convert\.map_frame: found '', a\.ang needs edax"),
        (3, "none", r"found 'a.ang' for a volume of 3 sections"),
    ],
)
def test_what_a_map_lacks_is_said_before_anything_is_written(
    tmp_path: Path, depth: int, frame: str, message: str
) -> None:
    source, folder = scan(depth).save(tmp_path / "scan.npz"), tmp_path / "run"
    with pytest.raises(ConfigError, match=message):
        tasks.run(convert(source, "a.npz", "a.ang", map_frame=frame), folder)
    assert not folder.exists()
