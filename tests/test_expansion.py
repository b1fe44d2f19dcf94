"""The expand task: what it measures of draws and baselines, and the files it leaves."""

import dataclasses
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polymicros_jax import config as defaults
from polymicros_jax import expansion, experiment, read, tasks
from polymicros_jax.conditioners.slice_targets import SliceTargets
from polymicros_jax.conditioners.two_point import plane_covariances
from polymicros_jax.data import simulated
from polymicros_jax.orientation import quaternion, representation
from polymicros_jax.orientation.grain_averaging import grain_averaged
from polymicros_jax.training.prior import save_prior

sys.path.insert(0, str(Path(__file__).parent))
from generation_worker import random_prior

damask = pytest.importorskip("damask")


def test_draws_stand_beside_both_baselines_and_go_into_files(tmp_path: Path) -> None:
    save_prior(tmp_path / "tiny.safetensors", random_prior(1, 0.5), {})
    config = defaults.default("expand")
    section = config.expand
    section.prior, section.shape, section.steps, section.budget = str(tmp_path / "tiny.safetensors"), (8, 8, 8), 4, 7
    section.volume.stop = (14, 14, 14)
    run = tmp_path / "run"
    run.mkdir()
    results = tasks.run(config, run)
    rows = json.loads((run / "metrics.json").read_text())
    assert list(rows) == ["draw 0", "draw 0, before averaging", "prior, no maps", "statistics, no prior", "reference"]
    # Crystals by construction with the guide, none where only statistics count; those are met instead.
    assert rows["draw 0"]["far_share"] == rows["prior, no maps"]["far_share"] == 0.0
    assert rows["statistics, no prior"]["far_share"] > 0.5
    assert rows["statistics, no prior"]["plane_rms"] < 0.1 * rows["draw 0"]["plane_rms"]
    for row in list(rows.values())[:4]:
        assert 0.0 < row["plane_rms"] < row["largest_plane_error"]
    assert all(path.is_file() for path in results.files)
    # Every grain with its own orientation, as DAMASK reads it.
    material = damask.ConfigMaterial.load(run / "draw_00" / "material.yaml")
    stored = damask.Rotation(np.array([each["constituents"][0]["O"] for each in material["material"]])).as_matrix()
    cells = damask.GeomGrid.load(run / "draw_00" / "geometry.vti").material
    labels = grain_averaged(
        representation.get("gsh4").encode(read(run / "draw_00" / "volume.npz").quaternions),
        representation.get("gsh4"),
        0.0,
        periodic=True,
    )[1]
    assert labels.max() < 8**3 / 4
    assert len(stored) <= labels.max() + 1
    found = quaternion.from_matrix(jnp.asarray(stored[cells], jnp.float32))
    angle = quaternion.disorientation(found, read(run / "draw_00" / "volume.npz").quaternions, "432")
    assert float(jnp.rad2deg(angle).max()) < 0.1
    assert (run / "report.html").read_text().count("data:image/png;base64,") >= 5


def test_unmatched_lags_are_those_that_both_have() -> None:
    """Against the sum over pairs; a thin reference has fewer lags, and none along an axis of two voxels."""
    rng = np.random.default_rng(0)
    volume, reference = rng.normal(size=(8, 8, 8, 2)), rng.normal(size=(9, 8, 5, 2)) + np.arange(9)[:, None, None, None]
    volume, reference = jnp.asarray(volume, jnp.float32), jnp.asarray(reference, jnp.float32)

    def of_pairs(m: jax.Array, lag: tuple[int, ...], periodic: bool) -> np.ndarray:
        m = np.asarray(m) - np.asarray(m).mean((0, 1, 2))
        if periodic:
            one, other = m, np.roll(m, [-r for r in lag], (0, 1, 2))
        else:
            one = m[tuple(slice(max(0, -r), n - max(0, r)) for r, n in zip(lag, m.shape, strict=False))]
            other = m[tuple(slice(max(0, r), n - max(0, -r)) for r, n in zip(lag, m.shape, strict=False))]
        return one.reshape(-1, 2).T @ other.reshape(-1, 2) / one[..., 0].size

    sides = [[r for r in range(-3, 4) if r], [r for r in range(-3, 4) if r], [-2, -1, 1, 2]]
    apart = [of_pairs(volume, lag, True) - of_pairs(reference, lag, False) for lag in itertools.product(*sides)]
    expected = float(np.sqrt(np.mean(np.square(apart))) / np.asarray(reference).var((0, 1, 2)).mean())
    assert expansion.unmatched_error(volume, reference) == pytest.approx(expected, rel=1e-4)
    assert np.isnan(expansion.unmatched_error(volume, reference[:, :, :2]))


