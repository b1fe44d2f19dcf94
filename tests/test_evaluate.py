"""The evaluate task from end to end: resumed, calibrated across volumes, reported; what is filled has a confidence."""

import dataclasses
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from polymicros_jax import config as defaults
from polymicros_jax import evaluate, experiment, filling_methods, scoring, super_resolution, tasks, workdir
from polymicros_jax.config import Config, ConfigError
from polymicros_jax.data import masks, samples, volume
from polymicros_jax.filling_methods import FUSED, SHAPES, Filled
from polymicros_jax.models import unet3d
from polymicros_jax.orientation import grain_posterior, uncertainty
from polymicros_jax.orientation.candidates import candidates
from polymicros_jax.orientation.representation import Representation
from polymicros_jax.results import Results
from polymicros_jax.training.calibration import load_calibration, path_for
from polymicros_jax.training.prior import Prior, save_prior
from polymicros_jax.viz import slices

DRAWS = {"project, start 0.3, theta 0.5", "project, start 0.3, theta 1"}
SHAPE = (16, 16, 13)


def _volume(name: str) -> Config:
    section = defaults.volume(name)
    section.stop = SHAPE
    return section


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> str:
    network = unet3d.UNet3DConfig(channels=9, width=8, multipliers=(1, 2), heads=2, head_width=4)
    weights = Prior(unet3d.init(jax.random.key(0), network), network, 0.5, "gsh4", 0.05)
    return str(save_prior(tmp_path_factory.mktemp("prior") / "tiny.safetensors", weights, {})[0])


def _config(prior: str) -> Config:
    config = defaults.default("evaluate")
    section = config.evaluate
    section.prior = prior
    section.volumes = (_volume("in100/evaluate"), _volume("in100/train"))
    section.factors = (4,)
    section.starts, section.steps, section.draws, section.snap = (0.3,), 6, 2, 0
    section.thetas = (0.5, 1.0)
    return config


def _oracle(
    key: jax.Array, prior: Prior, kind: Representation, q: np.ndarray, known: np.ndarray, **settings: Any
) -> Filled:
    """A prior that sees the truth through noise: two grains, 2 apart, are told apart by 2 / 0.7 standard deviations."""
    rng = np.random.default_rng(0)
    field = np.asarray(kind.encode(q)) + 0.7 * rng.normal(size=(*known.shape, 9)).astype(np.float32)
    return Filled(np.where(known[..., None], q, q[:1, :1, :1]), 0.0, fields=field[None])


@pytest.fixture(scope="module")
def done(prior: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Results]:
    folder = tmp_path_factory.mktemp("evaluate") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "fill_with_prior", _oracle)
        return folder, tasks.run(_config(prior), folder)


