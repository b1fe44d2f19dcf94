"""What can be wrong with a config or its inputs is found, and named, before anything is written."""

import dataclasses
import re
import sys
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from polymicros_jax import config as defaults
from polymicros_jax import experiment, super_resolution, tasks
from polymicros_jax.config import ConfigError
from polymicros_jax.data import samples, store
from polymicros_jax.data.errors import DataError
from polymicros_jax.data.export import write
from polymicros_jax.data.volume import OrientationVolume
from polymicros_jax.dry_run.outline import outline
from polymicros_jax.experiment.chain import stages
from polymicros_jax.filling_methods import Filled
from polymicros_jax.models.unet3d import UNet3DConfig, init
from polymicros_jax.orientation import grain_posterior
from polymicros_jax.orientation.candidates import candidates
from polymicros_jax.orientation.grain_posterior import GrainPosterior
from polymicros_jax.training.prior import Prior, load_prior, save_prior

sys.path.insert(0, str(Path(__file__).parent))
import config_files


def _super_resolve(**volume: object) -> ConfigDict:
    config = defaults.default("super_resolve")
    config.super_resolve.volume = defaults.volume("in100/evaluate")
    config.super_resolve.volume.update(volume)
    return config


def _train(**volume: object) -> ConfigDict:
    config = defaults.default("train")
    section = defaults.volume("in100/train")
    section.update(volume)
    config.train.volumes = (section,)
    return config


def _refused(config: ConfigDict, folder: Path, message: str, error: type[Exception] = ConfigError) -> None:
    with pytest.raises(error, match=message):
        tasks.run(config, folder)
    assert not folder.exists(), "a refused run must not leave anything behind"


def test_a_missing_file(tmp_path: Path) -> None:
    _refused(_super_resolve(source="no/such/scan.ang"), tmp_path / "run", "no such file", FileNotFoundError)


def test_an_unknown_format(tmp_path: Path) -> None:
    scan = tmp_path / "scan.xyz"
    scan.write_text("0 0 0")
    _refused(_super_resolve(source=str(scan)), tmp_path / "run", r"scan\.xyz.*\.ang", DataError)


def test_a_missing_frame(tmp_path: Path) -> None:
    scan = tmp_path / "scan.ang"
    scan.write_text("# GRID: SqrGrid\n# XSTEP: 1.0\n# YSTEP: 1.0\n# NCOLS_ODD: 1\n# NROWS: 1\n0 0 0 0 0 1 1 0 1 1\n")
    _refused(_super_resolve(source=str(scan)), tmp_path / "run", "frame.*edax", DataError)


def test_a_volume_smaller_than_a_patch(tmp_path: Path) -> None:
    _refused(_train(stop=(20, 0, 0)), tmp_path / "run", r"smaller than a patch of 24\^3", DataError)


@pytest.mark.parametrize("key", ["validation_stride", "validate_every", "checkpoint_every"])
def test_intervals_of_no_step(key: str, tmp_path: Path) -> None:
    config = _train()
    config.train[key] = 0
    _refused(config, tmp_path / "run", f"train.{key}: found 0, accepted is at least 1")
    with pytest.raises(ConfigError, match=f"train.{key}"):
        outline(config)


@pytest.mark.parametrize(
    ("key", "found", "kept"),
    [("sigma_skip", 0.2, "0.05"), ("network.width", 48, "32"), ("network.multipliers", (2, 3, 4), r"\(2, 3, 3\)")],
)
def test_another_network_than_that_of_the_weights_to_go_on_from(
    key: str, found: object, kept: str, tmp_path: Path
) -> None:
    config = _train()
    config.train.initial = "compact_gsh4"
    config.update_from_flattened_dict({f"train.{key}": found})
    _refused(config, tmp_path / "run", rf"train\.{key}: found {re.escape(str(found))}, compact_gsh4 keeps its {kept}")


def test_a_mask_that_keeps_nothing_or_everything(tmp_path: Path) -> None:
    config = _super_resolve(stop=(8, 8, 8))
    config.super_resolve.mask.offset = 50
    _refused(config, tmp_path / "run", "super_resolve.mask: offset: found 50")
    whole = _super_resolve(stop=(8, 8, 8))
    whole.super_resolve.mask.kind = "unindexed"
    inside = samples.load("in100", "evaluate").mask
    x, y, z = next((x, y, z) for x, y, z in np.ndindex(28, 92, 60) if inside[x : x + 8, y : y + 8, z : z + 8].all())
    whole.super_resolve.volume.start, whole.super_resolve.volume.stop = (x, y, z), (x + 8, y + 8, z + 8)
    _refused(whole, tmp_path / "run", "nothing is missing")


