"""Text readers on damaged files: either a volume or one of the two documented exceptions, never anything else."""

from pathlib import Path

import numpy as np
import pytest

from polymicros_jax.data import ebsd
from polymicros_jax.data.errors import DataError
from polymicros_jax.orientation import quaternion

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import strategies as st  # noqa: E402  (after the skip)

ANG = """# TEM_PIXperUM 1.0
# Phase 1
# MaterialName  \tNickel
# Symmetry              43
# GRID: SqrGrid
# XSTEP: 0.500000
# YSTEP: 0.500000
# NCOLS_ODD: 2
# NCOLS_EVEN: 2
# NROWS: 2
#
  0.10000  0.20000  0.30000 0.00000 0.00000 10.0 0.500 0 1 1.0
  1.10000  0.20000  0.30000 0.50000 0.00000 10.0 0.500 0 1 1.0
 12.56637 12.56637 12.56637 0.00000 0.50000 10.0 -1.000 0 1 1.0
  3.10000  0.20000  0.30000 0.50000 0.50000 10.0 0.500 0 1 1.0
"""
CTF = """Channel Text File
Prj\tp
XCells\t2
YCells\t2
XStep\t0.5
YStep\t0.5
Phases\t1
3.57;3.57;3.57\t90;90;90\tNickel\t11\t225
Phase\tX\tY\tBands\tError\tEuler1\tEuler2\tEuler3\tMAD\tBC\tBS
1\t0.0\t0.0\t7\t0\t10.0\t20.0\t30.0\t0.5\t100\t0
1\t0.5\t0.0\t7\t0\t100.0\t20.0\t30.0\t0.5\t100\t0
0\t0.0\t0.5\t7\t0\t0.0\t0.0\t0.0\t0.5\t100\t0
1\t0.5\t0.5\t7\t0\t200.0\t20.0\t30.0\t0.5\t100\t0
"""
CPR = """[General]
Version=5.0
[Job]
GridDistX=0.5
GridDistY=0.5
xCells=2
yCells=2
[Fields]
Count=3
Field1=3
Field2=4
Field3=5
[Phases]
Count=1
[Phase1]
StructureName=Nickel
LaueGroup=11
SpaceGroup=225
"""
TEXTS = {".ang": ANG, ".ctf": CTF, ".cpr": CPR}
TOKENS = [
    "nan",
    "inf",
    "-1",
    "0",
    "1e30",
    "-1e-30",
    "1e400",
    "99999999999",
    "0.3",
    "x",
    "",
    "\t",
    "\n",
    "#",
    "Phase",
    "=",
    "[",
    ";",
    ",",
    "1_0",
    "٣",
]


@st.composite
def damaged(draw: st.DrawFn, text: str) -> str:
    """The text after a few edits: a word replaced, a line dropped, doubled or moved, a tail cut off, characters
    inserted."""
    for _ in range(draw(st.integers(1, 3))):
        lines = text.split("\n")
        line = draw(st.integers(0, len(lines) - 1))
        match draw(st.integers(0, 4)):
            case 0:
                words = lines[line].split("\t" if "\t" in lines[line] else " ")
                words[draw(st.integers(0, len(words) - 1))] = draw(st.sampled_from(TOKENS))
                lines[line] = ("\t" if "\t" in lines[line] else " ").join(words)
            case 1:
                del lines[line]
            case 2:
                lines.insert(draw(st.integers(0, len(lines))), lines[line])
            case 3:
                lines = [*lines[:line], lines[line][: draw(st.integers(0, 30))]]
            case _:
                lines[line] += draw(st.text(max_size=6))
        text = "\n".join(lines)
    return text


@pytest.mark.parametrize("suffix", sorted(TEXTS))
def test_damaged_text_files(tmp_path_factory: pytest.TempPathFactory, suffix: str) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    record = np.dtype([("phase", "u1"), ("euler", "<f4", 3)])
    outcomes = {"volume": 0, "error": 0}

    @hypothesis.settings(max_examples=150, deadline=None, database=None, derandomize=True)
    @hypothesis.given(damaged(TEXTS[suffix]))
    def check(text: str) -> None:
        path = folder / f"scan{suffix}"
        path.write_bytes(text.encode("utf-8", errors="surrogatepass"))
        if suffix == ".cpr":
            path.with_suffix(".crc").write_bytes(np.ones(4, record).tobytes())
        message = None
        try:
            volume = ebsd.read(path, frame="none")
        except DataError as error:
            message = str(error)
        if message is not None:
            assert str(path.with_suffix("")) in message
            outcomes["error"] += 1
        else:
            assert np.all(np.isfinite(volume.quaternions))
            assert np.abs(np.linalg.norm(volume.quaternions, axis=-1) - 1).max() < 1e-5
            outcomes["volume"] += 1

    check()
    # Both ends must be reached, or the damage is too gentle or too rough to test anything.
    assert min(outcomes.values()) > 10


@pytest.mark.parametrize("suffix", sorted(ebsd.SUFFIXES))
@hypothesis.settings(max_examples=15, deadline=None, database=None, derandomize=True)
@hypothesis.given(data=st.binary(max_size=200))
def test_arbitrary_bytes(tmp_path_factory: pytest.TempPathFactory, suffix: str, data: bytes) -> None:
    path = Path(tmp_path_factory.getbasetemp()) / f"bytes{suffix}"
    path.write_bytes(data)
    with pytest.raises(DataError):
        ebsd.read(path, frame="none")


def test_the_undamaged_texts_are_read(tmp_path: Path) -> None:
    """The last point, and which points are observed, so that the damage above starts from what is right."""
    last = {".ang": (3.1, 0.2, 0.3), ".ctf": tuple(np.radians([200.0, 20.0, 30.0])), ".cpr": (1.0, 1.0, 1.0)}
    for suffix, text in TEXTS.items():
        (tmp_path / f"a{suffix}").write_text(text)
        (tmp_path / "a.crc").write_bytes(np.ones(4, np.dtype([("phase", "u1"), ("euler", "<f4", 3)])).tobytes())
        volume = ebsd.read(tmp_path / f"a{suffix}", frame="none")
        lost = suffix != ".cpr"
        np.testing.assert_array_equal(volume.mask[:, :, 0].T, [[True, True], [not lost, True]])
        euler = np.asarray(quaternion.to_euler(volume.quaternions))[1, 1, 0]
        np.testing.assert_allclose(euler, last[suffix], atol=1e-5)