def _tables(folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    return json.loads((folder / "metrics.json").read_text())


def test_every_case_has_every_method(done: tuple[Path, Results]) -> None:
    methods = {"nearest slice", "linear", "spherical", "shape-based", SHAPES, FUSED, *DRAWS}
    tables = _tables(done[0])
    assert list(tables) == [f"in100/{part}, one section in 4 along z known" for part in ("evaluate", "train")]
    for title, rows in tables.items():
        assert set(rows) == methods
        assert len({row["missing_voxels"] for row in rows.values()}) == 1
        assert title in done[1].summary
        assert f"{rows[FUSED]['mean_disorientation_deg']:8.2f}" in done[1].summary
    figures = {"masks.png", "theta_00.png", "theta_01.png"}
    assert {path.name for path in done[1].files} == {"report.html", "metrics.json", "calibration.json", *figures}
    assert all(path.is_file() for path in done[1].files)
    page = (done[0] / "report.html").read_text()
    assert "Provenance" in page
    assert "Configuration" in page


def test_a_prior_that_knows_something_is_listened_to(done: tuple[Path, Results]) -> None:
    for rows in _tables(done[0]).values():
        alone, fused = (rows[name]["mean_disorientation_deg"] for name in (SHAPES, FUSED))
        assert fused < 0.5 * alone
        # Regularising helps on measured grains (here 4 to 13 %), and never does much harm.
        assert alone < 1.05 * rows["shape-based"]["mean_disorientation_deg"]


def test_what_is_stated_is_near_what_happens(done: tuple[Path, Results]) -> None:
    for rows in _tables(done[0]).values():
        row = rows[SHAPES]
        assert 0 < row["contested_share"] < 1
        assert row["coverage"] > row["coverage_contested"] - 0.05
        # Fitted on another part of the material, both of 16 x 16 x 13 voxels: within a factor of two.
        assert 0.5 < row["expected_error_deg"] / row["mean_disorientation_deg"] < 2
        assert 0.5 < row["boundary_displacement_voxels"] / row["boundary_displacement_true_voxels"] < 2
        # Saying how sure one is beats saying nothing: a lone estimate scores its error.
        assert row["energy_score_deg"] < row["mean_disorientation_deg"]
        # The better informed distribution is narrower and scores better.
        assert rows[FUSED]["spread_deg"] < row["spread_deg"]
        assert rows[FUSED]["energy_score_deg"] < row["energy_score_deg"]


def test_models_come_from_the_other_volume(done: tuple[Path, Results], prior: str) -> None:
    """Fitted again by hand on the other volume, the model gives the row of this one."""
    objects = experiment.evaluation(_config(prior))
    cases = []
    for number, (title, name, mask, known) in enumerate(objects.masks):
        cases.append(evaluate._case(objects, done[0] / "cases" / f"{number:02d}", title, name, mask, known)[0])
    own, other = (next(case for case in cases if case.source == f"in100/{part}") for part in ("evaluate", "train"))
    model = scoring.calibrate([other], with_prior=True)
    filled = filling_methods.fuse(own.found, own.terms, own.known, model)
    expected = _tables(done[0])[own.title][FUSED]["mean_disorientation_deg"]
    found = scoring.score(own.reference, own.known, {FUSED: filled})[FUSED]["mean_disorientation_deg"]
    assert found == pytest.approx(expected, abs=1e-6)
    # Negative control: fitted on itself it is another model.
    assert scoring.calibrate([own], with_prior=True).weights != model.weights


def test_a_killed_run_goes_on_with_the_next_case(
    done: tuple[Path, Results], prior: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def counting(*arguments: Any, **settings: Any) -> Filled:
        if len(made) == len(DRAWS):
            raise KeyboardInterrupt
        made.append(arguments[4].shape)
        return _oracle(*arguments, **settings)

    monkeypatch.setattr(evaluate, "fill_with_prior", counting)
    with pytest.raises(KeyboardInterrupt):
        tasks.run(_config(prior), tmp_path / "run")
    assert [path.name for path in (tmp_path / "run" / "cases").glob("*.json")] == ["00.json"]
    made.clear()
    tasks.run(_config(prior), tmp_path / "run")
    assert len(made) == len(DRAWS)  # one case of two

    def without_times(folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
        return {
            title: {name: {k: v for k, v in row.items() if k != "seconds"} for name, row in rows.items()}
            for title, rows in _tables(folder).items()
        }

    assert without_times(tmp_path / "run") == without_times(done[0])


@pytest.mark.slow
def test_a_calibration_kept_beside_the_prior_is_used(done: tuple[Path, Results], prior: str, tmp_path: Path) -> None:
    """Beside the prior it serves a scan of its own: what is written then has a confidence."""
    path_for(prior).write_bytes((done[0] / "calibration.json").read_bytes())
    calibration = load_calibration(prior)
    assert calibration is not None
    assert len(calibration.entries) == 1
    assert calibration.settings["start"] == 0.3
    config = defaults.default("super_resolve")
    section = config.super_resolve
    section.prior, section.volume = prior, _volume("in100/evaluate")
    section.start, section.steps, section.draws = 0.3, 6, 2
    objects = experiment.reconstruction(config)
    results = tasks.run(config, tmp_path / "run")
    assert FUSED in results.summary
    page = (tmp_path / "run" / "report.html").read_text()
    # Fitted on this very volume, and to draws of other values of theta.
    assert "were fitted on this material" in page
    assert "was fitted to draws of theta 0.5" in page
    written = volume.load(tmp_path / "run" / "reconstruction.npz")
    confidence, interval = written.fields["grain_probability"], written.fields["interval_deg"]
    assert (confidence[objects.known] == 1).all()
    assert (interval[objects.known] == 0).all()
    missing = ~objects.known
    assert ((confidence[missing] > 0) & (confidence[missing] <= 1)).all()
    # The surer, the narrower.
    sure = confidence[missing] > 0.99
    assert interval[missing][sure].mean() < interval[missing][~sure].mean()


def test_what_is_written_and_shown_of_a_filled_map(prior: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The map itself is in the pictures, and filled points take the phase of measured ones, not that of the truth."""
    shown: list[int] = []

    def drawn(key: jax.Array, prior: Prior, kind: Representation, q: np.ndarray, known: np.ndarray, **_: Any) -> Filled:
        return Filled(q, 0.0, draws=np.stack([q, q]), distance=np.zeros(known.shape), fields=None)

    def comparison(*args: Any, axis: int, **settings: Any) -> Any:
        shown.append(axis)
        return slices.comparison(*args, axis=axis, **settings)

    monkeypatch.setattr(super_resolution, "fill_with_prior", drawn)
    monkeypatch.setattr(
        super_resolution, "slices", SimpleNamespace(comparison=comparison, degree_maps=slices.degree_maps)
    )
    whole = samples.load("in100", "evaluate").crop((0, 0, 4), (24, 24, 5))
    known = masks.random_voxels(whole.shape, 0.6, 0)
    phase = np.where(known, 2, 1)  # the truth of what is hidden is of another phase
    quality = {"confidence": np.full(known.shape, 0.7, np.float32), "grain": np.ones(known.shape, np.int32)}
    source = dataclasses.replace(whole, phase=phase, mask=np.ones_like(known), symmetry=("432", "432"), fields=quality)
    config = defaults.default("super_resolve")
    section = config.super_resolve
    section.prior, section.volume.source = prior, str(source.save(tmp_path / "map.npz"))
    section.mask = defaults.mask("random", share=0.6)
    section.start, section.steps, section.draws = 0.3, 4, 2
    objects = dataclasses.replace(experiment.reconstruction(config), known=known, calibration=None)
    workdir.start(tmp_path / "run", config)
    super_resolution.run(objects, tmp_path / "run")
    assert set(shown) == {2}
    written = volume.load(tmp_path / "run" / "reconstruction.npz")
    assert (written.phase == 2).all()
    # What the scan says of its points stays with those that were measured.
    np.testing.assert_array_equal(written.fields["confidence"], np.where(known, np.float32(0.7), 0))
    np.testing.assert_array_equal(written.fields["grain"], np.where(known, 1, -1))


@pytest.mark.slow
def test_where_nothing_can_be_scored_the_table_says_what_was_filled(prior: str, tmp_path: Path) -> None:
    config = defaults.default("super_resolve")
    section = config.super_resolve
    section.prior, section.volume = prior, _volume("in100/evaluate")
    section.volume.stop = (16, 16, 4)
    section.mask = defaults.mask("insert", every=4)
    section.start, section.steps, section.draws = 0.3, 4, 2
    results = tasks.run(config, tmp_path / "run")
    written = volume.load(tmp_path / "run" / "reconstruction.npz")
    missing = ~written.fields["known"].astype(bool)
    assert missing.shape == (16, 16, 13)
    head, row = (re.split("  +", line) for line in results.summary.splitlines())
    assert head == ["volume", "voxels", "filled", "mean spread °"]
    assert row == [
        "in100/evaluate",
        f"{missing.size:,}",
        f"{missing.sum():,}",
        f"{written.fields['spread_deg'][missing].mean():.4g}",
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"factors": (), "masks": ()}, "neither factors nor masks"),
        ({"masks": (defaults.mask("unindexed"),)}, "nothing can be scored|nothing is missing"),
        ({"masks": (defaults.mask("insert"),)}, "insert"),
        ({"masks": (defaults.mask("slabs"),)}, "found 'slabs', accepted are slices"),
        ({"masks": (defaults.mask("insert & random"),)}, "masks.0..kind: found 'insert & random', accepted is insert"),
        ({"masks": (defaults.mask("slices"),) * 2}, "masks.0.: found a second case of in100/evaluate"),
        ({"masks": (defaults.mask("slices & "),)}, "found ''"),
        ({"thetas": ()}, "at least one of each"),
        ({"methods": ("paint",)}, "found the method 'paint'"),
        ({"volumes": (_volume("in100/evaluate"),) * 2}, "each source once at every resolution"),
        ({"guess": "cubes"}, "found 'cubes', accepted are shapes, linear"),
        ({"volumes": ()}, "found none"),
        ({"representation": "hex27"}, "is a prior of gsh4, not of hex27"),
    ],
)
def test_evaluations_that_are_refused(change: dict[str, Any], reason: str, prior: str, tmp_path: Path) -> None:
    config = _config(prior)
    for key, value in change.items():
        setattr(config if key == "representation" else config.evaluate, key, value)
    with pytest.raises(ConfigError, match=reason):
        tasks.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_masks_combine(prior: str) -> None:
    config = _config(prior)
    box = {"start": (4, 4, 4), "stop": (9, 9, 9)}
    config.evaluate.factors = ()
    config.evaluate.masks = (
        defaults.mask("slices & box", **box),
        defaults.mask("orthogonal | random", share=0.1),
        defaults.mask("sections", positions=(0, 5, 12)),
    )
    both, either, uneven = (known for _, name, _, known in experiment.evaluation(config).masks if "evaluate" in name)
    observed = experiment.evaluation(config).volumes["in100/evaluate"].mask
    z = np.indices(SHAPE)[2]
    inside = (np.indices(SHAPE) >= 4).all(0) & (np.indices(SHAPE) < 9).all(0)
    np.testing.assert_array_equal(both, (z % 4 == 0) & ~inside & observed)
    assert (either[8] == observed[8]).all()
    assert 0.05 < either[:8, :8, :6].mean() < 0.15
    np.testing.assert_array_equal(uneven, np.isin(z, (0, 5, 12)) & observed)


@pytest.mark.slow
def test_regularised_shapes_are_the_start(prior: str) -> None:
    """At a start of no noise the draw is the guess itself."""
    objects = experiment.evaluation(_config(prior))
    title, name, _, known = objects.masks[0]
    reference = objects.volumes[name]
    found = candidates(reference.quaternions, known)
    settings = {**next(iter(objects.settings.values())), "start": 0.0, "reach": 0}
    key = jax.random.key(0)
    filled = filling_methods.fill_with_prior(
        key, objects.prior, objects.kind, reference.quaternions, known, found=found, **settings
    )
    apart = uncertainty.disorientation_map(filled.quaternions, grain_posterior.regularised(found))
    assert float(np.asarray(apart)[~known].max()) < 0.1, title
