"""The notebooks: each pair in sync, and each run from top to bottom, with what it claims checked on its own values.

By default a notebook is shrunk. The settings of its cell tagged ``parameters`` are replaced, and the shipped network,
which takes a minute to compile, by the exact denoiser of a Gaussian field. At full size, with the shipped prior, they
run under ``-m slow``. To execute them for keeps after a change::

    jupytext --to ipynb --update notebooks/*.py && jupyter execute --inplace notebooks/*.ipynb
"""

import importlib.metadata
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import jupytext
import nbformat
import numpy as np
import pytest

import polymicros_jax as pm
from polymicros_jax.models.unet3d import UNet3DConfig
from polymicros_jax.orientation import embedding, quaternion
from polymicros_jax.orientation.groups import operators
from polymicros_jax.training.prior import Prior

FOLDER = Path(__file__).parents[1] / "notebooks"
NAMES = ("reconstruct_my_scan", "maps_to_damask", "match_statistics", "own_conditioner", "local_model")
TINY = UNet3DConfig(channels=9, width=8, multipliers=(1,), blocks=1, heads=1, head_width=4)

SHRUNK: dict[str, dict[str, Any]] = {
    "reconstruct_my_scan": {"START": (0, 40, 20), "STOP": (16, 56, 37), "DRAWS": 2, "STEPS": 12},
    "maps_to_damask": {"SHAPE": (12, 12, 12), "STEPS": 6},
    "match_statistics": {"SIDE": 48, "REACH": 3, "STEPS": 80},
    "own_conditioner": {"SHAPE": (12, 12, 12), "STEPS": 12},
    "local_model": {"NETWORK": TINY, "PATCH": 8, "BATCH": 4, "STEPS": 60},
}
SIZES = [pytest.param(True, id="shrunk"), pytest.param(False, id="full", marks=pytest.mark.slow)]


@flax.struct.dataclass
class GaussianPrior(Prior):
    """Exact for periodic Gaussian fields of the variance of GSH-4, correlated over about two voxels: no network."""

    def denoiser(self, padding: str = "replicate") -> Any:
        """The Wiener filter."""

        def denoise(x: jax.Array, sigma: jax.Array) -> jax.Array:
            k = [2 * np.pi * np.fft.fftfreq(n) for n in x.shape[:3]]
            density = np.exp(-2.0 * sum(np.square(each) for each in np.meshgrid(*k, indexing="ij")))
            density = jnp.asarray(self.sigma_data**2 * density / density.mean(), x.dtype)[..., None]
            spectrum = jnp.fft.fftn(x, axes=(0, 1, 2)) * (density / (density + sigma**2))
            return jnp.fft.ifftn(spectrum, axes=(0, 1, 2)).real

        return denoise


GAUSSIAN = GaussianPrior({}, TINY, 0.5, "gsh4")


def cells(name: str) -> list[Any]:
    return jupytext.read(FOLDER / f"{name}.py").cells


def run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shrunk: bool) -> dict[str, Any]:
    """All code of the plain-text notebook in a fresh namespace, in an empty folder; the namespace afterwards."""
    monkeypatch.chdir(tmp_path)
    if shrunk:
        shipped = pm.load_prior
        monkeypatch.setattr(pm, "load_prior", lambda name: GAUSSIAN if name == "compact_gsh4" else shipped(name))
    namespace: dict[str, Any] = {"__name__": "__main__"}
    # The suite forbids what a user's session allows: adding (n, 3) and (3,).
    with jax.numpy_rank_promotion("allow"):
        for number, cell in enumerate(each for each in cells(name) if each.cell_type == "code"):
            exec(compile(cell.source, f"{name}, code cell {number + 1}", "exec"), namespace)
            if "parameters" in cell.metadata.get("tags", ()):
                assert SHRUNK[name].keys() <= namespace.keys()
                namespace |= SHRUNK[name] if shrunk else {}
    return namespace


def test_every_notebook_is_listed() -> None:
    found = {path.name for path in FOLDER.iterdir() if path.suffix in (".py", ".ipynb")}
    assert found == {f"{name}{suffix}" for name in NAMES for suffix in (".py", ".ipynb")}


