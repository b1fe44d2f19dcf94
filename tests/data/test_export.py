import base64
import dataclasses
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import h5py
import jax
import numpy as np
import pytest
import yaml

from polymicros_jax.data import ebsd, export
from polymicros_jax.data.errors import DataError
from polymicros_jax.data.volume import OrientationVolume, crop
from polymicros_jax.orientation import quaternion
from polymicros_jax.orientation.grains import UNASSIGNED

# to_euler and from_euler in float32: angles to 1e-6, files to 1e-6 rad (.ang) or float32 (.dream3d).
DEGREES = 5e-4


def grains(shape: tuple[int, int, int] = (5, 4, 3), symmetry: str | tuple[str, ...] = "432") -> OrientationVolume:
    """Three grains in slabs along x, everything observed."""
    ids = np.minimum(np.arange(shape[0])[:, None, None] // 2, 2) + np.zeros(shape, int)
    table = np.asarray(quaternion.random(jax.random.key(3), (3,)))
    phase = np.ones(shape, int) if isinstance(symmetry, str) else np.where(ids == 2, 2, 1)
    return OrientationVolume(
        quaternions=table[ids],
        phase=phase,
        mask=np.ones(shape, bool),
        spacing=(0.25, 0.5, 1.0),
        symmetry=symmetry,
        provenance={"phases": ["Nickel", "Titanium"]},
        fields={
            "grain": ids.astype(np.int32),
            "confidence": np.linspace(0, 1, ids.size, dtype=np.float32).reshape(shape),
        },
    )


def with_holes(volume: OrientationVolume) -> OrientationVolume:
    mask = volume.mask.copy()
    mask[1, 2, 0] = mask[4, 3, -1] = False
    return dataclasses.replace(volume, mask=mask, phase=np.where(mask, volume.phase, 0))


def far(a: OrientationVolume, b: OrientationVolume) -> float:
    """Largest angle between the two, in degrees, without symmetry: the very rotations must come back."""
    q = quaternion.multiply(a.quaternions, quaternion.conjugate(b.quaternions))
    return float(np.degrees(np.asarray(quaternion.angle(q))).max())


def vtk_cells(path: Path) -> tuple[tuple[int, ...], tuple[float, ...], dict[str, np.ndarray]]:
    vtk = pytest.importorskip("vtk")
    from vtk.util.numpy_support import vtk_to_numpy

    reader = vtk.vtkXMLImageDataReader()
    reader.SetFileName(str(path))
    reader.Update()
    image = reader.GetOutput()
    shape = tuple(n - 1 for n in image.GetDimensions())
    data = image.GetCellData()
    cells = {}
    for i in range(data.GetNumberOfArrays()):
        values = vtk_to_numpy(data.GetArray(i))
        cells[data.GetArrayName(i)] = values.reshape(*shape[::-1], *values.shape[1:]).swapaxes(0, 2)
    assert image.GetExtent()[::2] == (0, 0, 0)
    return shape, image.GetSpacing(), cells


def test_vtk_reads_every_cell_array_in_its_place(tmp_path: Path) -> None:
    volume = with_holes(grains())
    rng = np.random.default_rng(0)
    extra = {
        "spread": rng.integers(0, 256, (*volume.shape, 3), dtype=np.uint8),
        "error_degrees": rng.random(volume.shape),
        'number <&">': np.arange(60, dtype=np.int64).reshape(volume.shape),
    }
    path = export.write_paraview(volume, tmp_path / "out.vti", extra)
    shape, spacing, cells = vtk_cells(path)
    assert shape == volume.shape
    assert spacing == volume.spacing
    for name, values in {**extra, "quaternion": volume.quaternions, "grain": volume.fields["grain"]}.items():
        assert np.array_equal(cells[name], values), name
        assert cells[name].dtype == values.dtype
    assert np.array_equal(cells["observed"], volume.mask.astype(np.uint8))
    euler = np.radians(cells["euler_degrees"].astype(np.float32))
    back = dataclasses.replace(volume, quaternions=np.asarray(quaternion.from_euler(euler)))
    assert far(back, volume) < DEGREES


def test_ipf_colours_of_known_orientations(tmp_path: Path) -> None:
    # Sample z along [001], [101] and [111]: the corners of the cubic key, red, green and blue; along c, red in the
    # hexagonal key.
    euler = np.radians([[0, 0, 0], [0, 45, 0], [0, 54.7356, 45], [30, 0, 0], [0, 90, 0]]).astype(np.float32)
    volume = OrientationVolume(
        quaternions=np.asarray(quaternion.from_euler(euler)).reshape(5, 1, 1, 4),
        phase=np.array([1, 1, 1, 2, 1]).reshape(5, 1, 1),
        mask=np.array([1, 1, 1, 1, 0], bool).reshape(5, 1, 1),
        spacing=(1.0, 1.0, 1.0),
        symmetry=("432", "622"),
    )
    _, _, cells = vtk_cells(export.write(volume, tmp_path / "a.vti"))
    corners = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 0, 0], [0, 0, 0]]
    # Within three of 255: the corner is a limit of the key, approached at the rate of the angle's rounding.
    assert np.abs(cells["ipf_z"][:, 0, 0].astype(int) - corners).max() <= 3
    assert cells["ipf_z"].dtype == np.uint8


