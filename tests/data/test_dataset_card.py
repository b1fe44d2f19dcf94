"""The card of a dataset: what it tells to do with the volumes works."""

import re
from pathlib import Path

import numpy as np
import pytest

from polymicros_jax.data import simulated, store
from polymicros_jax.data.dataset_card import write_card
from polymicros_jax.orientation import quaternion, representation

SETTINGS = {
    "covariances": 1,
    "models": 1,
    "repeats": 1,
    "seed": 0,
    "steps": 2,
    "skip": 1,
    "mixtures": 1,
    "local_models": [{"name": "m", "source": "s", "parameters": 1, "sigma_data": 0.5, "sha256": "0"}],
}
RECORD = {"local_model": "m", "covariance": 0, "rejected": [], "checks": {}, "made_with": {}}


def _dataset(folder: Path, name: str, field: np.ndarray) -> str:
    """A dataset of one volume; its card."""
    settings = {**SETTINGS, "representation": name}
    made = store.create(
        folder, samples=1, shape=field.shape[:3], channels=field.shape[3], settings=settings, dtype="float16"
    )
    means = {"mean": field.mean((0, 1, 2)).tolist(), "std": field.std((0, 1, 2)).tolist()}
    store.write_sample(made, 0, field, {**RECORD, "channels": means})
    write_card(made)
    return (folder / "README.md").read_text()


def test_volumes_become_input_of_a_simulation_as_the_card_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damask = pytest.importorskip("damask")
    monkeypatch.chdir(tmp_path)
    grown = simulated.load("simulated/voronoi?side=8&grains=6")
    card = _dataset(tmp_path / "set", "gsh4", np.asarray(representation.get("gsh4").encode(grown.quaternions)))
    _, code = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    exec(code.replace("FOLDER", "set"), {})
    cells = damask.GeomGrid.load("geometry.vti").material
    entries = damask.ConfigMaterial.load("material.yaml")["material"]
    assert len(entries) == len(np.unique(grown.fields["grain"]))  # equal channels, equal orientations
    # DAMASK's quaternion is the conjugate of ours.
    q = np.array([each["constituents"][0]["O"] for each in entries], np.float32) * np.array([1, -1, -1, -1], np.float32)
    apart = np.degrees(np.asarray(quaternion.disorientation(q[cells], grown.quaternions, "432")))
    # Rounded to float16: 4.9e-4 of channels of norm 3/2 that change by 3.87 a radian, 0.011 degrees; decoding: 0.05.
    assert apart.max() < 0.061


def test_channels_that_cannot_be_decoded_are_not_said_to_be_orientations(tmp_path: Path) -> None:
    card = _dataset(tmp_path / "set", "rogsh3", np.zeros((4, 4, 4, 3), np.float32))
    assert len(re.findall("```python", card)) == 1
