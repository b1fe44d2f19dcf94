"""The dataset on disk: what is complete is right, what is broken is named, and nothing else is touched."""

import json
import pickle
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from polymicros_jax.data import patches, store
from polymicros_jax.data.errors import DataError
from polymicros_jax.data.stored_fields import StoredFields

SETTINGS = {"seed": 7, "local_models": [{"name": "a", "sha256": "0f"}, {"name": "b", "sha256": "1e"}]}
# No two sides agree with each other or with the number of samples; 40 is no multiple of the inner chunk.
ARGUMENTS: dict[str, Any] = {"samples": 4, "shape": (40, 8, 6), "channels": 3, "settings": SETTINGS}


def field(index: int, shape: tuple[int, ...] = (40, 8, 6, 3)) -> np.ndarray:
    return np.random.default_rng(index).standard_normal(shape, dtype=np.float32)


@pytest.fixture
def filled(tmp_path: Path) -> store.Store:
    """Samples 0, 1 and 3 of 4."""
    made = store.create(tmp_path / "set", **ARGUMENTS)
    for index in (0, 1, 3):
        store.write_sample(made, index, field(index), {"note": f"sample {index}"})
    return made


def test_volumes_and_records_come_back(filled: store.Store) -> None:
    again = store.open(filled.directory)
    assert again == filled
    assert store.completed(again) == [0, 1, 3]
    assert store.completed(again, range(1, 3)) == [1]
    for index in (0, 1, 3):
        np.testing.assert_array_equal(store.read_volume(again, index), field(index))
        assert store.read_record(again, index)["note"] == f"sample {index}"
    assert store.unreadable(again) == {}


def test_plain_zarr_reads_the_same(filled: store.Store) -> None:
    group = zarr.open_group(filled.directory, mode="r")
    assert group.attrs["settings"] == SETTINGS
    array = group["fields"]
    assert array.shards == (1, 40, 8, 6, 3)
    assert array.chunks == (1, 20, 8, 6, 3)  # the largest divisor of 40 up to 32
    for index in (0, 1, 3):
        np.testing.assert_array_equal(array[index], field(index))
    assert np.isnan(array[2]).all()  # a sample that was never written is nothing, not zero


def test_a_volume_is_one_file(filled: store.Store) -> None:
    files = sorted(path for path in (filled.directory / "fields" / "c").rglob("*") if path.is_file())
    assert files == [filled.shard(index) for index in (0, 1, 3)]


def test_patches_are_boxes_of_the_volume(filled: store.Store) -> None:
    np.testing.assert_array_equal(store.read_patch(filled, 1, (17, 2, 1), (9, 5, 4)), field(1)[17:26, 2:7, 1:5])
    np.testing.assert_array_equal(store.read_patch(filled, 1, (34, 2, 0), 6), field(1)[34:40, 2:8, 0:6])
    with pytest.raises(DataError, match="leaves the volume"):
        store.read_patch(filled, 1, (35, 2, 0), 6)
    with pytest.raises(DataError, match="leaves the volume"):
        store.read_patch(filled, 1, (-1, 0, 0), 6)


def test_complete_samples_feed_training(filled: store.Store) -> None:
    stored = StoredFields(filled, (3, 0))
    memory = patches.MemoryFields((field(3), field(0)))
    assert stored.shapes == memory.shapes
    assert stored.channels == memory.channels
    same = [patches.batch(source, seed=1, step=2, count=5, size=4) for source in (stored, memory)]
    np.testing.assert_array_equal(same[0], same[1])


def test_a_store_can_be_sent_to_another_process(filled: store.Store) -> None:
    np.testing.assert_array_equal(store.read_volume(pickle.loads(pickle.dumps(filled)), 3), field(3))


def test_float16_rounds_to_nearest(tmp_path: Path) -> None:
    made = store.create(tmp_path, **ARGUMENTS, dtype="float16")
    store.write_sample(made, 2, field(2), {})
    # Half a unit in the last of 11 bits; values below 2^-14 are subnormal with a fixed spacing of 2^-24.
    np.testing.assert_allclose(store.read_volume(made, 2), field(2), rtol=2.0**-11, atol=2.0**-25)
    assert np.any(store.read_volume(made, 2) != field(2))
    assert store.unreadable(made) == {}
    with pytest.raises(DataError, match="not finite in float16"):
        store.write_sample(made, 0, np.full((40, 8, 6, 3), 1e5, np.float32), {})  # beyond 65504


