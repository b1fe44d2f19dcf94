"""Calibrations beside the weights: what was written comes back, the entry nearest in gap is used."""

import dataclasses
import json
from pathlib import Path

import pytest

from polymicros_jax.data.errors import DataError
from polymicros_jax.orientation.grain_posterior import Weights
from polymicros_jax.training import calibration as module
from polymicros_jax.training.calibration import Calibrated, Calibration, Entry, load_calibration, save_calibration
from polymicros_jax.training.prior import WEIGHTS


def _entry(gap: float) -> Entry:
    return Entry(gap, Calibrated(Weights(1.0, 2.0, 0.25), 0.875), Calibrated(Weights(1.5, gap), 0.75))


WRITTEN = Calibration((_entry(2.0), _entry(8.0)), ("a", "b"), {"draws": 3, "start": 0.5, "tile": None})


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    weights = tmp_path / "mine.v2.safetensors"
    path = save_calibration(module.path_for(weights), WRITTEN)
    assert path == tmp_path / "mine.v2.calibration.json"
    assert load_calibration(weights) == WRITTEN
    assert load_calibration(tmp_path / "other.safetensors") is None
    assert module.path_for("compact_gsh4") == WEIGHTS / "compact_gsh4.calibration.json"


@pytest.mark.parametrize(("gap", "chosen"), [(1.0, 2.0), (3.9, 2.0), (4.1, 8.0), (100.0, 8.0)])
def test_nearest_on_a_logarithmic_scale(gap: float, chosen: float) -> None:
    assert WRITTEN.nearest(gap).gap == chosen


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda content: content.update(format="other/1"), "format is 'other/1'"),
        (lambda content: content.update(entries=[]), "entries: found none"),
        (lambda content: content["entries"][0].pop("gap"), "gap"),
        (lambda content: content["entries"][0]["with_prior"]["weights"].update(size=1), "size"),
    ],
)
def test_damaged_files_are_named(change, reason: str, tmp_path: Path) -> None:
    content = json.loads(json.dumps({"format": module.FORMAT, **dataclasses.asdict(WRITTEN)}))
    change(content)
    path = tmp_path / "mine.calibration.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=reason) as caught:
        load_calibration(tmp_path / "mine.safetensors")
    assert str(path) in str(caught.value)


def test_text_that_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "mine.calibration.json").write_text("{")
    with pytest.raises(DataError, match=r"mine\.calibration\.json"):
        load_calibration(tmp_path / "mine.safetensors")
