"""Readers against small files written here by hand, following each format's published layout.

One file for all formats, long as it is: what one reader is asked is asked of all, on files of one small map.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import h5py
import jax
import numpy as np
import pytest

from polymicros_jax.data import ebsd
from polymicros_jax.data.ebsd import slices
from polymicros_jax.data.ebsd.frames import FRAMES, from_map, to_map
from polymicros_jax.data.errors import DataError
from polymicros_jax.data.volume import OrientationVolume
from polymicros_jax.orientation import quaternion

NX, NY = 3, 2
# Row by row, x fastest; point 4 (x = 1, y = 1) is unindexed in every file.
EULER = np.array(
    [[0.1, 0.2, 0.3], [1.1, 0.5, 2.0], [6.0, 3.0, 0.0], [2.5, 1.5, 4.5], [0.0, 0.0, 0.0], [3.3, 0.7, 5.9]], np.float64
)
UNINDEXED = 4
PHASE = np.array([1, 1, 2, 1, 0, 2])


def expected() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Quaternions, phase and mask in (x, y, 1)."""
    q = np.asarray(quaternion.from_euler(EULER.astype(np.float32))).reshape(NY, NX, 1, 4).swapaxes(0, 1)
    phase = PHASE.reshape(NY, NX, 1).swapaxes(0, 1)
    return q, phase, phase > 0


def assert_expected(volume: OrientationVolume, spacing: tuple[float, float], single_phase: bool = False) -> None:
    q, phase, mask = expected()
    assert volume.shape == (NX, NY, 1)
    assert np.allclose(volume.spacing[:2], spacing)
    assert np.array_equal(volume.mask, mask)
    assert np.array_equal(volume.phase, mask.astype(int) if single_phase else phase)
    # Text with five or more decimals and float32 trigonometry: 1e-5.
    dots = np.abs(np.sum(volume.quaternions * q, axis=-1))[mask[..., :]]
    assert np.abs(dots - 1).max() < 1e-5


def ang(path: Path, columns: int = 10, symmetries: tuple[int, ...] = (43, 62), grid: str = "SqrGrid") -> Path:
    head = ["# TEM_PIXperUM 1.000000", "#"]
    for i, symmetry in enumerate(symmetries, start=1):
        head += [f"# Phase {i}", f"# MaterialName  \tPhase number {i}", f"# Symmetry              {symmetry}", "#"]
    head += [f"# GRID: {grid}", "# XSTEP: 0.500000", "# YSTEP: 0.250000"]
    head += [f"# NCOLS_ODD: {NX}", f"# NCOLS_EVEN: {NX}", f"# NROWS: {NY}", "#"]
    rows = []
    for n, euler in enumerate(EULER):
        lost = n == UNINDEXED
        angles = [4 * np.pi] * 3 if lost else euler
        phase = PHASE[n] if len(symmetries) > 1 else 0
        cells = [f"{a:9.5f}" for a in angles] + [f"{n % NX * 0.5:.5f}", f"{n // NX * 0.25:.5f}", f"{100.5 + n:.1f}"]
        cells += ["-1.000" if lost else f"{0.1 * n:.3f}", str(phase)]
        cells += [f"{k}" for k in range(columns - 8)]
        rows.append(" ".join(cells))
    path.write_text("\n".join(head + rows) + "\n")
    return path


def ctf(path: Path, unit: float = 180 / np.pi, decimal: str = ".") -> Path:
    head = ["Channel Text File", "Prj\tgenerated", "Author\t", "JobMode\tGrid", f"XCells\t{NX}", f"YCells\t{NY}"]
    head += [
        "XStep\t0.5000",
        "YStep\t0.2500",
        "AcqE1\t0",
        "Euler angles refer to Sample Coordinate system (CS0)!\tMag\t1",
    ]
    head += [
        "Phases\t2",
        "3.57;3.57;3.57\t90;90;90\tNickel\t11\t225\t\t\tnote",
        "2.95;2.95;4.68\t90;90;120\tTitanium\t9\t194",
    ]
    head += ["Phase\tX\tY\tBands\tError\tEuler1\tEuler2\tEuler3\tMAD\tBC\tBS"]
    rows = []
    for n, euler in enumerate(EULER * unit):
        cells = [str(PHASE[n]), f"{n % NX * 0.5:.4f}", f"{n // NX * 0.25:.4f}", "7", "0", *(f"{a:.5f}" for a in euler)]
        rows.append("\t".join([*cells, "0.8566", "123", "0"]).replace(".", decimal))
    path.write_text("\n".join(head + rows) + "\n", encoding="latin-1")
    return path


def cpr(path: Path, fields: tuple[int, ...] = (3, 4, 5, 6, 7, 101), bytes_short: int = 0) -> Path:
    kinds = {3: "<f4", 4: "<f4", 5: "<f4", 6: "<f4", 7: "u1", 101: "<f4"}
    text = ["[General]", "Version=5.0", "[Job]", "GridDistX=0.5", "GridDistY=0.25", f"xCells={NX}", f"yCells={NY}"]
    text += ["[Fields]", f"Count={len(fields)}", *(f"Field{i}={f}" for i, f in enumerate(fields, start=1))]
    text += ["[Phases]", "Count=2", "[Phase1]", "StructureName=Nickel", "LaueGroup=", "SpaceGroup=225"]
    text += ["[Phase2]", "StructureName=Titanium", "LaueGroup=9", "SpaceGroup=0"]
    path.write_text("\n".join(text) + "\n")
    data = np.zeros(NX * NY, np.dtype([("phase", "u1"), *((f"f{f}", kinds.get(f, "u1")) for f in fields)]))
    data["phase"] = PHASE
    for i, f in enumerate((3, 4, 5)):
        if f in fields:
            data[f"f{f}"] = EULER[:, i]
    if 7 in fields:
        data["f7"] = np.arange(NX * NY) + 10
    raw = data.tobytes()
    path.with_suffix(".crc").write_bytes(raw[: len(raw) - bytes_short])
    return path


