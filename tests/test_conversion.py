"""The convert task end to end: a scan in, files out, done once; and mistakes that leave no half-written file."""

import json
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
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


def convert(source: Path, *outputs: str, **options: bool | str) -> ConfigDict:
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
    assert "95.0 % observed" in results.summary
    assert names(folder) == sorted([*wanted, "config.json", "environment.json", "results.json"])
    for name, frame in (("a.dream3d", None), ("a.ang", "edax"), ("a.npz", None)):
        back = ebsd.read(folder / name, frame)
        assert back.shape == volume.shape
        assert np.allclose(back.spacing[:2], (0.5, 0.5))
        assert np.array_equal(back.mask, volume.mask)
        assert largest_angle(back, volume) < DEGREES
    assert largest_angle(ebsd.read(folder / "a.ang", "oxford"), volume) > 90  # the frame is not decoration


def test_image_data_holds_the_orientations(tmp_path: Path) -> None:
    vtk = pytest.importorskip("vtk")
    from vtk.util.numpy_support import vtk_to_numpy

    volume = scan(depth=3)
    results = tasks.run(convert(volume.save(tmp_path / "scan.npz"), "a.vti"), tmp_path / "run")
    reader = vtk.vtkXMLImageDataReader()
    reader.SetFileName(str(results.files[0]))
    reader.Update()
    image = reader.GetOutput()
    assert image.GetDimensions() == (6, 5, 4)
    assert image.GetSpacing() == volume.spacing
    q = vtk_to_numpy(image.GetCellData().GetArray("quaternion")).reshape(3, 4, 5, 4).transpose(2, 1, 0, 3)
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


def _no_outputs(folder: Path) -> ConfigDict:
    return convert(scan().save(folder / "scan.npz"))


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
        (_no_outputs, ConfigError, r"convert\.outputs: found none"),
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
    # Nothing but the records that claim the folder, and those are whole.
    assert set(names(folder)) <= {"config.json", "environment.json"}
    for record in folder.glob("*.json"):
        json.loads(record.read_text())


@pytest.mark.parametrize(
    ("depth", "frame", "message"),
    [
        (1, "", r"convert\.map_frame: found '', a\.ang needs edax"),
        (3, "none", r"a\.ang holds one section, the volume has 3"),
    ],
)
def test_what_a_map_lacks_is_said_before_anything_is_written(
    tmp_path: Path, depth: int, frame: str, message: str
) -> None:
    source, folder = scan(depth).save(tmp_path / "scan.npz"), tmp_path / "run"
    with pytest.raises(ConfigError, match=message):
        tasks.run(convert(source, "a.npz", "a.ang", map_frame=frame), folder)
    assert not folder.exists()