def test_a_prior_of_another_representation(tmp_path: Path) -> None:
    config = _super_resolve()
    config.representation = "rogsh3"
    _refused(config, tmp_path / "run", "rogsh3 cannot be turned back")


def test_a_workdir_of_another_config(tmp_path: Path) -> None:
    config = defaults.default("convert")
    config.convert.volume.source = "in100/evaluate"
    config.convert.volume.stop = (4, 4, 4)
    config.convert.outputs = ("volume.npz",)
    tasks.run(config, tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    config.convert.outputs = ("volume.vti",)
    with pytest.raises(ConfigError, match=r"config\.convert\.outputs"):
        tasks.run(config, tmp_path / "run")
    assert {path: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
    config.convert.outputs = ("volume.npz",)
    assert tasks.run(config, tmp_path / "run").summary.startswith("(done before)")


def test_a_chain_is_checked_before_its_first_stage(tmp_path: Path) -> None:
    config = config_files.load("bootstrap_cpu")
    config.bootstrap["5_super_resolve"].super_resolve.volume.source = "no/such/scan.npz"
    _refused(config, tmp_path / "run", "no such file", FileNotFoundError)
    config = config_files.load("bootstrap_cpu")
    config.bootstrap["2_generate"].generate.priors = ("stage:9_later/prior.safetensors",)
    _refused(config, tmp_path / "run", "9_later.*accepted are the stages before")
    config = config_files.load("bootstrap_cpu")
    config.bootstrap["4_finetune"].task = "paint"
    _refused(config, tmp_path / "run", "bootstrap.4_finetune.task: found 'paint', accepted are train")
    with pytest.raises(ConfigError, match="found 'paint', accepted are train"):
        outline(config)


def test_a_volume_that_a_stage_will_write_is_not_looked_for(tmp_path: Path) -> None:
    config = defaults.default("bootstrap")
    config.bootstrap["1_fill"] = _super_resolve(stop=(8, 8, 8))
    again = _super_resolve()
    again.super_resolve.volume.source = "stage:1_fill/reconstruction.npz"
    config.bootstrap["2_again"] = again
    resolved = stages(config, tmp_path)
    assert resolved["2_again"].super_resolve.volume.source == str(tmp_path / "1_fill/reconstruction.npz")
    (work,) = outline(config)["2_again (super_resolve)"]
    assert work.network is None
    assert "not there yet" in work.note
    with pytest.raises(ConfigError, match="found no stages"):
        outline(defaults.default("bootstrap"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"every": 0}, "volume.every: found 0, accepted is at least 1"),
        ({"spacing": -1.0}, "volume.spacing: found -1.0"),
        ({"stop": (4, 4)}, r"volume.stop: found \(4, 4\), accepted is three numbers"),
        ({"stop": (400, 4, 4)}, "volume.stop: crop: found start .* 0 is the end of an axis"),
        ({"frame": "edax"}, "volume.frame: found edax, accepted with files and folders alone"),
        ({"source": "simulated/voronoi?start=4"}, "found start"),
    ],
)
def test_keys_of_a_volume_that_mean_nothing(change: dict[str, object], message: str, tmp_path: Path) -> None:
    _refused(_super_resolve(**change), tmp_path / "run", message, ValueError)


def _two_phases(symmetry: tuple[str, str] = ("432", "432")) -> OrientationVolume:
    """Austenite below, ferrite above, in sections that are one phase but for a boundary."""
    whole = samples.load("in100").crop((10, 10, 10), (18, 18, 18))
    phase = np.where(np.arange(8) < 4, 1, 2)[:, None, None] * np.ones(whole.shape, int)
    names = {"phases": ["Austenite", "Ferrite"]}
    return dataclasses.replace(whole, mask=np.ones(whole.shape, bool), phase=phase, symmetry=symmetry, provenance=names)


