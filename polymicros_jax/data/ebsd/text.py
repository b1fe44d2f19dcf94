"""Text files of scan points: reading lines and tables with errors that name the line."""

from pathlib import Path

import numpy as np

from polymicros_jax.data.errors import DataError


def read_lines(path: Path) -> list[str]:
    """Lines of a text file; operator names are in any encoding, so what is not UTF-8 is read as Latin-1.

    Raises:
        DataError: the file is empty or binary.
    """
    data = path.read_bytes()
    if not data.strip():
        raise DataError(f"{path}: found an empty file, accepted is a scan with a header and points")
    if b"\0" in data[:4096]:
        raise DataError(f"{path}: found a binary file, accepted is text")
    try:
        text = data.decode("utf-8-sig")  # Windows editors begin a file with a mark of its encoding
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def table(path: Path, lines: list[str], first_line: int, columns: int) -> np.ndarray:
    """Numbers of whitespace-separated rows, ``(rows, columns)`` float64; more columns than asked for are read and kept.

    Args:
        path: for messages.
        lines: rows; blank ones are skipped.
        first_line: number of the first row in the file, for messages.
        columns: fewest columns accepted.

    Raises:
        DataError: a row that is not numbers, too few columns, or rows of different length (a truncated file).

    >>> table(Path("map.ang"), ["0.1 0.2 0.3", "", "1 2 3"], first_line=10, columns=3).tolist()
    [[0.1, 0.2, 0.3], [1.0, 2.0, 3.0]]
    >>> table(Path("map.ang"), ["0.1 0.2 0.3", "1 two 3"], first_line=10, columns=3)
    Traceback (most recent call last):
        ...
    polymicros_jax.data.errors.DataError: map.ang: line 11: found 'two', accepted is a number
    """
    rows = [(number, line.split()) for number, line in enumerate(lines, start=first_line) if line.strip()]
    if not rows:
        raise DataError(f"{path}: found no scan points, accepted is at least one")
    width = len(rows[0][1])
    for number, cells in rows:
        if len(cells) != width or width < columns:
            accepted = f"at least {columns}" if width < columns else f"{width} as in the first row"
            raise DataError(f"{path}: line {number}: found {len(cells)} columns, accepted are {accepted}")
    try:
        return np.array([cells for _, cells in rows], dtype=np.float64)
    except ValueError:
        pass
    for number, cells in rows:
        for cell in cells:
            try:
                float(cell)
            except ValueError:
                raise DataError(f"{path}: line {number}: found {cell!r}, accepted is a number") from None
    raise DataError(f"{path}: found rows that are not numbers")


def number(path: Path, field: str, text: str) -> float:
    """A finite number of a header.

    Raises:
        DataError: it is none.

    >>> number(Path("map.ang"), "XSTEP", "0.25")
    0.25
    """
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise DataError(f"{path}: {field}: found {text!r}, accepted is a number")
    return value


def whole(path: Path, field: str, text: str) -> int:
    """A whole number of a header.

    Raises:
        DataError: it is none.

    >>> whole(Path("map.ctf"), "XCells", "200")
    200
    """
    value = number(path, field, text)
    if value != int(value):
        raise DataError(f"{path}: {field}: found {text!r}, accepted is a whole number")
    return int(value)
