"""What a training leaves behind: numbers, sheets, and weights that go with their scores."""

import json

import jax.numpy as jnp
import numpy as np
from PIL import Image

from polymicros_jax.training import record as module
from polymicros_jax.training.prior import read_card
from polymicros_jax.training.record import TrainingRecord


def test_scores_and_the_weights_that_have_them_are_written_together(linear_network, tmp_path):
    record = TrainingRecord(tmp_path, about={"trained_on": ["in100/train"], "centred": True})
    for step, error in ((5, 0.5), (10, 0.25)):
        record.validated(step, linear_network, {"relative_error": {"0.1": error}})
    record.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[1] == {"step": 10, "relative_error": {"0.1": 0.25}}
    card = read_card(tmp_path / "latest.safetensors")["training"]
    # What it was trained on goes with the weights: whoever goes on from them has to know.
    assert card == {"trained_on": ["in100/train"], "centred": True, "steps": 10, "relative_error": {"0.1": 0.25}}


def test_a_sheet_shows_draws_beside_patches_spread_over_all(linear_network, tmp_path, monkeypatch):
    shown = {}

    def drawn(key, prior, *, count, size):
        return jnp.full((count, size, size, size, 3), 0.1)

    def recorded(fields, real, name, title):
        shown.update(fields=fields.shape, real=real[:, 0, 0, 0, 0].tolist(), name=name, title=title)
        return module.canvas.figure(2.0, 1.0)

    monkeypatch.setattr(module, "draws", drawn)
    monkeypatch.setattr(module, "sample_sheet", recorded)
    real = np.arange(9, dtype=np.float32).reshape(9, 1, 1, 1, 1) * np.ones((1, 4, 4, 4, 3), np.float32)
    record = TrainingRecord(tmp_path)
    path = record.sheet(1500, linear_network, real)
    record.close()
    # The first, the middle and the last patch; the size of a draw is theirs.
    assert shown == {"fields": (3, 4, 4, 4, 3), "real": [0.0, 4.0, 8.0], "name": "rogsh3", "title": "step 1500"}
    assert path == tmp_path / "sheets" / "step_0001500.png"
    with Image.open(path) as image:
        assert image.size == (260, 130)  # inches by `canvas.DPI`