def test_baselines_do_not_start_from_the_noise_of_the_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[jax.Array] = []
    objects = dataclasses.replace(_objects(tmp_path, monkeypatch, draws=1), baselines=True)
    monkeypatch.setattr(expansion, "expand", lambda *_, **__: KIND.encode(GROWN.quaternions)[None])
    field = KIND.encode(GROWN.quaternions)
    fit: list[jax.Array] = []
    targets = SliceTargets(plane_covariances(field), jnp.mean(field, (0, 1, 2)), jnp.zeros(()))
    monkeypatch.setattr(expansion, "slice_targets", lambda key, *_, **__: (fit.append(key), targets)[1])
    monkeypatch.setattr(expansion, "draw_free", lambda key, *_, **__: (keys.append(key), field)[1])
    monkeypatch.setattr(expansion, "BASELINE_BUDGET", 7)
    expansion.run(dataclasses.replace(objects, settings={"draws": 1, "steps": 2}), tmp_path)
    root = jax.random.key(objects.seed)
    used = [np.asarray(jax.random.key_data(key)).tolist() for key in (root, *jax.random.split(root), *fit)]
    assert np.asarray(jax.random.key_data(keys[0])).tolist() not in used


def test_files_of_a_draw_number_grains_alike_and_name_their_phase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What DAMASK computes for a material is looked up in the other files by the number of its grain."""
    field = KIND.encode(GROWN.quaternions)
    monkeypatch.setattr(expansion, "expand", lambda *_, **__: field[None])
    expansion.run(_objects(tmp_path, monkeypatch, draws=1), tmp_path)
    folder = tmp_path / "draw_00"
    cells = damask.GeomGrid.load(folder / "geometry.vti").material
    volume = read(folder / "volume.npz")
    assert len(np.unique(cells)) > 8
    np.testing.assert_array_equal(volume.fields["grain"], cells)
    np.testing.assert_array_equal(_cells(folder / "volume.vti", "grain"), cells)
    entries = damask.ConfigMaterial.load(folder / "material.yaml")["material"]
    assert {each["constituents"][0]["phase"] for each in entries} == {"Nickel"}
    assert volume.phase_names == ("Nickel",)
    assert volume.provenance["periodic"]


def test_a_run_that_was_killed_goes_on_with_the_next_draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    field, asked = KIND.encode(GROWN.quaternions), []

    def expand(*_: Any, first: int, draws: int, **__: Any) -> jax.Array:
        asked.append((first, draws))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return jnp.roll(field, first, axis=0)[None]

    monkeypatch.setattr(expansion, "expand", expand)
    objects = _objects(tmp_path, monkeypatch, draws=2)
    with pytest.raises(KeyboardInterrupt):
        expansion.run(objects, tmp_path)
    expansion.run(objects, tmp_path)
    assert asked == [(0, 1), (1, 1), (1, 1)]
    first, second = (read(tmp_path / f"draw_{number:02d}" / "volume.npz").quaternions for number in range(2))
    turned = quaternion.disorientation(second, jnp.roll(first, 1, axis=0), "432")
    assert float(jnp.rad2deg(turned).max()) < 0.1
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(np.load(tmp_path / "fields" / "draw_01.npy"), jnp.roll(field, 1, axis=0))


def test_what_a_report_should_not_hide_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A single grain is no polycrystal, and filled points of the maps have a part in the targets."""
    monkeypatch.setattr(expansion, "expand", lambda *_, **__: KIND.encode(GROWN.quaternions)[None])
    objects = _objects(tmp_path, monkeypatch, draws=1)
    section = objects.maps["z"]
    mask = section.mask.copy()
    mask[0] = False
    objects = dataclasses.replace(
        objects, boundary_cost=1e6, maps={"z": dataclasses.replace(section, mask=mask, phase=mask.astype(np.int32))}
    )
    with pytest.warns(UserWarning, match="draw 0 a single grain; a smaller expand.boundary_cost"):
        expansion.run(objects, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "Points of the maps without an orientation, 12 %, took the nearest one" in page
    assert "It has left draw 0 a single grain: too large a cost" in page


KIND = representation.get("gsh4")
GROWN = simulated.load("simulated/voronoi?side=8&grains=12")


def _objects(folder: Path, monkeypatch: pytest.MonkeyPatch, *, draws: int) -> experiment.Expansion:
    """What the task needs to grow volumes of 8^3 from a map of nickel, without the fit of targets."""
    field = KIND.encode(GROWN.quaternions)
    targets = SliceTargets(plane_covariances(field), jnp.mean(field, (0, 1, 2)), jnp.zeros(()))
    monkeypatch.setattr(expansion, "slice_targets", lambda *_, **__: targets)
    for name in ("config.json", "environment.json"):
        (folder / name).write_text("{}")
    section = dataclasses.replace(GROWN.crop((0, 0, 0), (8, 8, 1)), provenance={"phases": ["Nickel"]})
    return experiment.Expansion(
        seed=0,
        prior=random_prior(1, 0.5),
        kind=KIND,
        maps={"z": section},
        reference=None,
        shape=(8, 8, 8),
        spacing=(0.5, 0.5, 0.5),
        settings={"draws": draws},
        baselines=False,
        boundary_cost=0.1,
    )


def _cells(path: Path, name: str) -> np.ndarray:
    """A cell array of a .vti of 8^3 voxels as VTK reads it, ``(x, y, z)``."""
    reader = pytest.importorskip("vtk").vtkXMLImageDataReader()
    reader.SetFileName(str(path))
    reader.Update()
    return np.array(reader.GetOutput().GetCellData().GetArray(name)).reshape(8, 8, 8).transpose(2, 1, 0)