def test_vti_bytes_are_x_fastest_and_inline(tmp_path: Path) -> None:
    # The oracle is the format itself: decode by hand, without VTK.
    values = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    path = export.write_vti(tmp_path / "a.vti", {"material": values}, (1.0, 2.0, 3.0))
    root = ElementTree.parse(path).getroot()
    image, array = root.find("ImageData"), root.find(".//CellData/DataArray")
    assert root.attrib["header_type"] == "UInt64"
    assert "compressor" not in root.attrib
    assert image is not None
    assert array is not None
    assert image.attrib["WholeExtent"] == "0 2 0 3 0 4"
    assert image.attrib["Direction"] == "1 0 0 0 1 0 0 0 1"
    assert array.attrib["format"] == "binary"
    data = base64.b64decode((array.text or "").strip())
    assert int.from_bytes(data[:8], "little") == values.nbytes
    found = np.frombuffer(data[8:], "<i4")
    assert [found[i + 2 * j + 6 * k] for i, j, k in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]] == [0, 12, 4, 1]


@pytest.mark.parametrize(
    ("name", "cells", "message"),
    [
        ("a.vti", {}, "cells: found shapes"),
        ("a.vti", {"a": np.zeros((2, 2, 2)), "b": np.zeros((2, 2, 3))}, "of one grid"),
        ("a.vti", {"a": np.zeros((2, 2))}, "cells: found shapes"),
        ("a.vti", {"a": np.zeros((2, 2, 2), np.float16)}, r"cells\['a'\]: found type float16"),
        ("a.vtk", {"a": np.zeros((2, 2, 2))}, "suffix"),
    ],
)
def test_vti_refuses_what_it_cannot_hold_and_leaves_nothing(
    tmp_path: Path, name: str, cells: dict, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        export.write_vti(tmp_path / name, cells, (1.0, 1.0, 1.0))
    assert list(tmp_path.iterdir()) == []


def test_damask_input_has_one_material_per_orientation(tmp_path: Path) -> None:
    volume = grains(symmetry=("432", "622"))
    entry = {"Nickel": {"lattice": "cF", "mechanical": {"output": ["F", "P"]}}}
    geometry, table = export.write_damask(volume, tmp_path / "grains.vti", phases=entry)
    _, spacing, cells = vtk_cells(geometry)
    assert np.allclose(spacing, np.array(volume.spacing) * 1e-6)
    config = yaml.safe_load(table.read_text())
    assert len(config["material"]) == 3
    assert config["phase"] == {"Nickel": entry["Nickel"], "Titanium": {}}
    assert config["homogenization"]["SX"]["N_constituents"] == 1
    for grain in range(3):
        (number,) = np.unique(cells["material"][volume.fields["grain"] == grain])
        (constituent,) = config["material"][number]["constituents"]
        assert config["material"][number]["homogenization"] == "SX"
        assert constituent["v"] == 1.0
        assert constituent["phase"] == ("Titanium" if grain == 2 else "Nickel")
        # DAMASK's quaternion is the conjugate of the one used here.
        q = volume.quaternions[volume.fields["grain"] == grain][0] * np.array([1, -1, -1, -1])
        assert abs(abs(np.dot(constituent["O"], q)) - 1) < 1e-6


def test_damask_grains_are_averaged_over_equivalent_orientations(tmp_path: Path) -> None:
    from polymicros_jax.orientation.groups import operators

    volume = grains()
    rng = np.random.default_rng(0)
    spread = np.radians(1.0) * rng.normal(size=(*volume.shape, 3)).astype(np.float32)
    operations = np.asarray(operators("432"), np.float32)[rng.integers(0, 24, volume.shape)]
    noisy = quaternion.multiply(volume.quaternions, quaternion.from_rotation_vector(spread))
    scattered = dataclasses.replace(volume, quaternions=np.asarray(quaternion.multiply(operations, noisy)))
    _, table = export.write_damask(scattered, tmp_path / "a.vti", grains=volume.fields["grain"])
    material = yaml.safe_load(table.read_text())["material"]
    assert len(material) == 3
    for grain in range(3):
        q = np.array(material[grain]["constituents"][0]["O"]) * np.array([1, -1, -1, -1])
        true = volume.quaternions[volume.fields["grain"] == grain]
        angle = np.degrees(float(quaternion.disorientation(q.astype(np.float32), true[0], "432")))
        # The mean of n voxels with 1 degree per axis: sqrt(3/n) degrees expected, three times that allowed.
        assert angle < 3 * np.sqrt(3 / len(true))


def test_damask_refuses_unobserved_voxels(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found 2 unobserved voxels.*repair.fill"):
        export.write_damask(with_holes(grains()), tmp_path / "a.vti")
    labels = np.array(grains().fields["grain"])
    for wrong, reason in (
        (np.zeros((2, 2, 2), int), r"grains: found int64 of shape \(2, 2, 2\)"),
        (labels + 0.5, "grains: found float64"),
        (np.where(labels == 1, UNASSIGNED, labels), f"found {(labels == 1).sum()} voxels of no grain"),
    ):
        with pytest.raises(DataError, match=reason):
            export.write_damask(grains(), tmp_path / "a.vti", grains=wrong)
    assert list(tmp_path.iterdir()) == []


def test_damask_phases_are_those_of_the_volume(tmp_path: Path) -> None:
    """An entry under a name that no material has would be lost; two phases of one name would share a lattice."""
    volume = grains(symmetry=("432", "622"))
    with pytest.raises(DataError, match="phases: found 'Ni', accepted are the volume's, Nickel, Titanium"):
        export.write_damask(volume, tmp_path / "a.vti", phases={"Ni": {"lattice": "cF"}})
    twice = dataclasses.replace(volume, provenance={"phases": ["Titanium", "Titanium"]})
    with pytest.raises(DataError, match=r"found .*'Titanium', 'Titanium'.*, accepted is a name for each"):
        export.write_damask(twice, tmp_path / "a.vti")
    assert list(tmp_path.iterdir()) == []
    one = dataclasses.replace(twice, phase=np.ones(volume.shape, int), symmetry="622")
    export.write_damask(one, tmp_path / "a.vti", phases={"Titanium": {"lattice": "hP"}})


@pytest.mark.reference
def test_damask_itself_finds_the_same_orientations(tmp_path: Path) -> None:
    damask = pytest.importorskip("damask")
    volume = grains()
    geometry, table = export.write_damask(volume, tmp_path / "grains.vti")
    grid = damask.GeomGrid.load(geometry)
    assert tuple(grid.cells) == volume.shape
    assert np.allclose(grid.size, np.array(volume.shape) * volume.spacing * 1e-6)
    materials = damask.ConfigMaterial.load(table)["material"]
    orientation = np.array([each["constituents"][0]["O"] for each in materials])[grid.material]
    theirs = damask.Rotation(orientation).as_matrix()
    ours = np.asarray(quaternion.to_matrix(volume.quaternions))
    assert np.abs(theirs - ours).max() < 1e-5
    stored = export.write_dream3d(volume, tmp_path / "grains.dream3d")
    grid = damask.GeomGrid.load_DREAM3D(stored, feature_IDs="FeatureIds")
    assert np.array_equal(grid.material, volume.fields["grain"] + 1)  # feature 0 is none
    rebuilt = damask.ConfigMaterial.load_DREAM3D(stored)["material"]
    assert len(rebuilt) == 3


def test_monoclinic_phases_are_read_with_a_warning(tmp_path: Path) -> None:
    path = export.write(grains(symmetry=("432", "2")), tmp_path / "a.dream3d")
    with pytest.warns(UserWarning, match="two-fold axis is taken along crystal z"):
        assert ebsd.read(path).symmetry == ("432", "2")


@pytest.mark.parametrize("symmetry", ["432", ("432", "622")])
def test_dream3d_round_trip(tmp_path: Path, symmetry: str | tuple[str, ...]) -> None:
    volume = with_holes(grains(symmetry=symmetry))
    back = ebsd.read(export.write(volume, tmp_path / "a.dream3d"))
    assert back.shape == volume.shape
    assert np.allclose(back.spacing, volume.spacing)
    assert np.array_equal(back.mask, volume.mask)
    assert np.array_equal(back.phase, volume.phase)
    assert back.symmetry == volume.symmetry
    assert np.array_equal(back.fields["grain"], volume.fields["grain"] + 1)
    again = ebsd.read(export.write(back, tmp_path / "b.dream3d"))
    assert np.array_equal(again.fields["grain"], back.fields["grain"])
    assert far(back, volume) < DEGREES
    with h5py.File(tmp_path / "a.dream3d") as file:
        ids = []
        file["DataStructure"].visititems(lambda _, item: ids.append(int(item.attrs["ObjectId"])))
        assert len(set(ids)) == len(ids)
        assert file["DataStructure"].attrs["NextObjectId"] > max(ids)
        geometry = file["DataStructure/Image Geometry"]
        assert geometry.attrs["_DIMENSIONS"].tolist() == list(volume.shape)
        assert geometry["Cell Data/EulerAngles"].shape == (*volume.shape[::-1], 3)


def test_dream3d_keeps_fields_or_says_why_not(tmp_path: Path) -> None:
    volume = grains()
    confidence = np.linspace(0, 1, volume.mask.size, dtype=np.float32).reshape(volume.shape)
    fields = {"confidence": confidence, "filled": volume.fields["grain"] > 0, "grain": volume.fields["grain"] - 1}
    bare = dataclasses.replace(volume, fields=fields, phase=np.zeros_like(volume.phase))
    back = ebsd.read(export.write(bare, tmp_path / "a.dream3d"))
    assert back.mask.all()  # observed, though of no phase
    np.testing.assert_array_equal(back.fields["confidence"], confidence)
    # -1 is no grain, which DREAM.3D calls feature 0; grain 0 is one, and gets another number.
    np.testing.assert_array_equal(back.fields["grain"], fields["grain"] + 1)
    np.testing.assert_array_equal(back.fields["filled"], fields["filled"])
    assert set(back.fields) == set(fields)  # neither the angles nor what has a place of its own
    with h5py.File(tmp_path / "a.dream3d") as file:
        stored = file["DataStructure/Image Geometry/Cell Data/filled"][..., 0]
        np.testing.assert_array_equal(stored, np.moveaxis(fields["filled"], (0, 1, 2), (2, 1, 0)))
    for name, values, reason in (
        ("Phases", confidence, "another use for"),
        ("half", confidence.astype(np.float16), "half is float16, accepted are bool, integers"),
    ):
        with pytest.raises(DataError, match=reason):
            export.write(dataclasses.replace(volume, fields={name: values}), tmp_path / "b.dream3d")
        assert not (tmp_path / "b.dream3d").exists()


@pytest.mark.parametrize("frame", ["edax", "oxford", "none"])
def test_ang_round_trip_in_every_frame(tmp_path: Path, frame: str) -> None:
    volume = with_holes(grains(symmetry=("432", "622")))
    single = crop(volume, (0, 0, 0), (5, 4, 1))
    back = ebsd.read(export.write(single, tmp_path / "a.ang", frame=frame), frame=frame)
    assert (back.shape, back.frame, back.symmetry) == (single.shape, frame, single.symmetry)
    assert np.allclose(back.spacing[:2], single.spacing[:2])
    assert np.array_equal(back.mask, single.mask)
    assert np.array_equal(back.phase, single.phase)
    assert far(back, single) < DEGREES
    assert np.abs(back.fields["confidence"] - single.fields["confidence"])[single.mask].max() <= 5e-4  # three decimals
    assert back.provenance["phases"] == ["Nickel", "Titanium"]
    # Read with another frame, the file is another texture: the frame is not decoration.
    other = "none" if frame != "none" else "edax"
    assert far(ebsd.read(tmp_path / "a.ang", frame=other), single) > 90


def test_volume_goes_to_a_folder_of_ang_and_back(tmp_path: Path) -> None:
    volume = with_holes(grains((5, 4, 12)))
    folder = export.write_ang(volume, tmp_path / "sections", frame="edax")
    back = ebsd.read(folder, frame="edax", slice_spacing=1.0)
    assert back.shape == volume.shape
    assert back.spacing == volume.spacing
    assert np.array_equal(back.mask, volume.mask)
    assert far(back, volume) < DEGREES
    # Sections of a longer stack would be read with those of this one.
    with pytest.raises(DataError, match=r"section_0003.ang, which is none of the 3 sections"):
        export.write_ang(volume.crop((0, 0, 0), (5, 4, 3)), folder, frame="edax")
    assert export.write_ang(volume, folder, frame="edax") == folder
    with pytest.raises(DataError, match="12 sections"):
        export.write(volume, tmp_path / "a.ang", frame="edax")
    with pytest.raises(DataError, match="frame: found 'tsl'"):
        export.write_ang(volume, tmp_path / "other", frame="tsl")


def test_ang_holds_no_nan(tmp_path: Path) -> None:
    """A filled point whose confidence index is not a number stays observed, with the index of what nobody measured."""
    section = grains((5, 4, 1))
    confidence = np.full(section.shape, np.nan, np.float32)
    path = export.write_ang(
        dataclasses.replace(section, fields={"confidence": confidence}), tmp_path / "a.ang", frame="none"
    )
    assert "nan" not in path.read_text()
    back = ebsd.read(path, frame="none")
    assert back.mask.all()
    assert (back.fields["confidence"] == 0).all()


def test_dream3d_origin_is_kept_in_the_provenance(tmp_path: Path) -> None:
    path = export.write(grains((5, 4, 3)), tmp_path / "a.dream3d")
    assert "origin" not in ebsd.read(path).provenance
    with h5py.File(path, "r+") as file:
        file["DataStructure/Image Geometry"].attrs["_ORIGIN"] = np.array([10, 20, 30], np.float32)
    assert ebsd.read(path).provenance["origin"] == [10, 20, 30]


@pytest.mark.parametrize("name", ["A.VTI", "A.DREAM3D", "A.NPZ"])
def test_suffixes_in_capitals_are_written(tmp_path: Path, name: str) -> None:
    volume = grains((3, 2, 2))
    path = export.write(volume, tmp_path / name)
    found = vtk_cells(path)[2]["quaternion"] if name.endswith("VTI") else ebsd.read(path).quaternions
    assert np.allclose(np.abs(np.sum(found * volume.quaternions, axis=-1)), 1.0, atol=1e-6)


def test_npz_round_trip_and_unknown_suffix(tmp_path: Path) -> None:
    volume = with_holes(grains())
    back = ebsd.read(export.write(volume, tmp_path / "a.npz"))
    assert np.array_equal(back.quaternions, volume.quaternions)
    with pytest.raises(DataError, match=re.escape("found suffix '.stl', accepted are .vti, .dream3d, .ang, .npz")):
        export.write(volume, tmp_path / "a.stl")
