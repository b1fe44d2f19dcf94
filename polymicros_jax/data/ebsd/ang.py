"""EDAX / TSL `.ang`: text, radians, micrometres.

Columns: phi1, Phi, phi2, x, y, image quality, confidence index, phase, then optionally SEM signal, fit and more. Files
    of other programs
keep the first eight. Phase 0 is the first phase where the header has one only. A point is unindexed where the
confidence index is -1 (any negative value is taken so) or all three angles are 4 pi.
"""

from pathlib import Path

import numpy as np

from polymicros_jax.data.ebsd.frames import require
from polymicros_jax.data.ebsd.scan import FULL_TURNS, Scan, to_volume
from polymicros_jax.data.ebsd.text import read_lines, table, whole
from polymicros_jax.data.errors import DataError
from polymicros_jax.data.laue import TSL_GROUPS
from polymicros_jax.data.volume import OrientationVolume


def read_ang(path: Path, frame: str | None) -> OrientationVolume:
    """Reads a map; hexagonal grids are brought to a square grid by nearest point.

    Raises:
        DataError: no frame, or a file that is truncated, empty, mislabelled or in degrees.
    """
    known = require(frame, path)
    lines = read_lines(path)
    body = next((i for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")), len(lines))
    if body == 0:
        raise DataError(
            f"{path}: line 1: found {lines[0][:40]!r}, accepted is an .ang header (lines that start with #)"
        )
    header = [line.lstrip()[1:].strip() for line in lines[:body] if line.strip()]
    groups, names = _phases(path, header)
    data = table(path, [line for line in lines[body:] if not line.lstrip().startswith("#")], body + 1, 8)
    euler, confidence = data[:, :3], data[:, 6]
    # 1e-3: the angles are written with five decimals.
    observed = (confidence >= 0) & ~np.all(np.abs(euler - FULL_TURNS) < 1e-3, axis=1)
    phase = _whole_column(path, "phase", data[:, 7])
    phase = np.where(observed, np.maximum(phase, 1) if len(groups) == 1 else phase, 0)
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
        groups=groups,
        names=names,
        fields={name: values.astype(np.float32) for name, values in fields.items()},
        hexagonal=_hexagonal(path, header),
        provenance={"format": "ang"},
    )
    _check_count(path, header, len(data), scan)
    return to_volume(scan, known)


def _value(header: list[str], key: str) -> str | None:
    found = [line[len(key) :].lstrip(" :\t") for line in header if line.upper().startswith(key.upper())]
    return found[0].strip() if found else None


def _phases(path: Path, header: list[str]) -> tuple[list[str], list[str]]:
    codes = [
        whole(path, "Symmetry", line.split()[1])
        for line in header
        if line.startswith("Symmetry") and len(line.split()) > 1
    ]
    if not codes:
        raise DataError(f"{path}: Symmetry: found none in the header, accepted are {sorted(TSL_GROUPS)}")
    unknown = [code for code in codes if code not in TSL_GROUPS]
    if unknown:
        raise DataError(f"{path}: Symmetry: found {unknown[0]}, accepted are {sorted(TSL_GROUPS)}")
    names = [line[len("MaterialName") :].strip() for line in header if line.startswith("MaterialName")]
    padded = [names[i] if i < len(names) else f"phase_{i + 1}" for i in range(len(codes))]
    return [TSL_GROUPS[code] for code in codes], padded


def _hexagonal(path: Path, header: list[str]) -> bool:
    grid = (_value(header, "GRID") or "SqrGrid").lower()
    if not grid.startswith(("sqr", "hex")):
        raise DataError(f"{path}: GRID: found {grid!r}, accepted are SqrGrid and HexGrid")
    return grid.startswith("hex")


def _check_count(path: Path, header: list[str], found: int, scan: Scan) -> None:
    """A file with fewer points than its header promises was truncated, unless its points fill a grid of their own."""
    keys = ("NCOLS_ODD", "NCOLS_EVEN", "NROWS")
    texts = [_value(header, key) for key in keys]
    if any(text is None for text in texts):
        return
    odd, even, rows = (whole(path, key, text or "") for key, text in zip(keys, texts, strict=True))
    promised = odd * ((rows + 1) // 2) + even * (rows // 2)
    rectangle = len(np.unique(scan.x)) * len(np.unique(scan.y))
    if found < promised and (scan.hexagonal or rectangle != found):
        raise DataError(
            f"{path}: found {found} points, accepted are the {promised} of its header; the file looks truncated"
        )


def _whole_column(path: Path, name: str, values: np.ndarray) -> np.ndarray:
    if not np.all(np.isfinite(values) & (np.abs(values) < 2**31)):
        raise DataError(f"{path}: {name}: found a value that is not a number, accepted are whole numbers")
    return values.astype(np.int64)
