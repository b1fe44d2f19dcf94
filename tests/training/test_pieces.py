"""Pieces: what is joined is what was split, bit for bit, or an error that names the piece."""

import hashlib
import io
import json
import tarfile

import numpy as np
import pytest

from polymicros_jax.data.errors import DataError
from polymicros_jax.training.pieces import join, split


@pytest.fixture
def folder(tmp_path):
    """A folder like a checkpoint: large and empty files, and folders in it."""
    root = tmp_path / "checkpoints"
    (root / "12" / "state" / "d").mkdir(parents=True)
    (root / "12" / "state" / "d" / "a1").write_bytes(np.random.default_rng(0).bytes(70_001))
    (root / "12" / "state" / "manifest").write_bytes(b"")
    (root / "12" / "note.json").write_text("{}")
    return root


def contents(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# One piece; many; many with a last one that is full: the archive is a multiple of 10,240 bytes.
@pytest.mark.parametrize("size", [2**20, 7_001, 10_240])
def test_what_is_joined_is_what_was_split(folder, tmp_path, size):
    listing = split(folder, tmp_path / "pieces", size)
    assert listing.name == "checkpoints.json"
    written = sorted((tmp_path / "pieces").glob("checkpoints.[0-9]*"))
    sizes = [path.stat().st_size for path in written]
    assert max(sizes) <= size
    assert all(each == size for each in sizes[:-1])
    assert sum(sizes) >= 70_001
    assert len(sizes) == -(-sum(sizes) // size)
    joined = join(listing, tmp_path / "elsewhere")
    assert joined == tmp_path / "elsewhere" / "checkpoints"
    assert contents(joined) == contents(folder)
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["checkpoints"]


def test_a_file_and_a_second_split_with_fewer_pieces(tmp_path):
    file = tmp_path / "prior.safetensors"
    for length in (50_000, 100):
        content = np.random.default_rng(length).bytes(length)
        file.write_bytes(content)
        listing = split(file, tmp_path / "pieces", 20_000)
        assert join(listing, tmp_path / str(length)).read_bytes() == content
    # Nothing of the first is left to be taken along.
    assert len(list((tmp_path / "pieces").iterdir())) == 2


def test_hard_links_travel_as_files_and_symbolic_links_are_refused(folder, tmp_path):
    (folder / "same.json").hardlink_to(folder / "12" / "note.json")
    joined = join(split(folder, tmp_path / "pieces"), tmp_path / "out")
    assert contents(joined) == contents(folder)
    for target in ("12", "..", "nowhere"):
        (folder / "latest").symlink_to(target)
        with pytest.raises(DataError, match="latest: is a symbolic link"):
            split(folder, tmp_path / "other")
        (folder / "latest").unlink()
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("name", "kind"), [("../outside", tarfile.REGTYPE), ("/tmp/outside", tarfile.REGTYPE), ("inside", tarfile.SYMTYPE)]
)
def test_nothing_is_unpacked_outside_the_folder(tmp_path, name, kind):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(member)
    (tmp_path / "x.0000").write_bytes(packed.getvalue())
    piece = {"name": "x.0000", "sha256": hashlib.sha256(packed.getvalue()).hexdigest()}
    listing = tmp_path / "x.json"
    listing.write_text(json.dumps({"format": "polymicros_jax.Pieces/1", "name": "x", "pieces": [piece]}))
    with pytest.raises(DataError, match=r"x\.json: holds .*side'; accepted are files and folders below"):
        join(listing, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_missing_or_damaged_piece_is_named_and_nothing_is_unpacked(folder, tmp_path):
    listing = split(folder, tmp_path / "pieces", 30_000)
    piece = tmp_path / "pieces" / "checkpoints.0001"
    content = bytearray(piece.read_bytes())
    content[100] ^= 1
    piece.write_bytes(content)
    with pytest.raises(DataError, match=r"checkpoints\.0001: is damaged"):
        join(listing, tmp_path / "out")
    piece.unlink()
    with pytest.raises(DataError, match=r"checkpoints\.0001: no such file; checkpoints\.json lists \d pieces"):
        join(listing, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_list_that_is_none_and_a_target_that_is_there_are_refused(folder, tmp_path):
    listing = split(folder, tmp_path / "pieces")
    with pytest.raises(DataError, match=r"checkpoints: is there already"):
        join(listing, folder.parent)
    content = json.loads(listing.read_text())
    for wrong in ({**content, "format": "other"}, {**content, "name": "../up"}, {"format": "x"}, []):
        listing.write_text(json.dumps(wrong))
        with pytest.raises(DataError, match=r"checkpoints\.json: .*accepted is"):
            join(listing, tmp_path / "out")
    with pytest.raises(DataError, match="nothing: no such file"):
        split(tmp_path / "nothing", tmp_path / "pieces")
    with pytest.raises(DataError, match="piece_bytes: found 0"):
        split(folder, tmp_path / "pieces", 0)