def test_phases_of_several_symmetries_are_taken_one_by_one(tmp_path: Path) -> None:
    source = str(_two_phases(("432", "622")).save(tmp_path / "two.npz"))
    config = _super_resolve(source=source, stop=(0, 0, 0))
    _refused(config, tmp_path / "run", "super_resolve.volume.phase: found 1 Austenite, 2 Ferrite of several symmetries")
    config.super_resolve.volume.phase = 3
    _refused(config, tmp_path / "run", "super_resolve.volume.phase: found 3, accepted are 1 to 2")
    config.super_resolve.volume.phase = 2
    _refused(config, tmp_path / "run", "found the symmetry 622, gsh4 takes 432; all priors that ship are cubic")
    config.super_resolve.volume.phase = 1
    objects = experiment.reconstruction(config)
    assert objects.reference.mask.sum() == 4 * 8 * 8


def test_a_phase_of_no_voxel(tmp_path: Path) -> None:
    """Phases of one symmetry too: what is left would be a file of nothing."""
    source = str(_two_phases().save(tmp_path / "two.npz"))
    config = defaults.default("convert")
    config.convert.outputs = ("a.vti",)
    config.convert.volume.update({"source": source, "phase": 3})
    message = "convert.volume.phase: found 3, of which no voxel is; the phases are 1 Austenite, 2 Ferrite"
    _refused(config, tmp_path / "run", message)
    config.convert.volume.update({"phase": 1, "start": (4, 0, 0)})
    _refused(config, tmp_path / "run", "convert.volume.phase: found 1, of which no voxel is")


def test_phases_of_one_symmetry_become_one_in_a_grown_volume_and_are_named(tmp_path: Path) -> None:
    config = defaults.default("expand")
    config.expand.volume.update({"source": str(_two_phases().save(tmp_path / "two.npz")), "stop": (0, 0, 0)})
    with pytest.warns(UserWarning, match="expand.volume.phase: 1 Austenite, 2 Ferrite are taken for one phase"):
        experiment.expansion(config)
    config.expand.volume.phase = 2
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        experiment.expansion(config)


@pytest.mark.parametrize("cost", [-1.0, np.inf, np.nan])
@pytest.mark.parametrize("task", ["expand", "generate"])
def test_a_price_of_boundaries_that_no_averaging_takes(task: str, cost: float, tmp_path: Path) -> None:
    """Before the draws, which take minutes."""
    config = config_files.load("generate_smoke") if task == "generate" else defaults.default(task)
    config[task].boundary_cost = cost
    _refused(config, tmp_path / "run", f"{task}.boundary_cost: found {cost}, accepted .* finite number")


def test_filled_voxels_have_the_phase_of_the_grain_put_there(tmp_path: Path) -> None:
    """Not of the nearest voxel: where a grain bulges into a gap, its phase does too."""
    reference = _two_phases()
    # One grain per phase, so that a grain tells its phase.
    q = np.array([[1.0, 0.0, 0.0, 0.0], [np.cos(0.3), 0.0, np.sin(0.3), 0.0]], np.float32)[reference.phase - 1]
    known = np.ones(reference.shape, bool)
    known[:, :, 1::2] = False
    found = candidates(q, known, count=2)
    # A posterior that takes the second best grain throughout: all phases are exchanged.
    chance = np.zeros((int((~known).sum()), 2))
    chance[:, 1] = 1.0
    orientations = grain_posterior.orientations(found, ~known)
    model = GrainPosterior(chance, orientations, found.label[~known])
    result = Filled(q, 0.0, posterior=model)
    phase = super_resolution._phases(dataclasses.replace(reference, quaternions=q), known, found, result)
    np.testing.assert_array_equal(phase[known], reference.phase[known])
    np.testing.assert_array_equal(phase[~known], 3 - reference.phase[~known])


def test_sections_to_fill_between_need_their_distance(tmp_path: Path) -> None:
    write(samples.load("in100").crop((10, 10, 10), (18, 18, 13)), tmp_path / "sections", frame="none")
    config = _super_resolve(source=str(tmp_path / "sections"), stop=(0, 0, 0), frame="none")
    config.super_resolve.mask.kind = "insert"
    with pytest.warns(UserWarning, match="no slice_spacing given"):
        _refused(config, tmp_path / "run", "super_resolve.volume.slice_spacing: found none")
    config.super_resolve.volume.slice_spacing = 1.0
    np.testing.assert_allclose(experiment.reconstruction(config).reference.spacing, 0.25)
    config.super_resolve.mask.every = 2
    with pytest.warns(UserWarning, match=r"voxels of 0\.25 x 0\.25 x 0\.5 micrometres; the prior was trained on cubes"):
        experiment.reconstruction(config)
    config.super_resolve.mask.every = 1
    _refused(config, tmp_path / "run", "super_resolve.mask: every: found 1, accepted is at least 2")


