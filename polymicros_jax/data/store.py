"""A dataset of generated volumes on disk: one zarr v3 array, one shard a volume, one JSON record a sample.

A folder holds

- ``zarr.json``: a zarr group whose attributes say what the dataset is made from; a restart is compared with them;
- ``fields/``: the array ``(samples, nx, ny, nz, H)``, one volume one shard, inner chunks of at most 32^3 voxels, each
  with a checksum. A sample that was never written reads as NaN, never as zero orientations;
- ``records/00000012.json``: parameters, seeds, checks and source of sample 12;
- ``refused/00000012.json``: the account of a sample that could not be made;
- ``timings/``: how long samples took, one file a call of the generator (`throughput`); no property of a sample.

The record is written **after** the volume, each by a rename: a record marks a complete volume. A process killed at any
moment loses the sample in flight and nothing else, and processes need no coordinator, because they write different
files.

Longer than most files here: writing and reading are kept side by side, because each is right only by the other's order.
"""

import dataclasses
import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore
from jaxtyping import Float

from polymicros_jax.data.atomic import replacing
from polymicros_jax.data.errors import DataError

FORMAT = "polymicros_jax.Store/1"
ARRAY = "fields"
CHUNK = 32
DTYPES = ("float32", "float16")


@dataclasses.dataclass(frozen=True)
class Store:
    """An open dataset. Pickles, so that reading processes can be handed one.

    Attributes:
      directory: folder of the dataset.
      samples: number of samples it has room for.
      shape: grid of every volume.
      channels: H.
      dtype: "float32" or "float16", as stored.
      settings: what the dataset was made from; JSON-compatible.
      array: the tensorstore handle.
    """

    directory: Path
    samples: int
    shape: tuple[int, int, int]
    channels: int
    dtype: str
    settings: Mapping[str, Any]
    array: tensorstore.TensorStore = dataclasses.field(repr=False, compare=False)

    def shard(self, index: int) -> Path:
        """File of one volume."""
        return self.directory / ARRAY / "c" / str(index) / "0" / "0" / "0" / "0"

    def record(self, index: int) -> Path:
        """File of one record."""
        return self.directory / "records" / f"{index:08d}.json"

    def refusal(self, index: int) -> Path:
        """File of the account of a sample that could not be made."""
        return self.directory / "refused" / f"{index:08d}.json"


def create(
    directory: str | Path,
    *,
    samples: int,
    shape: Sequence[int],
    channels: int,
    settings: Mapping[str, Any],
    dtype: str = "float32",
) -> Store:
    """Makes a dataset, or opens the one that is there if it was made with the same arguments.

    Safe to call from many processes at once.

    Args:
      directory: created where missing.
      samples: number of samples to make room for.
      shape: ``(nx, ny, nz)``.
      channels: H.
      settings: JSON-compatible account of what the samples are made from.
      dtype: "float32", or "float16" to halve the size (relative rounding 5e-4).

    Raises:
      DataError: the folder holds a dataset made with other arguments (the field is named), or something else.
      ValueError: a size below 1 or an unknown dtype.

    >>> store = create("dataset", samples=2, shape=(4, 4, 4), channels=9, settings={"seed": 0})
    >>> write_sample(store, 1, np.ones((4, 4, 4, 9), np.float32), {"seed": [0, 1]})
    >>> completed(store), read_record(store, 1)["seed"]
    ([1], [0, 1])
    """
    directory = Path(directory)
    if len(shape) != 3 or min(*shape, samples, channels) < 1:
        raise ValueError(f"samples {samples}, shape {shape}, channels {channels}: accepted are three sides, all >= 1")
    if dtype not in DTYPES:
        raise ValueError(f"dtype: found {dtype!r}, accepted are {', '.join(DTYPES)}")
    header = {
        "format": FORMAT,
        "samples": samples,
        "shape": list(shape),
        "channels": channels,
        "dtype": dtype,
        "settings": dict(settings),
    }
    group = {"zarr_format": 3, "node_type": "group", "attributes": header}
    directory.mkdir(parents=True, exist_ok=True)
    others = sorted({path.name for path in directory.iterdir()} & {"zarr.json", ARRAY, "records", "refused"})
    if others and "zarr.json" not in others:
        raise DataError(f"{directory}: holds {', '.join(others)} but no zarr.json; accepted is an empty folder")
    _write_once(directory / "zarr.json", json.dumps(group, indent=1) + "\n")
    found = _read_header(directory)
    difference = _first_difference(found, json.loads(json.dumps(header)))
    if difference is not None:
        field, there, asked = difference
        raise DataError(
            f"{directory / 'zarr.json'}: {field} is {there}, this run has {asked}; accepted: the same, or a new folder"
        )
    return _opened(directory, found, create_array=True)


