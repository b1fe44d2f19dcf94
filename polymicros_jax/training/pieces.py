"""Files cut into pieces of bounded size and put together again, for machines reached by small transfers only.

A checkpoint is a folder. `split` packs a file or a folder, writes numbered pieces and a list of them with their
SHA-256, and `join` refuses anything that is not exactly what was split.
"""

import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from polymicros_jax.data.atomic import replacing
from polymicros_jax.data.errors import DataError

PIECE_BYTES = 16 * 2**20
"""Default size of a piece."""

FORMAT = "polymicros_jax.Pieces/1"

_BLOCK = 2**20


class _Pieces(io.RawIOBase):
    """A stream that is written into files of bounded size."""

    def __init__(self, folder: Path, name: str, size: int):
        self._folder, self._name, self._size = folder, name, size
        self._handle: BinaryIO | None = None
        self._digest = hashlib.sha256()
        self._left = 0
        self.written: list[dict[str, Any]] = []

    def writable(self) -> bool:
        """It can be written."""
        return True

    def write(self, content: Any) -> int:
        """Takes all bytes."""
        view = memoryview(content).cast("B")
        total = len(view)
        while view:
            if not self._left:
                self._end_piece()
                self.written.append({"name": f"{self._name}.{len(self.written):04d}", "bytes": 0})
                self._handle = (self._folder / self.written[-1]["name"]).open("wb")
                self._digest, self._left = hashlib.sha256(), self._size
            portion = view[: self._left]
            assert self._handle is not None
            self._handle.write(portion)
            self._digest.update(portion)
            self.written[-1]["bytes"] += len(portion)
            self._left -= len(portion)
            view = view[len(portion) :]
        return total

    def _end_piece(self) -> None:
        if self._handle is not None:
            self._handle.close()
            self.written[-1]["sha256"] = self._digest.hexdigest()
            self._handle = None

    def close(self) -> None:
        """Ends the last piece."""
        self._end_piece()
        super().close()


def split(source: str | Path, folder: str | Path, piece_bytes: int = PIECE_BYTES) -> Path:
    """Packs a file or a folder into ``folder``: pieces ``NAME.0000``, ``NAME.0001``, ... and their list ``NAME.json``.

    The list is written last: pieces without one are no whole.

    Args:
      source: what to pack; a folder without symbolic links.
      folder: where to write; made if it is not there.
      piece_bytes: largest size of a piece.

    Returns:
      Path of the list.

    Raises:
      DataError: there is nothing at ``source``, or a symbolic link in it.

    >>> _ = Path("weights.bin").write_bytes(bytes(2500))
    >>> listing = split("weights.bin", "pieces", piece_bytes=4096)
    >>> sorted(path.name for path in Path("pieces").iterdir())
    ['weights.bin.0000', 'weights.bin.0001', 'weights.bin.0002', 'weights.bin.json']
    """
    source, folder = Path(source), Path(folder)
    if piece_bytes < 1:
        raise DataError(f"piece_bytes: found {piece_bytes}, accepted is at least 1")
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    if links := sorted(path for path in source.rglob("*") if path.is_symlink()):
        raise DataError(f"{links[0]}: is a symbolic link; accepted are files and folders")
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{source.name}.[0-9][0-9][0-9][0-9]"):
        old.unlink()
    with _Pieces(folder, source.name, piece_bytes) as pieces:
        with tarfile.open(fileobj=pieces, mode="w|", format=tarfile.PAX_FORMAT, dereference=True) as archive:
            archive.add(source, arcname=source.name)
        pieces.close()
        content = {"format": FORMAT, "name": source.name, "pieces": pieces.written}
    target = folder / f"{source.name}.json"
    with replacing(target) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")
    return target


def join(listing: str | Path, folder: str | Path) -> Path:
    """Puts together what `split` packed.

    Args:
      listing: the ``NAME.json`` of `split`; the pieces lie beside it.
      folder: where to unpack; made if it is not there.

    Returns:
      Path of the unpacked file or folder.

    Raises:
      DataError: a piece is missing or damaged, the list is none, what would be unpacked is there already, or the
        pieces hold anything but files and folders below it.

    >>> _ = Path("weights.bin").write_bytes(bytes(2500))
    >>> back = join(split("weights.bin", "pieces", piece_bytes=4096), "unpacked")
    >>> back.stat().st_size
    2500
    """
    listing, folder = Path(listing), Path(folder)
    try:
        content = json.loads(listing.read_text())
        name, pieces = content["name"], [(each["name"], each["sha256"]) for each in content["pieces"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{listing}: {error!r}; accepted is a list written by split") from error
    if content.get("format") != FORMAT or Path(name).name != name:
        raise DataError(f"{listing}: format is {content.get('format')!r}, accepted is {FORMAT!r}")
    for piece, digest in pieces:
        path = listing.parent / piece
        if not path.is_file():
            raise DataError(f"{path}: no such file; {listing.name} lists {len(pieces)} pieces")
        with path.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != digest:
                raise DataError(f"{path}: is damaged: its SHA-256 is not that of {listing.name}")
    target = folder / name
    if target.exists():
        raise DataError(f"{target}: is there already; remove it or join into another folder")
    folder.mkdir(parents=True, exist_ok=True)
    stream = io.BufferedReader(_Chain(_blocks([listing.parent / piece for piece, _ in pieces])))
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{name}.") as temporary:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            _unpack(archive, Path(temporary), listing)
        (Path(temporary) / name).rename(target)
    return target


def _unpack(archive: tarfile.TarFile, folder: Path, listing: Path) -> None:
    """Files and folders below the folder, and nothing else: the filters of `tarfile` came with Python 3.11.4."""
    archive.extraction_filter = getattr(tarfile, "data_filter", None)
    for member in archive:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
            raise DataError(f"{listing}: holds {member.name!r}; accepted are files and folders below the unpacked one")
        archive.extract(member, folder)


def _blocks(paths: list[Path]) -> Iterator[bytes]:
    for path in paths:
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                yield block


class _Chain(io.RawIOBase):
    """Blocks of bytes as one stream."""

    def __init__(self, blocks: Iterator[bytes]):
        self._blocks, self._rest = blocks, b""

    def readable(self) -> bool:
        """It can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills the buffer as far as the present block goes."""
        if not self._rest:
            self._rest = next(self._blocks, b"")
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