def oina(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["Manufacturer"] = np.array([b"Oxford Instruments"])
        file["Format Version"] = np.array([b"5.0"])
        file["Index"] = np.array([b"1"])
        header, data = file.create_group("1/EBSD/Header"), file.create_group("1/EBSD/Data")
        for key, value in (("X Cells", NX), ("Y Cells", NY)):
            header[key] = np.array([value], np.int32)
        for key, step in (("X Step", 0.5), ("Y Step", 0.25)):
            header[key] = np.array([step], np.float32)
        for number, (name, laue) in enumerate([("Nickel", 11), ("Titanium", 9)], start=1):
            header[f"Phases/{number}/Phase Name"] = np.array([name.encode()])
            header[f"Phases/{number}/Laue Group"] = np.array([laue], np.int32)
        data["Euler"] = np.where(PHASE[:, None] > 0, EULER, np.nan).astype(np.float32)
        data["Phase"] = PHASE.astype(np.uint8)[:, None]
        data["Band Contrast"] = np.arange(NX * NY, dtype=np.uint8)[:, None]
    return path


def edax(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file[" Manufacturer"] = np.array([b"EDAX"])
        header, data = file.create_group("Scan_1/EBSD/Header"), file.create_group("Scan_1/EBSD/Data")
        header["Grid Type"] = np.array([b"SqrGrid"])
        for key, value in (("nColumns", NX), ("nRows", NY)):
            header[key] = np.array([value], ">i4")
        for key, step in (("Step X", 0.5), ("Step Y", 0.25)):
            header[key] = np.array([step], ">f4")
        for number, (name, code) in enumerate([(b"Nickel", 43), (b"Titanium", 62)], start=1):
            header[f"Phase/{number}/MaterialName"] = np.array([name])
            header[f"Phase/{number}/Symmetry"] = np.array([code], ">i4")
        n = np.arange(NX * NY)
        for i, key in enumerate(("Phi1", "Phi", "Phi2")):
            data[key] = np.where(n == UNINDEXED, 4 * np.pi, EULER[:, i]).astype(np.float32)
        data["CI"] = np.where(n == UNINDEXED, -1, 0.5).astype(np.float32)
        data["Phase"] = PHASE.astype(np.int8)
        data["X Position"], data["Y Position"] = (n % NX * 0.5).astype(np.float32), (n // NX * 0.25).astype(np.float32)
    return path


def h5ebsd(path: Path, maker: str, order: int = 0, sections: int = 2) -> Path:
    with h5py.File(path, "w") as file:
        file["Manufacturer"] = np.bytes_(maker)
        for axis, step in zip("XYZ", (0.5, 0.25, 2.0), strict=True):
            file[f"{axis} Resolution"] = np.float32(step)
        file["ZStartIndex"], file["ZEndIndex"] = np.int64(9), np.int64(8 + sections)
        file["Stacking Order"] = np.uint32(order)
        file["EulerTransformationAngle"] = np.float32(90)
        for k in range(sections):
            # The second section is the first, mirrored: the order of sections must show.
            turn = slice(None) if k == 0 else slice(None, None, -1)
            header, data = file.create_group(f"{9 + k}/Header"), file.create_group(f"{9 + k}/Data")
            euler, phase = EULER[turn], PHASE[turn].astype(np.int32)
            for number, (name, tsl, hkl) in enumerate([("Nickel", 43, 11), ("Titanium", 62, 9)], start=1):
                group = header.create_group(f"Phases/{number}")
                key = "MaterialName" if maker == "TSL" else "PhaseName"
                group[key] = np.bytes_(name)
                group["Symmetry" if maker == "TSL" else "LaueGroup"] = np.int32(tsl if maker == "TSL" else hkl)
            if maker == "TSL":
                header["GRID"] = np.bytes_("SqrGrid")
                header["NCOLS_ODD"], header["NROWS"] = np.int32(NX), np.int32(NY)
                data["PhaseData"] = phase
                data["Confidence Index"] = np.where(phase == 0, -1, 0.5).astype(np.float32)
                for i, key in enumerate(("Phi1", "Phi", "Phi2")):
                    data[key] = euler[:, i].astype(np.float32)
            else:
                header["XCells"], header["YCells"] = np.int32(NX), np.int32(NY)
                data["Phase"] = phase
                for i in range(3):
                    data[f"Euler{i + 1}"] = np.degrees(euler[:, i]).astype(np.float32)
    return path


def dream3d(path: Path, version: str, per_feature: bool = False) -> Path:
    q_of_something_else = np.tile(np.array([1.0, 0, 0, 0], np.float32), (NY * NX + 1, 1))
    with h5py.File(path, "w") as file:
        file.attrs["FileVersion"] = np.bytes_(version)
        if version.startswith("7"):
            top = file.create_group("DataContainers/Volume")
            top["_SIMPL_GEOMETRY/DIMENSIONS"] = np.array([NX, NY, 1], np.int64)
            top["_SIMPL_GEOMETRY/SPACING"] = np.array([0.5, 0.25, 1], np.float32)
        else:
            top = file.create_group("DataStructure/Volume")
            top.attrs["_DIMENSIONS"] = np.array([NX, NY, 1], np.uint64)
            top.attrs["_SPACING"] = np.array([0.5, 0.25, 1], np.float32)
        cells = top.create_group("Cells")
        cells["FeatureIds"] = (np.arange(NX * NY, dtype=np.int32) + 1).reshape(1, NY, NX, 1)
        if per_feature:
            features = top.create_group("Features")
            features["AvgEulerAngles"] = np.concatenate([np.zeros((1, 3)), EULER]).astype(np.float32)
            features["Phases"] = np.concatenate([[0], PHASE]).astype(np.int32)[:, None]
            features["AvgQuats"] = q_of_something_else
        else:
            cells["EulerAngles"] = EULER.astype(np.float32).reshape(1, NY, NX, 3)
            cells["Phases"] = PHASE.astype(np.int32).reshape(1, NY, NX, 1)
            cells["Quats"] = q_of_something_else[1:].reshape(1, NY, NX, 4)
        top["Ensemble/CrystalStructures"] = np.array([[999], [1], [0]], np.uint32)
        top["Ensemble"].create_dataset("PhaseName", data=["Invalid", "Nickel", "Titanium"], dtype=h5py.string_dtype())
    return path


def grainmapper(path: Path) -> Path:
    tangent = -np.asarray(quaternion.to_rodrigues(quaternion.from_euler(EULER.astype(np.float32))))
    with h5py.File(path, "w") as file:
        file["LabDCT/Spacing"] = np.array([0.0005, 0.00025, 0.001])
        file["LabDCT/Data/Rodrigues"] = tangent.reshape(1, NY, NX, 3)
        file["LabDCT/Data/PhaseId"] = PHASE.astype(np.uint8).reshape(1, NY, NX)
        file["LabDCT/Data/GrainId"] = np.arange(NX * NY).reshape(1, NY, NX)
        for number, (name, space) in enumerate([("Nickel", 225), ("Titanium", 194)], start=1):
            file[f"PhaseInfo/Phase0{number}/Name"] = np.array([name.encode()])
            file[f"PhaseInfo/Phase0{number}/SpaceGroup"] = np.array([space], np.int32)
    return path


@pytest.mark.parametrize("columns", [8, 9, 10, 11, 14])
def test_ang_column_layouts(tmp_path: Path, columns: int) -> None:
    volume = ebsd.read(ang(tmp_path / "a.ang", columns), frame="none")
    assert_expected(volume, (0.5, 0.25))
    assert volume.symmetry == ("432", "622")
    assert volume.provenance["phases"] == ["Phase number 1", "Phase number 2"]
    assert volume.fields["image_quality"][2, 1, 0] == pytest.approx(105.5)
    assert ("fit" in volume.fields) == (columns >= 10)


def test_ang_of_one_phase_counts_phases_from_zero(tmp_path: Path) -> None:
    assert_expected(ebsd.read(ang(tmp_path / "a.ang", symmetries=(43,)), frame="none"), (0.5, 0.25), single_phase=True)


@pytest.mark.parametrize(("numbers", "absent"), [((1, 2), 7), ((2, 3), 1)])
def test_ang_phases_are_those_that_the_header_numbers(tmp_path: Path, numbers: tuple[int, int], absent: int) -> None:
    """Blocks in falling order, as EDAX writes them, and numbers that do not begin at 1."""
    path = ang(tmp_path / "a.ang")
    lines = path.read_text().splitlines()
    first, second, grid = (
        next(i for i, line in enumerate(lines) if key in line) for key in ("Phase 1", "Phase 2", "GRID")
    )
    rows = [line for line in lines if not line.startswith("#")]
    head = [*lines[:first], *lines[second:grid], *lines[first:second], *lines[grid : len(lines) - len(rows)]]
    shift = numbers[0] - 1
    text = "\n".join(head).replace("# Phase 2", f"# Phase {numbers[1]}").replace("# Phase 1", f"# Phase {numbers[0]}")
    cells = [row.split() for row in rows]
    moved = [" ".join([*row[:7], str(int(row[7]) + shift), *row[8:]]) for row in cells]
    path.write_text(text + "\n" + "\n".join(moved))
    volume = ebsd.read(path, frame="none")
    _, phase, mask = expected()
    assert np.array_equal(volume.phase, np.where(mask, phase + shift, 0))
    named = dict(zip(volume.provenance["phases"], volume.symmetry, strict=True))
    assert (named["Phase number 1"], named["Phase number 2"]) == ("432", "622")
    assert volume.provenance["phases"][numbers[1] - 1] == "Phase number 2"
    # A point of a phase that the header does not have is refused, an absent number below the others too.
    path.write_text(text + "\n" + "\n".join([*moved[:-1], " ".join([*cells[-1][:7], "7", *cells[-1][8:]])]))
    with pytest.raises(
        DataError, match=rf"phase: found 7, accepted are the header's phases \[{numbers[0]}, {numbers[1]}"
    ):
        ebsd.read(path, frame="none")


def test_ang_comments_among_the_points_do_not_shift_line_numbers(tmp_path: Path) -> None:
    path = ang(tmp_path / "a.ang")
    lines = path.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    path.write_text("\n".join([*lines[: first + 1], "# a remark", *lines[first + 1 :]]))
    assert_expected(ebsd.read(path, frame="none"), (0.5, 0.25))
    path.write_text("\n".join([*lines[: first + 1], "# a remark", "six " + lines[first + 1].split(maxsplit=1)[1]]))
    with pytest.raises(DataError, match=rf"line {first + 3}: found 'six'"):
        ebsd.read(path, frame="none")


def test_ang_points_in_any_order_and_missing_points(tmp_path: Path) -> None:
    path = ang(tmp_path / "a.ang")
    lines = path.read_text().splitlines()
    head, rows = [line for line in lines if line.startswith("#")], [line for line in lines if not line.startswith("#")]
    path.write_text("\n".join(head + rows[::-1]))
    assert_expected(ebsd.read(path, frame="none"), (0.5, 0.25))
    # Without the header's promise of a count, a hole in the grid is an unobserved point.
    path.write_text("\n".join([line for line in head if "NROWS" not in line] + rows[:1] + rows[2:]))
    volume = ebsd.read(path, frame="none")
    assert not volume.mask[1, 0, 0]
    assert volume.mask.sum() == 4


def test_ang_step_is_that_of_the_positions_not_of_the_header(tmp_path: Path) -> None:
    path = ang(tmp_path / "a.ang")
    path.write_text(path.read_text().replace("XSTEP: 0.500000", "XSTEP: 0.100000"))
    assert_expected(ebsd.read(path, frame="none"), (0.5, 0.25))


def test_hexagonal_grid_takes_the_nearest_point(tmp_path: Path) -> None:
    # Every point carries its own angle phi1 = 0.1 * number; the square grid is searched by brute force.
    step, columns, rows = 0.2, 6, 7
    points = [
        (i * step + (j % 2) * step / 2, j * step * np.sqrt(3) / 2) for j in range(rows) for i in range(columns - j % 2)
    ]
    head = ["# Symmetry 43", "# GRID: HexGrid", "#"]
    body = [f"{0.1 * n:.5f} 0.5 0.5 {x:.5f} {y:.5f} 1.0 0.9 0" for n, (x, y) in enumerate(points)]
    path = tmp_path / "hex.ang"
    path.write_text("\n".join(head + body))
    volume = ebsd.read(path, frame="none")
    assert volume.spacing == (step, step, step)
    assert volume.shape == (6, 6, 1)  # rows span 6 * 0.2 * sqrt(3)/2 = 1.039 micrometres
    phi1 = np.asarray(quaternion.to_euler(volume.quaternions))[..., 0]
    places = np.array(points)
    for i in range(6):
        for j in range(6):
            distance = np.linalg.norm(places - [i * step, j * step], axis=1)
            near = np.flatnonzero(distance < distance.min() + 1e-4)
            assert volume.mask[i, j, 0]
            assert np.abs(phi1[i, j, 0] - 0.1 * near).min() < 1e-4


@pytest.mark.parametrize("decimal", [".", ","])
def test_ctf_is_in_degrees(tmp_path: Path, decimal: str) -> None:
    volume = ebsd.read(ctf(tmp_path / "a.ctf", decimal=decimal), frame="none")
    assert_expected(volume, (0.5, 0.25))
    assert volume.symmetry == ("432", "622")
    assert volume.fields["band_contrast"][0, 0, 0] == 123


def test_ctf_in_radians_must_be_said(tmp_path: Path) -> None:
    path = ctf(tmp_path / "a.ctf", unit=1.0)
    text = path.read_text(encoding="latin-1").splitlines()
    # Nine or more different orientations, all below 2 pi: no map in degrees looks like that.
    more = [
        "\t".join(["1", f"{n % NX * 0.5}", f"{n // NX * 0.25}", "7", "0", f"{0.3 * n}", "1", "2", "0", "1", "1"])
        for n in range(6, 18)
    ]
    path.write_text("\n".join(text + more).replace(f"YCells\t{NY}", "YCells\t6"))
    with pytest.raises(DataError, match=r"a\.ctf: Euler angles: found none above .*unit='radians'"):
        ebsd.read(path, frame="none")
    radians, degrees = (ebsd.read(path, frame="none", unit=unit) for unit in ("radians", "degrees"))
    assert np.abs(np.asarray(quaternion.to_euler(radians.quaternions))[1, 0, 0] - EULER[1]).max() < 1e-5
    assert np.abs(np.asarray(quaternion.to_euler(degrees.quaternions))[1, 0, 0] - np.radians(EULER[1])).max() < 1e-5
    with pytest.raises(DataError, match="unit: found 'turns'"):
        ebsd.read(path, frame="none", unit="turns")


@pytest.mark.parametrize("suffix", [".cpr", ".crc"])
def test_cpr_and_crc_are_one(tmp_path: Path, suffix: str) -> None:
    volume = ebsd.read(cpr(tmp_path / "a.cpr").with_suffix(suffix), frame="none")
    assert_expected(volume, (0.5, 0.25))
    assert volume.symmetry == ("432", "622")
    assert volume.fields["band_contrast"][:, :, 0].T.reshape(-1).tolist() == [10, 11, 12, 13, 14, 15]


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.h5oina", oina), ("a.h5", oina), ("b.h5", edax)],
    ids=["h5oina", "h5 of Oxford", "h5 of EDAX"],
)
def test_vendor_hdf5(tmp_path: Path, name: str, write: Callable[[Path], Path]) -> None:
    volume = ebsd.read(write(tmp_path / name), frame="none")
    assert_expected(volume, (0.5, 0.25))
    assert volume.symmetry == ("432", "622")
    assert volume.provenance["phases"] == ["Nickel", "Titanium"]


def test_edax_points_that_were_never_visited_are_unobserved(tmp_path: Path) -> None:
    path = edax(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        for key in ("X Position", "Y Position"):
            file[f"Scan_1/EBSD/Data/{key}"][UNINDEXED] = -1111111.0
    assert_expected(ebsd.read(path, frame="none"), (0.5, 0.25))


@pytest.mark.parametrize("maker", ["TSL", "HKL"])
@pytest.mark.parametrize("order", [0, 1])
def test_h5ebsd_archives(tmp_path: Path, maker: str, order: int) -> None:
    volume = ebsd.read(h5ebsd(tmp_path / "a.h5ebsd", maker, order), frame="none")
    q, phase, mask = expected()
    mirrored = q[::-1, ::-1], phase[::-1, ::-1], mask[::-1, ::-1]
    sections = [(q, phase, mask), mirrored][:: -1 if order else 1]
    assert volume.shape == (NX, NY, 2)
    assert volume.spacing == (0.5, 0.25, 2.0)
    for k, (q, phase, mask) in enumerate(sections):
        assert np.array_equal(volume.phase[:, :, k], phase[:, :, 0])
        assert np.array_equal(volume.mask[:, :, k], mask[:, :, 0])
        dots = np.abs(np.sum(volume.quaternions[:, :, k] * q[:, :, 0], axis=-1))[mask[:, :, 0]]
        assert np.abs(dots - 1).max() < 1e-5
    assert volume.provenance["not_applied"]["EulerTransformationAngle"] == [90.0]


@pytest.mark.parametrize("per_feature", [False, True])
@pytest.mark.parametrize("version", ["7.0", "8.0"])
def test_dream3d_orientations_come_from_euler_angles(tmp_path: Path, version: str, per_feature: bool) -> None:
    volume = ebsd.read(dream3d(tmp_path / "a.dream3d", version, per_feature))
    assert_expected(volume, (0.5, 0.25))
    assert volume.symmetry == ("432", "622")
    assert volume.frame == "none"
    assert volume.provenance["phases"] == ["Nickel", "Titanium"]


def test_grainmapper(tmp_path: Path) -> None:
    volume = ebsd.read(grainmapper(tmp_path / "a.h5"))
    assert_expected(volume, (0.5, 0.25))
    assert volume.spacing == pytest.approx((0.5, 0.25, 1.0))
    assert "not verified" in volume.provenance["convention"]


def test_folder_is_read_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    for number in (8, 9, 10):
        path = ang(tmp_path / f"Slice_{number}.ang")
        path.write_text(path.read_text().replace("100.5", f"{number}.0"))
    (tmp_path / "notes.txt").write_text("not a map")
    volume = ebsd.read(tmp_path, frame="none", slice_spacing=0.75)
    assert volume.shape == (NX, NY, 3)
    assert volume.spacing == (0.5, 0.25, 0.75)
    assert volume.fields["image_quality"][0, 0].tolist() == [8.0, 9.0, 10.0]
    assert volume.provenance["sections"] == ["Slice_8.ang", "Slice_9.ang", "Slice_10.ang"]
    with pytest.warns(UserWarning, match=r"no slice_spacing given; taking the step along x, 0.5"):
        assert ebsd.read(tmp_path, frame="none").spacing[2] == 0.5


def test_folder_errors_name_the_odd_one_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found no maps"):
        ebsd.read(tmp_path, frame="none")
    ang(tmp_path / "a1.ang")
    path = ang(tmp_path / "a2.ang")
    path.write_text(path.read_text().replace(" 0.25000", " 0.35000"))
    with pytest.raises(DataError, match=r"a2\.ang: found a grid of .* accepted is that of .*a1\.ang"):
        ebsd.read(tmp_path, frame="none", slice_spacing=1.0)
    ctf(tmp_path / "a3.ctf")
    with pytest.raises(DataError, match=r"found maps of \['.ang', '.ctf'\]"):
        ebsd.read(tmp_path, frame="none")
    with pytest.raises(DataError, match="slice_spacing: found -1"):
        ebsd.read(tmp_path, frame="none", slice_spacing=-1.0)
    with pytest.raises(DataError, match=r"a1\.ang: slice_spacing: found 1.0, accepted for a folder"):
        ebsd.read(tmp_path / "a1.ang", frame="none", slice_spacing=1.0)
    with pytest.raises(DataError, match=r"a1\.ang: unit: found 'degrees', accepted for .ctf alone"):
        ebsd.read(tmp_path / "a1.ang", frame="none", unit="degrees")
    saved = ebsd.read(tmp_path / "a1.ang", frame="none").save(tmp_path / "a1.npz")
    with pytest.raises(DataError, match=r"a1\.npz: frame: found 'edax'"):
        ebsd.read(saved, frame="edax")


def test_a_folder_of_volumes_is_no_stack_of_maps(tmp_path: Path) -> None:
    maps = [ebsd.read(h5ebsd(tmp_path / f"{name}.h5ebsd", "TSL"), frame="none") for name in "ab"]
    with pytest.raises(DataError, match="a: found 2 sections, accepted is a map"):
        slices.stack(maps, ["a", "b"], spacing=1.0)


def test_h5ebsd_of_edax_in_degrees_is_refused(tmp_path: Path) -> None:
    path = h5ebsd(tmp_path / "a.h5ebsd", "TSL")
    with h5py.File(path, "a") as file:
        names: list[str] = []
        file.visit(lambda name: names.append(name) if name.endswith("Phi1") else None)
        for name in names:
            file[name][...] = 57.3 * file[name][()] + 100.0
    assert names
    with pytest.raises(DataError, match="are these degrees"):
        ebsd.read(path, frame="none")


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.ang", ang),
        ("a.ctf", ctf),
        ("a.cpr", cpr),
        ("a.h5oina", oina),
        ("a.h5", edax),
        ("a.h5ebsd", lambda p: h5ebsd(p, "TSL")),
    ],
    ids=["ang", "ctf", "cpr", "h5oina", "edax", "h5ebsd"],
)
def test_frame_is_asked_for_where_the_format_leaves_it_open(
    tmp_path: Path, name: str, write: Callable[[Path], Path]
) -> None:
    path = write(tmp_path / name)
    with pytest.raises(
        DataError, match=rf'{name}: frame: none was given.*frame="edax", frame="oxford" and frame="none"'
    ):
        ebsd.read(path)
    with pytest.raises(DataError, match=rf"{name}: frame: found 'tsl', accepted are edax, oxford, none"):
        ebsd.read(path, frame="tsl")
    assert ebsd.read(path, frame="oxford").frame == "oxford"


# Map frame: x right, y down, z into the material; data.ebsd.frames states in words what each vendor's axes are in it.
RIGHT, DOWN, IN = np.eye(3)
VENDOR_AXES = {"edax": (DOWN, RIGHT, -IN), "oxford": (RIGHT, -DOWN, -IN), "none": (RIGHT, DOWN, IN)}


@pytest.mark.parametrize("frame", ["edax", "oxford", "none"])
def test_frames_do_what_their_page_says(tmp_path: Path, frame: str) -> None:
    written = ebsd.read(ang(tmp_path / "a.ang", symmetries=(43,)), frame="none")
    read = ebsd.read(tmp_path / "a.ang", frame=frame)
    place = (1, 0, 0)
    g_file = np.asarray(quaternion.to_matrix(written.quaternions[place]))
    g_map = np.asarray(quaternion.to_matrix(read.quaternions[place]))
    for axis, direction in enumerate(VENDOR_AXES[frame]):
        # The vendor's axis has the crystal coordinates that the file's angles give it.
        assert np.abs(g_map @ direction - g_file[:, axis]).max() < 1e-5
    back = from_map(read, frame)
    dots = np.abs(np.sum(back.quaternions * written.quaternions, axis=-1))
    assert np.abs(dots[written.mask] - 1).max() < 1e-5


def test_oxford_hexagonal_crystals_turn_to_x_along_a(tmp_path: Path) -> None:
    written = ebsd.read(ang(tmp_path / "a.ang"), frame="none")
    cubic_only, read = ebsd.read(ang(tmp_path / "b.ang", symmetries=(43,)), frame="oxford"), to_map(written, "oxford")
    same = np.abs(np.sum(cubic_only.quaternions * read.quaternions, axis=-1))
    # Misorientation of 30 degrees about c where the phase is hexagonal, none where it is cubic.
    assert np.allclose(same[written.phase == 1], 1, atol=1e-6)
    assert np.allclose(same[written.phase == 2], np.cos(np.radians(15)), atol=1e-6)
    # Oxford: y along b, x along a*; a is 120 degrees from b and so 30 degrees below x.
    a_in_oxford = np.array([np.cos(np.radians(30)), -np.sin(np.radians(30)), 0])
    place = (2, 0, 0)
    before = np.asarray(quaternion.to_matrix(cubic_only.quaternions[place]))
    after = np.asarray(quaternion.to_matrix(read.quaternions[place]))
    assert np.abs(after.T @ [1, 0, 0] - before.T @ a_in_oxford).max() < 1e-5
    # A volume that does not number its only phase is turned like one that does.
    one = dataclasses.replace(written.only_phase(2), phase=np.zeros(written.shape, int))
    assert one.mask.any()
    assert np.array_equal(to_map(one, "oxford").quaternions[one.mask], read.quaternions[one.mask])


@pytest.mark.parametrize("group", ["3", "32", "622"])
def test_frames_change_disorientations_of_trigonal_crystals_alone(group: str) -> None:
    """30 degrees about c leave a group as it is, but 32: its two-folds come to lie between where they were."""
    q = np.asarray(quaternion.random(jax.random.key(0), (100, 1, 1)))
    one = OrientationVolume(q, np.ones((100, 1, 1)), np.ones((100, 1, 1)), (1.0, 1.0, 1.0), symmetry=group)
    angles = quaternion.disorientation(q[1:], q[:-1], group)
    for frame in FRAMES:
        turned = to_map(one, frame).quaternions
        off = np.abs(np.asarray(quaternion.disorientation(turned[1:], turned[:-1], group) - angles)).max()
        # Three products of unit quaternions in single precision, at angles where the arc tangent loses no digits.
        assert off > np.radians(30) if (group, frame) == ("32", "oxford") else off < 5e-6


def edited(write: Callable[[Path], Path], name: str, old: str, new: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = write(folder / name)
        text = path.read_text(encoding="latin-1")
        assert old in text
        path.write_text(text.replace(old, new), encoding="latin-1")
        return path

    return make


def content(name: str, data: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


def hdf_edited(write: Callable[[Path], Path], name: str, change: Callable[[h5py.File], None]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = write(folder / name)
        with h5py.File(path, "a") as file:
            change(file)
        return path

    return make


def drop(key: str) -> Callable[[h5py.File], None]:
    return lambda file: file.__delitem__(key)


def put(key: str, value: np.ndarray) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[key]
        file[key] = value

    return change


def cut(write: Callable[[Path], Path], name: str, keep: float) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = write(folder / name)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * keep)])
        return path

    return make


BAD = {
    "empty ang": (content("a.ang", b""), "empty file"),
    "blank ctf": (content("a.ctf", b"\n\n"), "empty file"),
    "binary ang": (content("a.ang", b"# x\0\1\2"), "binary file"),
    "ctf called ang": (
        edited(ctf, "a.ang", "Prj", "Prj"),
        r"line 1: found 'Channel Text File', accepted is an .ang header",
    ),
    "ang called ctf": (
        edited(ang, "a.ctf", "GRID", "GRID"),
        r"line 1: found '# TEM_PIXperUM 1.000000', accepted is 'Channel",
    ),
    "header only": (content("a.ang", b"# Symmetry 43\n"), "no scan points"),
    "cut ang": (cut(ang, "a.ang", 0.9), r"line \d+: found \d+ columns|points, accepted are the 6"),
    "cut ctf": (cut(ctf, "a.ctf", 0.9), r"line \d+: found \d+ columns|points, accepted are 3 x 2"),
    "word in a row": (edited(ang, "a.ang", "6.00000", "six"), r"line \d+: found 'six', accepted is a number"),
    "not a number": (edited(ang, "a.ang", " 6.00000", " nan"), "Euler angles: found nan"),
    "ang in degrees": (edited(ang, "a.ang", " 6.00000", " 343.77"), r"Euler angles: found 343.77.*are these degrees"),
    "unknown symmetry": (
        edited(ang, "a.ang", "Symmetry              62", "Symmetry 99"),
        "Symmetry: found 99, accepted are",
    ),
    "no symmetry": (edited(ang, "a.ang", "Symmetry", "Symetry"), "Symmetry: found none"),
    "phase number twice": (edited(ang, "a.ang", "# Phase 2", "# Phase 1"), r"Phase: found \[1, 1\], accepted are"),
    "phase number absurd": (edited(ang, "a.ang", "# Phase 2", "# Phase 99999999999"), r"accepted are .* 1 to 64"),
    "phase not of the header": (
        edited(ang, "a.ang", "# Phase 2", "# Phase 3"),
        r"phase: found 2, accepted are the header's phases \[1, 3\]",
    ),
    "unknown grid": (edited(ang, "a.ang", "SqrGrid", "TriGrid"), "GRID: found 'trigrid', accepted are SqrGrid"),
    "position twice": (edited(ang, "a.ang", " 0.50000 0.25000", " 0.00000 0.25000"), "two points at one position"),
    "position off grid": (edited(ang, "a.ang", " 0.50000 0.25000", " 0.72000 0.25000"), "off the grid|two points"),
    "position infinite": (
        edited(ang, "a.ang", " 0.50000 0.25000", " inf 0.25000"),
        "x: found a value that is not finite",
    ),
    "phase out of range": (
        edited(ctf, "a.ctf", "\n2\t", "\n7\t"),
        "phase: found 7, accepted are the header's phases 1 to 2",
    ),
    "ctf without column": (edited(ctf, "a.ctf", "Euler3", "Euler4"), "found no column Euler3"),
    "ctf without phases": (edited(ctf, "a.ctf", "Phases\t2", "Phasen\t2"), "Phases: found no such line"),
    "ctf of unknown Laue": (
        edited(ctf, "a.ctf", "Titanium\t9\t194", "Titanium\t12\t0"),
        "Laue group of Titanium: found '12'",
    ),
    "ctf with Z": (edited(ctf, "a.ctf", "Bands", "Z"), "found a 3D .ctf"),
    "short crc": (
        lambda folder: cpr(folder / "a.cpr", bytes_short=5),
        r"a.crc: found \d+ bytes, accepted are 3 x 2 records",
    ),
    "unknown crc field": (lambda folder: cpr(folder / "a.cpr", fields=(3, 4, 5, 9)), r"\[Fields\] Field4: found 9"),
    "no Euler field": (lambda folder: cpr(folder / "a.cpr", fields=(3, 4)), r"\[Fields\]: found"),
    "cpr without job": (edited(cpr, "a.cpr", "xCells", "xcell"), r"\[Job\] xCells: found none"),
    "cpr is no ini": (content("a.cpr", b"hello\n"), "a.crc: found no such file"),
    "cut h5oina": (cut(oina, "a.h5oina", 0.5), "accepted is an intact HDF5 file"),
    "text called h5": (content("a.h5", b"hello"), "accepted is an intact HDF5 file"),
    "empty h5": (content("a.h5", b""), "found an empty file, accepted is HDF5"),
    "foreign h5": (hdf_edited(oina, "a.h5", drop("Manufacturer")), "accepted are EDAX, Oxford and GrainMapper3D"),
    "h5oina without Euler": (hdf_edited(oina, "a.h5oina", drop("1/EBSD/Data/Euler")), "found no dataset Euler"),
    "h5oina in degrees": (
        hdf_edited(oina, "a.h5oina", put("1/EBSD/Data/Euler", np.full((6, 3), 90.0))),
        "Euler: found 90.0, accepted are radians",
    ),
    "h5oina of wrong length": (
        hdf_edited(oina, "a.h5oina", put("1/EBSD/Data/Phase", np.ones(5, np.uint8))),
        "found 5 of uint8, accepted are 6 numbers",
    ),
    "h5oina without map": (hdf_edited(oina, "a.h5oina", drop("1")), "found 0 EBSD maps"),
    "h5oina without step": (
        hdf_edited(oina, "a.h5oina", put("1/EBSD/Header/X Step", np.array([0.0]))),
        "X Step: found 0.0, accepted is a positive number",
    ),
    "edax of wrong count": (
        hdf_edited(edax, "a.h5", put("Scan_1/EBSD/Header/nRows", np.array([3]))),
        "found 6 points, accepted are nColumns x nRows = 3 x 3",
    ),
    "edax without map": (hdf_edited(edax, "a.h5", drop("Scan_1")), "found 0 maps"),
    "h5ebsd of another maker": (
        hdf_edited(lambda p: h5ebsd(p, "TSL"), "a.h5ebsd", put("Manufacturer", np.bytes_("Zeiss"))),
        "Manufacturer: found 'Zeiss', accepted are TSL and HKL",
    ),
    "h5ebsd without a section": (
        hdf_edited(lambda p: h5ebsd(p, "TSL", sections=3), "a.h5ebsd", drop("10")),
        "found no section 10, accepted are all from 9 to 11",
    ),
    "h5ebsd of absurd extent": (
        hdf_edited(lambda p: h5ebsd(p, "TSL"), "a.h5ebsd", put("ZEndIndex", np.int64(2**62))),
        f"found no section 11, accepted are all from 9 to {2**62}",
    ),
    "h5ebsd upside down": (
        hdf_edited(lambda p: h5ebsd(p, "TSL"), "a.h5ebsd", put("ZEndIndex", np.int64(3))),
        "ZEndIndex: found 3, accepted is ZStartIndex",
    ),
    "dream3d of old version": (
        hdf_edited(lambda p: dream3d(p, "7.0"), "a.dream3d", lambda f: f.attrs.modify("FileVersion", np.bytes_("4.0"))),
        "FileVersion: found '4.0', accepted are '7.0' and '8.0'",
    ),
    "dream3d without angles": (
        hdf_edited(lambda p: dream3d(p, "8.0"), "a.dream3d", drop("DataStructure/Volume/Cells/EulerAngles")),
        "found no EulerAngles",
    ),
    "dream3d in degrees": (
        hdf_edited(
            lambda p: dream3d(p, "7.0"),
            "a.dream3d",
            put("DataContainers/Volume/Cells/EulerAngles", np.full((1, NY, NX, 3), 90.0)),
        ),
        "EulerAngles: found 90.0, accepted are radians",
    ),
    "dream3d without voxels": (
        hdf_edited(lambda p: dream3d(p, "7.0"), "a.dream3d", drop("DataContainers/Volume/Cells")),
        "found no array of",
    ),
    "grainmapper of two shapes": (
        hdf_edited(grainmapper, "a.h5", put("LabDCT/Data/PhaseId", np.ones((1, 1, 3)))),
        "Rodrigues: found shape",
    ),
    "unknown suffix": (content("a.tif", b"II"), "found suffix '.tif', accepted are .ang, .ctf"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_bad_files_are_named_with_what_was_found(tmp_path: Path, case: str) -> None:
    make, message = BAD[case]
    path = make(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        ebsd.read(path, frame="none")
    assert str(path.with_suffix("")) in str(caught.value)


def npz(path: Path) -> Path:
    return ebsd.read(oina(path.with_suffix(".h5oina")), frame="none").save(path)


DAMAGED = {
    "a.h5oina": oina,
    "b.h5": edax,
    "c.h5": grainmapper,
    "d.h5ebsd": lambda path: h5ebsd(path, "TSL"),
    "e.h5ebsd": lambda path: h5ebsd(path, "HKL"),
    "f.dream3d": lambda path: dream3d(path, "7.0", per_feature=True),
    "g.dream3d": lambda path: dream3d(path, "8.0"),
    "h.npz": npz,
}


@pytest.mark.parametrize("name", sorted(DAMAGED))
def test_flipped_bytes_give_a_volume_or_a_named_error(tmp_path: Path, name: str) -> None:
    path = DAMAGED[name](tmp_path / name)
    data, rng = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), 4):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            ebsd.read(path, frame="none")
        except DataError as error:
            refused += str(path) in str(error)
    assert refused > 5


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.ang: no such file or folder"):
        ebsd.read(tmp_path / "nowhere.ang", frame="edax")