def open(directory: str | Path) -> Store:
    """Opens a dataset for reading.

    Raises:
      DataError: there is none, or it cannot be read.

    >>> folder = create("dataset", samples=2, shape=(4, 4, 4), channels=9, settings={}).directory
    >>> open(folder).shape
    (4, 4, 4)
    """
    directory = Path(directory)
    return _opened(directory, _read_header(directory), create_array=False)


def write_sample(store: Store, index: int, field: Float[np.ndarray, "nx ny nz h"], record: Mapping[str, Any]) -> None:
    """Writes a volume, then its record; each appears complete or not at all.

    Args:
      store: from `create`.
      index: number of the sample.
      field: finite values, rounded to the dtype of the store.
      record: JSON-compatible; ``"sample"`` and the ``"sha256"`` of the stored values are added.

    Raises:
      DataError: a field of another shape or with values that are not finite, or the disk refuses.

    >>> store = create("dataset", samples=2, shape=(4, 4, 4), channels=1, settings={})
    >>> write_sample(store, 0, np.full((4, 4, 4, 1), 0.5, np.float32), {"seed": [0, 0]})
    >>> float(read_volume(store, 0).mean())
    0.5
    """
    _check_index(store, index)
    expected = (*store.shape, store.channels)
    if field.shape != expected:
        raise DataError(f"sample {index}: the field has shape {field.shape}, the store takes {expected}")
    with np.errstate(over="ignore"):  # what float16 cannot hold becomes infinite and is refused below
        values = np.ascontiguousarray(field, dtype=store.dtype)
    if not np.isfinite(values).all():
        raise DataError(f"sample {index}: values are not finite in {store.dtype}; accepted are finite values")
    try:
        # Within a transaction all inner chunks go to the shard in one write of the file.
        with tensorstore.Transaction() as transaction:
            store.array.with_transaction(transaction)[index].write(values).result()
    except ValueError as error:
        raise DataError(f"{store.shard(index)}: sample {index} cannot be written: {error}") from error
    _write_json(store.record(index), {"sample": index, **record, "sha256": _digest(values)})


def write_refusal(store: Store, index: int, record: Mapping[str, Any]) -> None:
    """Notes that sample ``index`` could not be made, so that a restart does not try again.

    >>> store = create("dataset", samples=2, shape=(4, 4, 4), channels=1, settings={})
    >>> write_refusal(store, 0, {"rejected": ["no grains"]})
    >>> refused(store), completed(store)
    ([0], [])
    """
    _check_index(store, index)
    _write_json(store.refusal(index), {"sample": index, **record})


def completed(store: Store, indices: Iterable[int] | None = None) -> list[int]:
    """Those of the given samples (all by default) that have a record, ascending.

    >>> store = create("dataset", samples=5, shape=(4, 4, 4), channels=1, settings={})
    >>> for index in (3, 1):
    ...     write_sample(store, index, np.zeros((4, 4, 4, 1), np.float32), {})
    >>> completed(store), completed(store, range(2))
    ([1, 3], [1])
    """
    return _recorded(store.directory / "records", store, indices)


def refused(store: Store, indices: Iterable[int] | None = None) -> list[int]:
    """Those of the given samples (all by default) that could not be made, ascending.

    >>> store = create("dataset", samples=5, shape=(4, 4, 4), channels=1, settings={})
    >>> write_refusal(store, 3, {"rejected": []})
    >>> refused(store)
    [3]
    """
    return _recorded(store.directory / "refused", store, indices)


def read_record(store: Store, index: int) -> dict[str, Any]:
    """The record of a complete sample.

    Raises:
      DataError: the sample is not complete, or its record cannot be read.

    >>> store = create("dataset", samples=1, shape=(4, 4, 4), channels=1, settings={})
    >>> write_sample(store, 0, np.zeros((4, 4, 4, 1), np.float32), {"local_model": "compact"})
    >>> record = read_record(store, 0)
    >>> record["sample"], record["local_model"], len(record["sha256"])
    (0, 'compact', 64)
    """
    _check_complete(store, index)
    return _read_json(store.record(index))


