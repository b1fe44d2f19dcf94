"""EDAX / TSL `.ang`: text, radians, micrometres.

Columns: phi1, Phi, phi2, x, y, image quality, confidence index, phase, then optionally SEM signal, fit and more. Files
of other programs keep the first eight. Phases are numbered as the header says, whatever the order of its blocks; phase
0 is the only phase where the header has one. A point is unindexed where the confidence index is -1 (any negative value
is taken so) or all three angles are 4 pi.
"""

import re
import warnings
from pathlib import Path

import numpy as np

from polymicros_jax.data.ebsd.frames import require
from polymicros_jax.data.ebsd.scan import FULL_TURNS, Scan, to_volume
from polymicros_jax.data.ebsd.text import read_lines, table, whole
from polymicros_jax.data.errors import DataError
from polymicros_jax.data.laue import TSL_GROUPS
from polymicros_jax.data.volume import OrientationVolume

MOST_PHASES = 64


def read_ang(path: Path, frame: str | None) -> OrientationVolume:
    """Reads a map; hexagonal grids are brought to a square grid by nearest point.

    Raises:
        DataError: no frame, or a file that is truncated, empty, mislabelled or in degrees.

    >>> from polymicros_jax.data.export.ang import write_ang
    >>> from polymicros_jax.data.samples import load
    >>> section = load("in100").crop((0, 0, 0), (6, 5, 1))
    >>> read_ang(write_ang(section, Path("section.ang"), frame="none"), "none").shape
    (6, 5, 1)
    """
    known = require(frame, path)
    lines = read_lines(path)
    body = next((i for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")), len(lines))
    if body == 0:
        raise DataError(
            f"{path}: line 1: found {lines[0][:40]!r}, accepted is an .ang header (lines that start with #)"
        )
    header = [line.lstrip()[1:].strip() for line in lines[:body] if line.strip()]
    phases = _phases(path, header)
    rows = ["" if line.lstrip().startswith("#") else line for line in lines[body:]]  # emptied: lines keep their numbers
    data = table(path, rows, body + 1, 8)
    euler, confidence = data[:, :3], data[:, 6]
    # 1e-3: the angles are written with five decimals.
    observed = (confidence >= 0) & ~np.all(np.abs(euler - FULL_TURNS) < 1e-3, axis=1)
    phase = _whole_column(path, "phase", data[:, 7])
    if len(phases) == 1:  # points of an only phase carry its number or 0
        ((number, only),) = phases.items()
        phase, phases = np.where((phase == 0) | (phase == number), 1, phase), {1: only}
    phase = np.where(observed, phase, 0)
    unknown = sorted(set(np.unique(phase[observed]).tolist()) - set(phases))
    if unknown:
        raise DataError(f"{path}: phase: found {unknown[0]}, accepted are the header's phases {sorted(phases)}")
    every = [phases.get(number, ("1", f"phase_{number}")) for number in range(1, max(phases) + 1)]
    fields = {"confidence": confidence, "image_quality": data[:, 5]}
    for name, column in (("signal", 8), ("fit", 9)):
        if data.shape[1] > column:
            fields[name] = data[:, column]
    scan = Scan(
        path=path,
        euler=euler,
        phase=phase,
        observed=observed,
        x=data[:, 3],
        y=data[:, 4],
        groups=[group for group, _ in every],
        names=[name for _, name in every],
        fields={name: values.astype(np.float32) for name, values in fields.items()},
        hexagonal=_hexagonal(path, header),
        provenance={"format": "ang"},
    )
    _check_count(path, header, len(data), scan)
    return to_volume(scan, known)


def _value(header: list[str], key: str) -> str | None:
    found = [line[len(key) :].lstrip(" :\t") for line in header if line.upper().startswith(key.upper())]
    return found[0].strip() if found else None


def _phases(path: Path, header: list[str]) -> dict[int, tuple[str, str]]:
    """Group and name of every phase by its number, which `Phase 2` above a block states: blocks come in any order.

    Without such lines phases are numbered in the order of the file.
    """
    found: list[tuple[int | None, int, str]] = []
    number, name = None, ""
    for line in header:
        words = line.split()
        if re.fullmatch(r"Phase\s+\d+", line):
            number, name = whole(path, "Phase", words[1]), ""
        elif line.startswith("MaterialName"):
            name = line[len("MaterialName") :].strip()
        elif line.startswith("Symmetry") and len(words) > 1:
            found.append((number, whole(path, "Symmetry", words[1]), name))
            name = ""
    if not found:
        raise DataError(f"{path}: Symmetry: found none in the header, accepted are {sorted(TSL_GROUPS)}")
    unknown = [code for _, code, _ in found if code not in TSL_GROUPS]
    if unknown:
        raise DataError(f"{path}: Symmetry: found {unknown[0]}, accepted are {sorted(TSL_GROUPS)}")
    stated = [each for each, _, _ in found]
    numbers = [each for each in stated if each is not None]
    if len(numbers) < len(found):
        numbers = list(range(1, len(found) + 1))
    if len(set(numbers)) < len(numbers) or not 1 <= min(numbers) <= max(numbers) <= MOST_PHASES:
        raise DataError(f"{path}: Phase: found {numbers}, accepted are different numbers from 1 to {MOST_PHASES}")
    return {
        each: (TSL_GROUPS[code], name or f"phase_{each}") for each, (_, code, name) in zip(numbers, found, strict=True)
    }


def _hexagonal(path: Path, header: list[str]) -> bool:
    grid = (_value(header, "GRID") or "SqrGrid").lower()
    if not grid.startswith(("sqr", "hex")):
        raise DataError(f"{path}: GRID: found {grid!r}, accepted are SqrGrid and HexGrid")
    return grid.startswith("hex")


def _check_count(path: Path, header: list[str], found: int, scan: Scan) -> None:
    """Fewer points than the header promises: the file was truncated, or may have been where they fill a grid."""
    keys = ("NCOLS_ODD", "NCOLS_EVEN", "NROWS")
    texts = [_value(header, key) for key in keys]
    if any(text is None for text in texts):
        return
    odd, even, rows = (whole(path, key, text or "") for key, text in zip(keys, texts, strict=True))
    promised = odd * ((rows + 1) // 2) + even * (rows // 2)
    rectangle = len(np.unique(scan.x)) * len(np.unique(scan.y))
    if found >= promised:
        return
    if scan.hexagonal or rectangle != found:
        raise DataError(
            f"{path}: found {found} points, accepted are the {promised} of its header; the file looks truncated"
        )
    if len(np.unique(scan.x)) == odd:  # a part of a scan, cut out by the software, has fewer columns as a rule
        warnings.warn(
            f"{path}: found {found // odd} whole rows where the header promises {rows}: the file was cut off, or is a "
            "part of a scan",
            stacklevel=4,
        )


def _whole_column(path: Path, name: str, values: np.ndarray) -> np.ndarray:
    if not np.all(np.isfinite(values) & (np.abs(values) < 2**31)):
        raise DataError(f"{path}: {name}: found a value that is not a number, accepted are whole numbers")
    return values.astype(np.int64)