@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        ("super_resolve", {"mask.every": 0}, "super_resolve.mask: every: found 0"),
        ("convert", {"volume.source": "/nope.ang", "outputs": ("x.vti",)}, "/nope.ang: no such file"),
        ("convert", {"outputs": ("x.stl",)}, "accepted endings are"),
        ("expand", {"shape": (30, 30, 30)}, "expand.shape: found"),
        ("train", {"volumes": (defaults.volume("/no_sections"),)}, "/no_sections: no such file or folder"),
    ],
)
def test_a_dry_run_refuses_what_the_run_would(task: str, change: dict[str, object], message: str) -> None:
    config = defaults.default(task)
    config[task].update_from_flattened_dict(change)
    with pytest.raises((ValueError, OSError), match=message):
        outline(config)


def test_measured_and_generated_fields_are_mixed_as_asked(tmp_path: Path) -> None:
    made = store.create(tmp_path, samples=3, shape=(24, 24, 24), channels=9, settings={})
    for index in (0, 2):
        store.write_sample(made, index, np.full((24, 24, 24, 9), 0.5 + index, np.float32), {})
    config = _train(weight=3.0)
    config.train.dataset = str(tmp_path)
    # What a step sees must not depend on how far the dataset has come.
    with pytest.raises(ConfigError, match="holds 2 of 3 samples, and 1 are still to be made"):
        experiment.training(config)
    store.write_refusal(made, 1, {})
    section = defaults.volume("al1050/train")
    config.train.volumes = (*config.train.volumes, section)
    config.train.initial, config.train.dataset, config.train.dataset_share = "compact_gsh4", str(tmp_path), 0.2
    objects = experiment.training(config)
    assert objects.weights == pytest.approx((0.6, 0.2, 0.1, 0.1))
    assert objects.source.read_patch(3, (0, 0, 0), 24).mean() == 2.5
    assert objects.data["trained_on"][2] == f"{tmp_path}, 20 % of all patches"


def test_what_is_to_be_trained_on(tmp_path: Path) -> None:
    changes: tuple[tuple[dict[str, object], str], ...] = (
        ({"volumes": ()}, "found neither volumes nor a dataset"),
        ({"dataset_share": 1.0}, "dataset_share: found 1"),
        (
            {"dataset": "runs/some/dataset", "centre": True},
            "train.centre: found True with a dataset",
        ),
    )
    for change, message in changes:
        config = _train()
        config.train.update(change)
        for check in (outline, experiment.training):
            with pytest.raises(ConfigError, match=message):
                check(config)
    config = _train()
    config.train.devices_per_sample = 0
    for check in (outline, experiment.training):
        with pytest.raises(ConfigError, match="devices_per_sample: found 0"):
            check(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "paint"}, "found the method 'paint', accepted are project"),
        ({"theta": 1.5}, "found theta 1.5"),
        ({"start": -1.0}, "found the start -1.0"),
        ({"draws": 0}, "super_resolve.draws: found 0"),
        ({"steps": 1}, "super_resolve.steps: found 1"),
        ({"tile": 12}, "super_resolve.tile: found 12"),
    ],
)
def test_draws_that_cannot_be_made(change: dict[str, object], message: str, tmp_path: Path) -> None:
    config = _super_resolve(stop=(8, 8, 8))
    config.super_resolve.update(change)
    _refused(config, tmp_path / "run", message)
    with pytest.raises(ConfigError, match=message):
        outline(config)