def read_refusal(store: Store, index: int) -> dict[str, Any]:
    """The account of a sample that could not be made.

    Raises:
      DataError: there is no such account, or it cannot be read.

    >>> store = create("dataset", samples=1, shape=(4, 4, 4), channels=1, settings={})
    >>> write_refusal(store, 0, {"rejected": ["no grains"]})
    >>> read_refusal(store, 0)["rejected"]
    ['no grains']
    """
    return _read_json(store.refusal(index))


def read_volume(store: Store, index: int) -> Float[np.ndarray, "nx ny nz h"]:
    """One volume, in the dtype of the store.

    Raises:
      DataError: the sample is not complete or its shard cannot be read; other samples stay readable.

    >>> store = create("dataset", samples=1, shape=(4, 4, 4), channels=1, settings={}, dtype="float16")
    >>> write_sample(store, 0, np.full((4, 4, 4, 1), 1 / 3, np.float32), {})
    >>> read_volume(store, 0).dtype, round(float(read_volume(store, 0).max()), 3)
    (dtype('float16'), 0.333)
    """
    _check_complete(store, index)
    return _read(store, index, (slice(None),) * 3)


def read_patch(
    store: Store, index: int, origin: tuple[int, int, int], size: int | tuple[int, int, int]
) -> Float[np.ndarray, "px py pz h"]:
    """A box of one volume; reads only the inner chunks that it touches.

    Args:
      store: open dataset.
      index: number of the sample.
      origin: first voxel of the box.
      size: sides of the box, or the side of a cube.

    Raises:
      DataError: the box leaves the volume, the sample is not complete or its shard cannot be read.

    >>> store = create("dataset", samples=1, shape=(8, 4, 4), channels=1, settings={})
    >>> write_sample(store, 0, np.arange(128, dtype=np.float32).reshape(8, 4, 4, 1), {})
    >>> read_patch(store, 0, (5, 0, 0), (3, 1, 1)).ravel().tolist()
    [80.0, 96.0, 112.0]
    """
    _check_complete(store, index)
    sides = (size, size, size) if isinstance(size, int) else size
    if any(o < 0 or s < 1 or o + s > n for o, s, n in zip(origin, sides, store.shape, strict=True)):
        raise DataError(f"sample {index}: the box at {origin} of size {sides} leaves the volume {store.shape}")
    return _read(store, index, tuple(slice(o, o + s) for o, s in zip(origin, sides, strict=True)))


def unreadable(store: Store, indices: Iterable[int] | None = None) -> dict[int, str]:
    """Reads every complete sample and compares it with the checksum of its record.

    Returns:
      What is wrong, by sample number; empty when all is well. Deleting the record of such a sample makes the next run
      of the generator make it again.

    >>> store = create("dataset", samples=1, shape=(4, 4, 4), channels=1, settings={})
    >>> write_sample(store, 0, np.zeros((4, 4, 4, 1), np.float32), {})
    >>> unreadable(store)
    {}
    """
    wrong = {}
    for index in completed(store, indices):
        try:
            values = read_volume(store, index)
            if _digest(values) != read_record(store, index).get("sha256"):
                wrong[index] = f"{store.shard(index)}: not the volume that the record of sample {index} names"
        except DataError as error:
            wrong[index] = str(error)
    return wrong


def _opened(directory: Path, header: Mapping[str, Any], *, create_array: bool) -> Store:
    shape: tuple[int, int, int] = tuple(header["shape"])
    samples, channels, dtype = header["samples"], header["channels"], header["dtype"]
    spec: dict[str, Any] = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": f"{directory.absolute()}/{ARRAY}/"},
        # Many processes write, and volumes are read once: nothing is worth caching.
        "context": {"cache_pool": {"total_bytes_limit": 0}},
    }
    if create_array:
        spec["metadata"] = _array_metadata(samples, shape, channels, dtype)
    try:
        array = tensorstore.open(spec, open=True, create=create_array).result()
    except ValueError as error:
        raise DataError(f"{directory / ARRAY}: the array cannot be opened: {error}") from error
    found = (tuple(array.shape), array.dtype.name)
    if found != ((samples, *shape, channels), dtype):
        raise DataError(f"{directory / ARRAY}: the array is {found}, zarr.json of the folder says {header}")
    return Store(directory, samples, shape, channels, dtype, header["settings"], array)