def test_a_crash_before_the_record_leaves_no_sample(filled: store.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(store, "_write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.write_sample(filled, 2, field(99), {})
    assert filled.shard(2).is_file()
    assert store.completed(filled) == [0, 1, 3]
    with pytest.raises(DataError, match="sample 2 is not complete"):
        store.read_volume(filled, 2)
    store.write_sample(filled, 2, field(2), {})
    np.testing.assert_array_equal(store.read_volume(filled, 2), field(2))


def test_leftovers_of_killed_writes_are_no_samples(filled: store.Store) -> None:
    (filled.directory / "records" / ".00000002.json.4711.abcd.part").write_text('{"sample": 2')
    (filled.directory / "fields" / "c" / "2" / "0" / "0" / "0").mkdir(parents=True)
    filled.shard(2).with_name("0.__lock").write_bytes(b"half a shard")
    assert store.completed(filled) == [0, 1, 3]
    store.write_sample(filled, 2, field(2), {})
    assert store.completed(filled) == [0, 1, 2, 3]
    assert store.unreadable(filled) == {}


@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing", "exchanged"])
def test_a_broken_shard_is_named_and_the_rest_is_usable(filled: store.Store, damage: str) -> None:
    shard = filled.shard(1)
    content = bytearray(shard.read_bytes())
    content[100] ^= 0x10
    if damage == "flipped":
        shard.write_bytes(content)
    elif damage == "truncated":
        shard.write_bytes(shard.read_bytes()[:1000])
    elif damage == "missing":
        shard.unlink()
    else:  # a sound shard of another sample: only the checksum of the record can tell
        shard.write_bytes(filled.shard(3).read_bytes())
    if damage != "exchanged":
        with pytest.raises(DataError, match=f"^{re.escape(str(shard))}.*sample 1 "):
            store.read_volume(filled, 1)
    wrong = store.unreadable(filled)
    assert list(wrong) == [1]
    assert wrong[1].startswith(str(shard))
    for index in (0, 3):
        np.testing.assert_array_equal(store.read_volume(filled, index), field(index))
    store.write_sample(filled, 1, field(1), {})
    assert store.unreadable(filled) == {}


def test_a_broken_record_is_named(filled: store.Store) -> None:
    filled.record(3).write_text("{")
    with pytest.raises(DataError, match=re.escape(str(filled.record(3)))):
        store.read_record(filled, 3)
    assert list(store.unreadable(filled)) == [3]


def test_creating_twice_is_the_same(filled: store.Store) -> None:
    assert store.create(filled.directory, **ARGUMENTS) == filled
    assert store.completed(filled) == [0, 1, 3]


def test_a_creation_cut_short_is_finished_by_the_next(tmp_path: Path) -> None:
    made = store.create(tmp_path, **ARGUMENTS)
    (tmp_path / "fields" / "zarr.json").unlink()
    with pytest.raises(DataError, match="the array cannot be opened"):
        store.open(tmp_path)
    assert store.create(tmp_path, **ARGUMENTS) == made
    store.write_sample(made, 2, field(2), {})
    assert store.unreadable(store.open(tmp_path)) == {}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"samples": 5}, "samples is 4, this run has 5"),
        ({"shape": (40, 6, 8)}, r"shape\[1\] is 8, this run has 6"),
        ({"dtype": "float16"}, "dtype is 'float32', this run has 'float16'"),
        ({"settings": {**SETTINGS, "seed": 8}}, "settings.seed is 7, this run has 8"),
        ({"settings": {**SETTINGS, "extra": 1}}, "settings.extra is 'absent', this run has 1"),
        (
            {"settings": {**SETTINGS, "local_models": [{"name": "a", "sha256": "0f"}, {"name": "b", "sha256": "2d"}]}},
            r"settings.local_models\[1\].sha256 is '1e', this run has '2d'",
        ),
    ],
)
def test_another_dataset_is_refused_and_the_field_named(
    filled: store.Store, change: dict[str, Any], named: str
) -> None:
    with pytest.raises(DataError, match=named):
        store.create(filled.directory, **{**ARGUMENTS, **change})
    assert store.unreadable(filled) == {}


def test_of_many_creators_one_wins_and_the_others_agree_or_hear_of_it(tmp_path: Path) -> None:
    def attempt(number: int) -> str:
        try:
            store.create(tmp_path / "set", **{**ARGUMENTS, "settings": {"seed": number % 2}})
        except DataError as error:
            return str(error)
        return f"seed {number % 2}"

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(attempt, range(16)))
    winner = store.open(tmp_path / "set").settings["seed"]
    for number, outcome in enumerate(outcomes):
        expected = f"seed {winner}" if number % 2 == winner else f"settings.seed is {winner}, this run has {1 - winner}"
        assert expected in outcome
    assert not list((tmp_path / "set").glob(".*.part"))


def test_foreign_folders_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    with pytest.raises(DataError, match=r"holds records but no zarr\.json"):
        store.create(tmp_path, **ARGUMENTS)
    (tmp_path / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {}}))
    with pytest.raises(DataError, match="format is None"):
        store.create(tmp_path, **ARGUMENTS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["records", "zarr.json"]
    with pytest.raises(DataError, match="no such file"):
        store.open(tmp_path / "nowhere")


def test_what_cannot_be_stored_is_refused(filled: store.Store) -> None:
    broken = field(2)
    broken[3, 4, 5, 1] = np.nan
    with pytest.raises(DataError, match="sample 2: values are not finite"):
        store.write_sample(filled, 2, broken, {})
    with pytest.raises(DataError, match=r"shape \(8, 40, 6, 3\), the store takes \(40, 8, 6, 3\)"):
        store.write_sample(filled, 2, field(2, (8, 40, 6, 3)), {})
    with pytest.raises(DataError, match="sample 4 asked for; the store has 0 to 3"):
        store.write_sample(filled, 4, field(2), {})
    with pytest.raises(ValueError, match="float64"):
        store.create(filled.directory, **ARGUMENTS, dtype="float64")
    assert not filled.shard(2).exists()
    assert store.completed(filled) == [0, 1, 3]


def test_a_sample_that_could_not_be_made_says_so(filled: store.Store) -> None:
    store.write_refusal(filled, 2, {"rejected": [{"reason": "too blurred"}]})
    assert store.refused(filled) == [2]
    assert store.completed(filled) == [0, 1, 3]
    assert store.read_refusal(filled, 2)["rejected"] == [{"reason": "too blurred"}]
    with pytest.raises(DataError, match="sample 2 could not be made"):
        store.read_volume(filled, 2)