def test_a_dataset_of_another_representation_than_its_priors(tmp_path: Path) -> None:
    config = config_files.load("generate_smoke")
    config.representation = "hex27"
    _refused(config, tmp_path / "run", "compact_gsh4 is a prior of gsh4, not of hex27")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bounds": "foo"}, "bounds: found 'foo'"),
        ({"shape": (16, 16)}, r"shape: found \(16, 16\)"),
        ({"worker": 3}, "worker 3 of 1"),
        ({"covariances": 0}, "covariances: found 0"),
        ({"mixtures": 0}, "mixtures: found 0"),
        ({"skip": 30}, "skip: found 30"),
        ({"priors": ()}, "priors: found"),
    ],
)
def test_a_dataset_that_cannot_be_made_claims_no_folder(
    change: dict[str, object], message: str, tmp_path: Path
) -> None:
    """A slip that is put right must not find its folder taken; the dry run refuses the same."""
    config = config_files.load("generate_smoke")
    config.generate.update(change)
    _refused(config, tmp_path / "run", message, ValueError)
    with pytest.raises(ValueError, match=message):
        outline(config)


@pytest.mark.parametrize("seed", [-1, 2**32, 2**64])
def test_a_seed_that_is_not_taken_whole_is_refused(seed: int, tmp_path: Path) -> None:
    config = config_files.load("generate_smoke")
    config.seed = seed
    _refused(config, tmp_path / "run", f"seed: found {seed}")


@pytest.mark.parametrize("shape", [(32, 32), (32, 32, 0), (32, 32, 30)])
@pytest.mark.parametrize("task", ["expand", "realism"])
def test_a_grid_must_have_three_sides_the_network_takes(task: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    config = defaults.default(task)
    config[task].shape = shape
    _refused(config, tmp_path / "run", rf"{task}.shape: found .*, accepted are three multiples of 8")


@pytest.mark.parametrize("guided", [True, False])
def test_volumes_of_centred_fields_are_no_orientations(guided: bool, tmp_path: Path) -> None:
    """Neither guidance to crystals nor grain averaging means anything for what is left when the mean is taken out."""
    prior = load_prior("compact_gsh4")
    save_prior(tmp_path / "centred.safetensors", prior, {"centred": True})
    config = config_files.load("generate_smoke")
    section = config.generate
    section.priors, section.crystals, section.boundary_cost = (str(tmp_path / "centred.safetensors"),), guided, 1.0
    _refused(config, tmp_path / "run", "was trained on fields less their mean")


def test_crystals_need_channels_that_can_be_decoded(tmp_path: Path) -> None:
    network = UNet3DConfig(channels=3, width=8, multipliers=(1,), heads=1, head_width=4)
    save_prior(tmp_path / "three.safetensors", Prior(init(jax.random.key(0), network), network, 0.26, "rogsh3"), {})
    config = config_files.load("generate_smoke")
    config.representation = "rogsh3"
    config.generate.priors = (str(tmp_path / "three.safetensors"),)
    _refused(config, tmp_path / "run", "generate.crystals: found True, accepted with rogsh3 is False")


def test_maps_must_lie_in_their_planes_and_share_a_step(tmp_path: Path) -> None:
    whole = samples.load("in100")
    flat = whole.crop((0, 0, 0), (8, 6, 1)).save(tmp_path / "z.npz")
    upright = whole.crop((0, 0, 0), (1, 6, 8))
    coarse = dataclasses.replace(upright, spacing=(0.25, 0.5, 0.25)).save(tmp_path / "coarse.npz")
    # Along its own normal a map has no step.
    fine = dataclasses.replace(upright, spacing=(7.0, 0.25, 0.25)).save(tmp_path / "x.npz")
    config = defaults.default("expand")
    config.expand.volume.source, config.expand.maps.z.source = "", str(flat)
    config.expand.maps.x.source = str(flat)
    _refused(config, tmp_path / "run", "expand.maps.x: found 8 x 6 x 1 voxels, .* normal to x")
    config.expand.maps.x.source = str(coarse)
    _refused(config, tmp_path / "run", "steps along y of 0.5 in the map normal to x, 0.25 in the map normal to z")
    config.expand.maps.x.source = str(fine)
    np.testing.assert_allclose(experiment.expansion(config).spacing, (0.25, 0.25, 0.25))
    config.expand.maps.z.source = ""
    config.expand.maps.x.source = str(
        dataclasses.replace(upright, spacing=(0.5, 0.25, 0.5)).save(tmp_path / "flat.npz")
    )
    with pytest.warns(
        UserWarning, match=r"expand: voxels of 0\.5 x 0\.25 x 0\.5 micrometres; the prior was trained on"
    ):
        experiment.expansion(config)