@pytest.mark.parametrize("name", NAMES)
def test_pairs_are_in_sync_and_executed(name: str) -> None:
    """Cell by cell the same source, kind and tags; outputs from one run in order, with pictures, and small."""
    path = FOLDER / f"{name}.ipynb"
    stored = nbformat.read(path, as_version=4)
    nbformat.validate(stored)

    def content(cell: Any) -> tuple[str, str, list[str]]:
        return cell.cell_type, cell.source, cell.metadata.get("tags", [])

    assert [content(cell) for cell in stored.cells] == [content(cell) for cell in cells(name)]
    code = [cell for cell in stored.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
    assert path.stat().st_size < 1_000_000
    # Nothing of the machine it ran on.
    text = json.dumps([output.get("text", output.get("data", {}).get("text/plain", "")) for output in outputs])
    assert not re.search(r"(?:^|[\s\"'(])/(?!/)\w", text)


def test_the_first_cell_installs_the_clone_it_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in all notebooks; finds the clone from within it and from beside it; does nothing where installed."""
    firsts = {next(cell.source for cell in cells(name) if cell.cell_type == "code") for name in NAMES}
    assert len(firsts) == 1
    calls: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: calls.append(command))
    code = compile(firsts.pop(), "first cell", "exec")
    exec(code, {})
    assert calls == []

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    clone = tmp_path / "clone"
    for folder in (clone / "polymicros_jax", clone / "notebooks"):
        folder.mkdir(parents=True)
    (clone / "polymicros_jax" / "__init__.py").touch()
    for place in (tmp_path, clone, clone / "notebooks"):
        monkeypatch.chdir(place)
        exec(code, {})
        command = calls.pop()
        assert command[1:4] == ["-m", "pip", "install"]
        assert Path(command[-1]) == clone


@pytest.mark.parametrize("shrunk", SIZES)
def test_reconstruction_is_better_than_copying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shrunk: bool) -> None:
    found = run("reconstruct_my_scan", tmp_path, monkeypatch, shrunk)
    truth, known, rows = found["truth"], found["known"], found["rows"]
    # Read back from the file a user takes away; the angle over all 24 equivalents, straight from the definition.
    written = pm.read(tmp_path / found["FOLDER"] / "reconstruction.npz")
    np.testing.assert_array_equal(written.quaternions[known], truth.quaternions[known])
    missing = ~known & truth.mask
    relative = quaternion.multiply(written.quaternions[missing], quaternion.conjugate(truth.quaternions[missing]))
    turned = [quaternion.multiply(each[None], relative) for each in operators("432")]
    angle = np.degrees(2 * np.arccos(np.clip(np.abs(np.stack(turned)[..., 0]).max(axis=0), 0, 1)))
    mean = {name: row["mean_disorientation_deg"] for name, row in rows.items()}
    # arccos near 1 in single precision: up to 0.06 degrees on voxels that are exact.
    assert angle.mean() == pytest.approx(mean["prior and shapes"], abs=0.06)
    assert mean["prior and shapes"] < mean["nearest slice"]
    assert np.all((written.fields["grain_probability"] > 0) & (written.fields["grain_probability"] <= 1.0 + 1e-6))
    assert np.all(written.fields["grain_probability"][known] == 1)
    for name in ("reconstruction.vti", "reconstruction.dream3d"):
        assert (tmp_path / found["FOLDER"] / name).stat().st_size > 0
    if not shrunk:
        assert mean["diffusion prior"] < mean["nearest slice"]
        # The steps of the stated confidence are also steps of what is right.
        right = [each[1] for each in found["reliability"].values()]
        assert right == sorted(right)


@pytest.mark.parametrize("shrunk", SIZES)
def test_maps_become_a_damask_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shrunk: bool) -> None:
    """Crystals, statistics nearer to the maps than without them, and a model that DAMASK reads as it was meant."""
    damask = pytest.importorskip("damask")
    found = run("maps_to_damask", tmp_path, monkeypatch, shrunk)
    # A Gaussian prior on 12^3 leaves little room: there only the order is asked for.
    assert found["errors"]["drawn from the maps"] < (1.0 if shrunk else 0.8) * found["errors"]["the prior alone"]
    assert 0.1 < found["variance"] < 0.26  # 1/4 for uniform texture and grains much smaller than the maps
    assert found["off_surface"] == 0.0
    if not shrunk:
        assert found["largest"]["drawn, grain averaged"] < 0.75 * found["largest"]["drawn"]
    grid = damask.GeomGrid.load(tmp_path / found["FOLDER"] / "geometry.vti")
    material = damask.ConfigMaterial.load(tmp_path / found["FOLDER"] / "material.yaml")
    assert material.is_complete
    assert tuple(grid.cells) == found["SHAPE"]
    np.testing.assert_allclose(grid.size, np.array(found["SHAPE"]) * 0.25e-6, rtol=1e-6)
    assert material["phase"]["Nickel"]["mechanical"]["elastic"]["C_11"] == 246.5e9
    stored = np.array([each["constituents"][0]["O"] for each in material["material"]])
    matrices = damask.Rotation(stored).as_matrix()[grid.material]
    voxels = quaternion.from_matrix(jnp.asarray(matrices, jnp.float32))
    # A material a grain. Every voxel has its grain's orientation: round-off of single precision.
    assert len(material["material"]) <= found["labels"].max() + 1
    angle = quaternion.disorientation(voxels, found["flat"], "432")
    assert float(jnp.rad2deg(angle).max()) < 0.1


@pytest.mark.parametrize("shrunk", SIZES)
def test_statistics_are_matched_by_descent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shrunk: bool) -> None:
    found = run("match_statistics", tmp_path, monkeypatch, shrunk)
    assert bool(jnp.isfinite(found["gradient"]).all())
    assert float(found["slope"]) == pytest.approx(float(found["predicted"]), rel=0.02)
    assert found["final_loss"] < 1e-3 * float(found["losses"][0])
    assert found["error"] < 0.02 * found["variance"]
    # The correlation at one lag by its definition, without any transform.
    field = np.asarray(found["matched"], np.float64)
    by_hand = np.einsum("xyb,xyg->bg", field, np.roll(field, (-1, -2), axis=(0, 1))) / field[..., 0].size
    wanted = found["target"][found["REACH"] + 1, found["REACH"] + 2]
    np.testing.assert_allclose(by_hand, wanted, rtol=0, atol=0.02 * found["variance"])
    assert found["off_manifold"] > 0.3  # statistics alone make no crystals
    assert found["of_the_map"] < 1e-3


@pytest.mark.parametrize("shrunk", SIZES)
def test_the_conditioner_is_met_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shrunk: bool) -> None:
    found = run("own_conditioner", tmp_path, monkeypatch, shrunk)
    fields, profile = found["fields"], np.asarray(found["profile"], np.float64)
    for name in ("projection", "projection and guide"):
        means = np.asarray(fields[name], np.float64).mean(axis=(0, 1))
        # One addition in single precision to values of the order of 1, averaged: a few units of 6e-8.
        np.testing.assert_allclose(means, profile, rtol=0, atol=1e-6)
    assert found["texture_error"]["prior alone"] > 0.1
    blur = {name: float(jnp.mean(pm.representation("gsh4").decode(field)[1])) for name, field in fields.items()}
    assert blur["guide"] < blur["prior alone"]
    assert found["draw"]._cache_size() == 1
    # The profile is a texture: its two ends are shorter than a crystal, and different.
    crystal = float(jnp.linalg.norm(embedding.encode(jnp.array([1.0, 0, 0, 0]))))
    np.testing.assert_allclose(np.linalg.norm(profile[0]), 0.6 * crystal, rtol=1e-5)
    assert np.linalg.norm(profile[0] - profile[len(profile) // 2]) > 0.3


@pytest.mark.parametrize("shrunk", SIZES)
def test_the_local_model_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shrunk: bool) -> None:
    found = run("local_model", tmp_path, monkeypatch, shrunk)
    before, after, local = found["before"], found["after"], found["local"]
    assert all(after[level] < before[level] for level in found["levels"])
    assert after["0.8"] < (0.97 if shrunk else 0.7) * before["0.8"]
    assert after["0.8"] < 1.0  # better than answering zero
    if not shrunk:
        assert all(after[level] < float(level) / found["scale"] for level in found["levels"])
    # Held out means held out: no voxel of a validation patch lies in what was trained on.
    trained, held_out = found["source"].fields[0], found["held_out"].fields[0]
    assert trained.shape[0] + held_out.shape[0] == found["field"].shape[0] - 2
    jax.tree.map(np.testing.assert_array_equal, found["mine"].params, local.params)
    assert found["mine"].network == local.network
