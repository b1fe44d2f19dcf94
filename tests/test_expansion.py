"""The expand task: what it measures of draws and baselines, and the files it leaves."""

import dataclasses
import json
import sys
from pathlib import Path

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


def test_files_of_a_draw_number_grains_alike_and_name_their_phase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What DAMASK computes for a material is looked up in the other files by the number of its grain."""
    kind = representation.get("gsh4")
    grown = simulated.load("simulated/voronoi?side=8&grains=12")
    field = kind.encode(grown.quaternions)
    targets = SliceTargets(plane_covariances(field), jnp.mean(field, (0, 1, 2)), jnp.zeros(()))
    monkeypatch.setattr(expansion, "expand", lambda *_, **__: field[None])
    monkeypatch.setattr(expansion, "slice_targets", lambda *_, **__: targets)
    section = dataclasses.replace(grown.crop((0, 0, 0), (8, 8, 1)), provenance={"phases": ["Nickel"]})
    objects = experiment.Expansion(
        seed=0,
        prior=random_prior(1, 0.5),
        kind=kind,
        maps={"z": section},
        reference=None,
        shape=(8, 8, 8),
        spacing=(0.5, 0.5, 0.5),
        settings={"draws": 1},
        baselines=False,
        boundary_cost=0.1,
    )
    for name in ("config.json", "environment.json"):
        (tmp_path / name).write_text("{}")
    expansion.run(objects, tmp_path)
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


def _cells(path: Path, name: str) -> np.ndarray:
    """A cell array of a .vti of 8^3 voxels as VTK reads it, ``(x, y, z)``."""
    reader = pytest.importorskip("vtk").vtkXMLImageDataReader()
    reader.SetFileName(str(path))
    reader.Update()
    return np.array(reader.GetOutput().GetCellData().GetArray(name)).reshape(8, 8, 8).transpose(2, 1, 0)
