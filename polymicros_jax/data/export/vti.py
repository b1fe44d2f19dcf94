"""VTK XML image data with inline base64: the subset that ParaView, VTK and DAMASK all read.

Zero-based extent, identity direction, cell data, x fastest, no compression. Layout of an inline array: base64 of the
number of bytes (UInt64) followed by the data (VTK File Formats, XML section).
"""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np

from polymicros_jax.data.atomic import replacing
from polymicros_jax.data.errors import DataError
from polymicros_jax.types import ArrayLike

VTK_TYPES = {
    "int8": "Int8",
    "uint8": "UInt8",
    "int16": "Int16",
    "uint16": "UInt16",
    "int32": "Int32",
    "uint32": "UInt32",
    "int64": "Int64",
    "uint64": "UInt64",
    "float32": "Float32",
    "float64": "Float64",
}


def write_vti(
    path: str | Path,
    cells: Mapping[str, ArrayLike],
    spacing: Sequence[float],
    origin: Sequence[float] = (0.0, 0.0, 0.0),
    comment: str = "",
) -> Path:
    """Writes cell arrays on a regular grid.

    Args:
        path: file to write, `.vti`.
        cells: name to array, each ``(nx, ny, nz)`` or ``(nx, ny, nz, components)``; booleans become UInt8.
        spacing: edge lengths of a voxel, in the unit the reader shall assume.
        origin: corner of the grid.
        comment: a line for the head of the file.

    Raises:
        DataError: no arrays, arrays of different grids, or a type that VTK does not have.

    >>> path = write_vti("a.vti", {"grain": np.arange(24).reshape(4, 3, 2)}, (0.5, 0.5, 1.0))
    >>> 'WholeExtent="0 4 0 3 0 2"' in path.read_text()
    True
    """
    target = Path(path)
    if target.suffix.lower() != ".vti":
        raise DataError(f"{target}: found suffix {target.suffix!r}, accepted is .vti")
    arrays = {name: np.asarray(values) for name, values in cells.items()}
    shapes = {values.shape[:3] for values in arrays.values()}
    if len(shapes) != 1 or any(values.ndim not in (3, 4) for values in arrays.values()):
        found = {name: values.shape for name, values in arrays.items()}
        raise DataError(
            f"{target}: cells: found shapes {found}, accepted are (nx, ny, nz) and (nx, ny, nz, c) of one grid"
        )
    extent = " ".join(f"0 {n}" for n in shapes.pop())
    note = f"<!-- {comment.replace('--', '- -')} -->\n" if comment else ""
    head = (
        '<?xml version="1.0"?>\n'
        + note
        + '<VTKFile type="ImageData" version="1.0" byte_order="LittleEndian" header_type="UInt64">\n'
        f'  <ImageData WholeExtent="{extent}" Origin="{_numbers(origin)}" Spacing="{_numbers(spacing)}" '
        'Direction="1 0 0 0 1 0 0 0 1">\n'
        f'    <Piece Extent="{extent}">\n      <PointData>\n      </PointData>\n      <CellData>\n'
    )
    with replacing(target) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(head)
        for name, values in arrays.items():
            file.write(_data_array(target, name, values))
        file.write("      </CellData>\n    </Piece>\n  </ImageData>\n</VTKFile>\n")
    return target


def _numbers(values: Sequence[float]) -> str:
    return " ".join(repr(float(value)) for value in values)


def _data_array(path: Path, name: str, values: np.ndarray) -> str:
    if values.dtype == bool:
        values = values.astype(np.uint8)
    kind = VTK_TYPES.get(values.dtype.name)
    if kind is None:
        raise DataError(
            f"{path}: cells[{name!r}]: found type {values.dtype}, accepted are bool, {', '.join(VTK_TYPES)}"
        )
    components = values.shape[3] if values.ndim == 4 else 1
    # x fastest: C order of (z, y, x, component).
    ordered = np.ascontiguousarray(np.moveaxis(values, (0, 1, 2), (2, 1, 0)))
    data = ordered.astype(ordered.dtype.newbyteorder("<"), copy=False).tobytes()
    text = base64.b64encode(np.uint64(len(data)).tobytes() + data).decode("ascii")
    return (
        f'        <DataArray type="{kind}" Name={quoteattr(name)} NumberOfComponents="{components}" format="binary">\n'
        f"          {text}\n        </DataArray>\n"
    )