def _array_metadata(samples: int, shape: tuple[int, int, int], channels: int, dtype: str) -> dict[str, Any]:
    inner = [1, *(_largest_divisor(n, CHUNK) for n in shape), channels]
    size = np.dtype(dtype).itemsize
    little: dict[str, Any] = {"name": "bytes", "configuration": {"endian": "little"}}
    blosc = {"cname": "zstd", "clevel": 3, "shuffle": "shuffle", "typesize": size, "blocksize": 0}
    checksum = {"name": "crc32c"}
    return {
        "shape": [samples, *shape, channels],
        "data_type": dtype,
        "dimension_names": ["sample", "x", "y", "z", "channel"],
        "fill_value": "NaN",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, *shape, channels]}},
        "codecs": [
            {
                "name": "sharding_indexed",
                "configuration": {
                    "chunk_shape": inner,
                    "codecs": [little, {"name": "blosc", "configuration": blosc}, checksum],
                    "index_codecs": [little, checksum],
                    "index_location": "end",
                },
            }
        ],
    }


def _largest_divisor(number: int, limit: int) -> int:
    """Inner chunks must divide the shard, so a side of 48 gets chunks of 24."""
    return max(d for d in range(1, min(number, limit) + 1) if number % d == 0)


def _read(store: Store, index: int, box: tuple[slice, ...]) -> np.ndarray:
    if not store.shard(index).is_file():
        raise DataError(f"{store.shard(index)}: the shard of sample {index} is missing, though its record is there")
    try:
        return store.array[index][box].read().result()
    except ValueError as error:
        raise DataError(f"{store.shard(index)}: the shard of sample {index} cannot be read: {error}") from error


def _check_index(store: Store, index: int) -> None:
    if not 0 <= index < store.samples:
        raise DataError(f"{store.directory}: sample {index} asked for; the store has 0 to {store.samples - 1}")


def _check_complete(store: Store, index: int) -> None:
    _check_index(store, index)
    if store.record(index).is_file():
        return
    if store.refusal(index).is_file():
        raise DataError(f"{store.refusal(index)}: sample {index} could not be made; the file says why")
    raise DataError(f"{store.record(index)}: sample {index} is not complete")


def _recorded(folder: Path, store: Store, indices: Iterable[int] | None) -> list[int]:
    wanted = range(store.samples) if indices is None else indices
    if not folder.is_dir():
        return []
    # Names of writes cut short begin with a dot.
    there = {int(entry.name[:-5]) for entry in os.scandir(folder) if entry.name[:-5].isdigit()}
    return sorted(there.intersection(wanted))


def _digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with replacing(path) as temporary, temporary.open("w") as stream:
        json.dump(content, stream, allow_nan=False)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())


def _write_once(path: Path, content: str) -> None:
    """Writes a file unless it exists; of several processes one wins, and nobody sees half a file."""
    if path.exists():
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        temporary.write_text(content)
        os.link(temporary, path)  # unlike a rename, a link does not replace
    except FileExistsError:
        pass
    finally:
        temporary.unlink(missing_ok=True)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: found {type(content).__name__}, accepted is a JSON object")
    return content


def _read_header(directory: Path) -> dict[str, Any]:
    path = directory / "zarr.json"
    if not path.is_file():
        raise DataError(f"{path}: no such file; accepted is the folder of a dataset")
    header = _read_json(path).get("attributes", {})
    if header.get("format") != FORMAT:
        raise DataError(f"{path}: format is {header.get('format')!r}, accepted is {FORMAT!r}")
    return header


def _first_difference(found: Any, asked: Any, field: str = "") -> tuple[str, str, str] | None:
    """Path and both values of the first entry in which two JSON values differ."""
    if isinstance(found, dict) and isinstance(asked, dict):
        for name in dict.fromkeys((*asked, *found)):  # inputs come before what follows from them
            inner = f"{field}.{name}" if field else name
            if name not in found or name not in asked:
                return inner, repr(found.get(name, "absent")), repr(asked.get(name, "absent"))
            difference = _first_difference(found[name], asked[name], inner)
            if difference is not None:
                return difference
        return None
    if isinstance(found, list) and isinstance(asked, list) and len(found) == len(asked):
        entries = (_first_difference(f, a, f"{field}[{n}]") for n, (f, a) in enumerate(zip(found, asked, strict=True)))
        return next((difference for difference in entries if difference is not None), None)
    return None if found == asked else (field, repr(found), repr(asked))
