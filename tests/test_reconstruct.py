"""Zero-shot reconstruction with priors small enough to know by heart."""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from polymicros_jax.conditioners.crystals import CrystalGuide
from polymicros_jax.conditioners.slice_targets import SliceTargets, slice_targets
from polymicros_jax.conditioners.two_point import TwoPoint, TwoPointGuide, plane_covariances
from polymicros_jax.diffusion.sampler import EDM_CHURN
from polymicros_jax.diffusion.schedule import karras
from polymicros_jax.diffusion.tiling import tiled
from polymicros_jax.models import unet3d
from polymicros_jax.orientation import quaternion, representation
from polymicros_jax.orientation.interpolation import linear
from polymicros_jax.reconstruct import expand, filling, growing, super_resolve
from polymicros_jax.reconstruct.drawing import check_prior, first_level, tiled_denoiser
from polymicros_jax.reconstruct.growing import growing_budgets
from polymicros_jax.training.prior import Prior

NETWORK = unet3d.UNet3DConfig(channels=2, width=8, multipliers=(1, 2), heads=2, head_width=4)
D = 0.5


@flax.struct.dataclass
class SmoothPrior(Prior):
    """Exactly Gaussian: periodic fields of given spectrum. The only leaf is the spectral density."""

    def denoiser(self, padding="replicate"):
        density = self.params["density"]

        def denoise(x, sigma):
            if x.shape[0] != density.shape[0]:
                raise AssertionError("the density belongs to one grid")
            gain = (density / (density + jnp.asarray(sigma) ** 2))[..., None]
            return jnp.real(jnp.fft.ifftn(gain * jnp.fft.fftn(x, axes=(0, 1, 2)), axes=(0, 1, 2)))

        return denoise


def smooth_prior(n, length=1.5):
    k = np.fft.fftfreq(n) * 2 * np.pi
    squares = sum(np.meshgrid(k**2, k**2, k**2, indexing="ij"))
    density = np.exp(-squares * length**2)
    density *= D**2 / density.mean()
    return SmoothPrior(
        params={"density": jnp.asarray(density, jnp.float32)}, network=NETWORK, sigma_data=D, representation="test"
    )


def draw_from(prior, seed, channels=2):
    density = np.asarray(prior.params["density"])
    noise = np.random.default_rng(seed).normal(size=(*density.shape, channels))
    spectrum = np.fft.fftn(noise, axes=(0, 1, 2)) * np.sqrt(density)[..., None]
    return np.float32(np.fft.ifftn(spectrum, axes=(0, 1, 2)).real)


def tiny_prior():
    params = jax.tree.map(lambda leaf: leaf + 0.05, unet3d.init(jax.random.key(0), NETWORK))
    return Prior(params=params, network=NETWORK, sigma_data=D, representation="test")


PRIOR = smooth_prior(8)
FIELD = draw_from(PRIOR, 0)
KNOWN = np.zeros((8, 8, 8), bool)
KNOWN[::2] = True
KEY = jax.random.key(3)


def missing_error(result):
    return float(np.sqrt(np.mean((np.asarray(result) - FIELD[None])[:, ~KNOWN] ** 2)))


@pytest.mark.parametrize(
    ("method", "known_error"), [("project", 0.2), ("renoise", 0.2), ("replace", 1e-6), ("guide", 0.2)]
)
def test_every_method_honours_known_voxels_and_uses_them(method, known_error):
    field = np.where(KNOWN[..., None], FIELD, np.nan)
    result = super_resolve(KEY, PRIOR, field, KNOWN, method=method, steps=24, repeats=3)
    # Free steps at the end move known voxels by what the smooth prior finds too rough, less than half of D.
    difference = np.asarray(result)[0][KNOWN] - FIELD[KNOWN]
    assert float(np.sqrt(np.mean(difference**2))) <= known_error
    # A draw that ignores the data is off by sqrt(2) D = 0.71.
    assert missing_error(result) < 0.35


def test_draws_differ_and_do_not_depend_on_their_number():
    three = super_resolve(KEY, PRIOR, FIELD, KNOWN, draws=3, steps=8, method="replace", repeats=1)
    one = super_resolve(KEY, PRIOR, FIELD, KNOWN, draws=1, steps=8, method="replace", repeats=1)
    assert three.shape == (3, 8, 8, 8, 2)
    np.testing.assert_allclose(three[0], one[0], atol=1e-5)
    spread = np.asarray(three).std(axis=0)
    assert spread[KNOWN].max() < 1e-6 < 1e-3 < spread[~KNOWN].mean()


def test_warm_start_at_no_noise_is_the_interpolation():
    result = super_resolve(KEY, PRIOR, FIELD, KNOWN, draws=2, steps=8, start=0.0)
    np.testing.assert_array_equal(result[1], linear(FIELD, KNOWN))


def test_warm_start_departs_from_the_interpolation_with_the_noise():
    base, white = linear(FIELD, KNOWN), smooth_prior(8, length=0.0)
    moved = [
        float(np.abs(np.asarray(super_resolve(KEY, white, FIELD, KNOWN, steps=12, start=start))[0] - base).max())
        for start in (0.01, 1.0)
    ]
    assert 0 < moved[0] < 0.1 < moved[1]


def test_a_guess_is_what_a_warm_start_refines():
    guess = np.full_like(FIELD, 0.25)
    # At no noise it comes back with the known voxels in place; values at known voxels are not read.
    result = super_resolve(
        KEY, PRIOR, FIELD, KNOWN, steps=8, start=0.0, guess=np.where(KNOWN[..., None], np.nan, guess)
    )
    np.testing.assert_array_equal(result[0], np.where(KNOWN[..., None], FIELD, guess))
    # At some noise it draws the result towards itself: the truth is a better start than a constant.
    errors = [
        missing_error(super_resolve(KEY, PRIOR, FIELD, KNOWN, steps=8, start=0.2, guess=each))
        for each in (FIELD, guess)
    ]
    assert errors[0] < 0.8 * errors[1]


def test_the_start_level_is_the_first_at_or_below():
    sigmas = np.asarray(karras(20))
    assert first_level(20, None) == 0
    assert first_level(20, 80.0) == 0
    assert first_level(20, float(sigmas[7])) == 7
    assert first_level(20, float(sigmas[7]) * 0.999) == 8
    assert first_level(20, 0.0) == 20


def test_grids_between_strides_and_tiles_with_a_network():
    field = np.float32(np.random.default_rng(0).normal(size=(7, 9, 8, 2)) * D)
    known = np.zeros(field.shape[:3], bool)
    known[:, ::4] = True
    whole = super_resolve(KEY, tiny_prior(), field, known, steps=4, start=0.1)
    tiles = super_resolve(KEY, tiny_prior(), field, known, steps=4, start=0.1, tile=8, overlap=4)
    assert whole.shape == tiles.shape == (1, *field.shape)
    # Tiles see their own norms only; at this noise level the skip connection carries most of the field.
    assert 0 < float(jnp.abs(whole - tiles).max()) < 1.0


@pytest.mark.parametrize("padding", ["replicate", "periodic"])
def test_tiles_are_open_boxes_that_start_at_the_strides_of_the_network(padding):
    """A quarter of a tile is shared unless said; whether the volume wraps is in the voxels of a tile alone."""
    paddings = []

    @flax.struct.dataclass
    class Tiles(Prior):
        def denoiser(self, padding="replicate"):
            paddings.append(padding)
            return own_mean

    def own_mean(x, sigma):
        """Tells tiles of other voxels apart."""
        return x - jnp.mean(x)

    prior = Tiles(params={}, network=NETWORK, sigma_data=D, representation="test")
    assert NETWORK.stride == 2
    x = jax.random.normal(KEY, (40, 20, 20, 2)) + jnp.arange(40.0).reshape(-1, 1, 1, 1)
    found = tiled_denoiser(prior, padding, 20, None)(x, 1.0)
    expected = tiled(own_mean, 20, 5, periodic=padding == "periodic", multiple=2)(x, 1.0)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert paddings == ["replicate"]
    tiled_denoiser(prior, padding, None, None)
    assert paddings == ["replicate", padding]


def drawn(monkeypatch, module):
    """What the draws of a module ask of the sampler, which hands back what it starts from."""
    calls = []

    def sample(key, denoise, init, sigmas, **options):
        calls.append({"init": init, **options})
        return init

    monkeypatch.setattr(module, "sample", sample)
    return calls


@flax.struct.dataclass
class PaddedPrior(SmoothPrior):
    """Answers for one padding alone."""

    padding: str = flax.struct.field(pytree_node=False, default="")

    def denoiser(self, padding="replicate"):
        assert padding == self.padding
        return super().denoiser(padding)


@pytest.mark.parametrize(("start", "skip"), [(None, 0), (0.5, 13)])
def test_three_quarters_of_the_steps_taken_are_conditioned(start, skip, monkeypatch):
    """Of those taken, a warm start or not (Alg. 4); "renoise" holds all, goes back to that level and runs free."""
    calls = drawn(monkeypatch, filling)
    prior = PaddedPrior(**vars(PRIOR), padding="replicate")
    assert first_level(20, start) == skip
    with jax.disable_jit():
        for method in ("project", "renoise"):
            super_resolve(KEY, prior, FIELD, KNOWN, steps=20, method=method, start=start)
    project, renoise, free = calls
    last = skip + 0.75 * (20 - skip)
    assert [call["skip"] for call in calls] == [skip, skip, round(last)]
    assert float(project["condition"].theta) * 20 == pytest.approx(last)
    assert float(renoise["condition"].theta) == 1.0
    assert free.get("condition") is None


def test_margins_up_to_the_stride_repeat_the_faces(monkeypatch):
    calls = drawn(monkeypatch, filling)
    field, known = FIELD[:7, :5], KNOWN[:7, :5]
    with jax.disable_jit():
        super_resolve(KEY, PRIOR, field, known, steps=8, start=0.5, guess=field)
    np.testing.assert_allclose(calls[0]["init"], np.pad(field, ((0, 1), (0, 1), (0, 0), (0, 0)), mode="edge"))
    np.testing.assert_array_equal(calls[0]["condition"].known, np.pad(known, ((0, 1), (0, 1), (0, 0))))


@pytest.mark.parametrize(("until", "churn"), [(None, EDM_CHURN), (1.0, None)])
def test_volumes_grow_on_a_torus_with_fresh_noise_only_where_the_state_is_matched(until, churn, monkeypatch):
    calls = drawn(monkeypatch, growing)
    prior = PaddedPrior(**vars(PRIOR), padding="periodic")
    targets = SliceTargets(plane_covariances(FIELD), jnp.mean(jnp.asarray(FIELD), axis=(0, 1, 2)), jnp.zeros(()))
    with jax.disable_jit():
        expand(KEY, prior, SLICES, (8, 8, 8), steps=8, until=until, budget=1, targets=targets)
    assert calls[0]["churn"] == churn
    assert (calls[0].get("condition") is None) == (until is not None)


def test_crystals_are_made_before_statistics_are_matched(monkeypatch):
    """The outer guide has the last word while the noise is high: the match, which a crystal would undo."""
    found = []
    monkeypatch.setattr(growing, "guided", lambda denoise, guides: found.extend(guides))
    drawn(monkeypatch, growing)
    kind = representation.get("gsh4")
    prior = Prior({}, dataclasses.replace(NETWORK, channels=9), D, "gsh4")
    volume = kind.encode(quaternion.random(KEY, (8, 8, 8)))
    targets = SliceTargets(plane_covariances(volume), jnp.mean(volume, axis=(0, 1, 2)), jnp.zeros(()))
    with jax.disable_jit():
        expand(KEY, prior, {"z": volume[:, :, 0]}, (8, 8, 8), steps=8, targets=targets)
    assert [type(guide) for guide in found] == [CrystalGuide, TwoPointGuide]


def test_five_observations_are_compiled_once():
    super_resolve(KEY, PRIOR, FIELD, KNOWN, steps=8)
    before = filling._fill._cache_size()
    for seed in range(5):
        super_resolve(jax.random.key(seed), PRIOR, draw_from(PRIOR, seed), np.roll(KNOWN, seed, 0), steps=8)
    assert filling._fill._cache_size() == before


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"known": np.zeros((8, 8, 8), bool)}, "no voxel is True"),
        ({"known": np.ones((8, 8, 8), bool)}, "nothing is missing"),
        ({"field": np.full((8, 8, 8, 2), np.nan, np.float32)}, "not finite"),
        ({"field": np.zeros((8, 8, 8, 3), np.float32)}, "3 channels"),
        ({"theta": 1.5}, "theta"),
        ({"start": -1.0}, "start"),
        ({"draws": 0}, "draws"),
        ({"guess": FIELD}, "guess: needs a start"),
        ({"guess": np.full_like(FIELD, np.nan), "start": 0.5}, "guess: holds values that are not finite"),
        ({"steps": 1}, "steps"),
    ],
)
def test_meaningless_tasks_are_refused(change, reason):
    arguments = {"field": FIELD, "known": KNOWN, **change}
    with pytest.raises(ValueError, match=reason):
        super_resolve(KEY, PRIOR, arguments.pop("field"), arguments.pop("known"), **arguments)


@pytest.mark.parametrize("shape", [(2, 8, 8, 8, 2), (1, 8, 8, 2)])
def test_a_guess_of_another_shape_is_not_spread_out(shape, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # a user has no checks of shapes in signatures
    with pytest.raises(ValueError, match=r"guess: found shape .*, accepted is the field's"):
        super_resolve(KEY, PRIOR, FIELD, KNOWN, start=0.0, guess=np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ("field", "known", "reason"),
    [
        (FIELD, KNOWN[:4], r"known: found bool of shape \(4, 8, 8\)"),
        (FIELD, KNOWN.astype(int), "known: found int64"),
        (FIELD[0], KNOWN[0], r"field: found a ndarray of shape \(8, 8, 2\), accepted are channels"),
    ],
)
def test_a_mask_that_is_none_is_refused(field, known, reason):
    # Past the annotations of `super_resolve`, which only the tests check.
    with pytest.raises(ValueError, match=reason):
        filling._checked_field(PRIOR, field, known)


def test_the_name_of_a_prior_is_no_prior():
    check_prior(PRIOR)
    with pytest.raises(TypeError, match=r"prior: found a str, accepted is a Prior: load_prior\('compact_gsh4'\)"):
        check_prior("compact_gsh4")


def test_another_theta_is_compiled_anew_only_where_the_number_of_steps_depends_on_it():
    super_resolve(KEY, PRIOR, FIELD, KNOWN, steps=8, theta=0.5)
    before = filling._fill._cache_size()
    super_resolve(KEY, PRIOR, FIELD, KNOWN, steps=8, theta=0.9)
    assert filling._fill._cache_size() == before


def test_a_start_above_the_schedule_would_forget_the_guess():
    with pytest.raises(ValueError, match=r"start = 80\.0: a noise level from 0 to below 80"):
        super_resolve(KEY, PRIOR, FIELD, KNOWN, start=80.0)


def test_a_prior_that_breaks_names_the_seed():
    broken = PRIOR.replace(params={"density": jnp.full((8, 8, 8), jnp.nan)})
    with pytest.raises(FloatingPointError, match=r"\[0, 3\]"):
        super_resolve(KEY, broken, FIELD, KNOWN, steps=4)


SLICES = {"x": FIELD[0], "y": FIELD[:, 0], "z": FIELD[:, :, 0]}


def plane_errors(volume, targets):
    found = plane_covariances(volume)
    return jnp.stack([jnp.max(jnp.abs(found[name] - targets.planes[name])) for name in "xyz"])


@pytest.mark.parametrize("start", [None, 0.5])
def test_expanded_volumes_have_the_statistics_of_the_slices(start):
    result = expand(KEY, PRIOR, SLICES, (8, 8, 8), draws=2, steps=8, start=start, until=None, budget=50)
    assert result.shape == (2, 8, 8, 8, 2)
    targets = slice_targets(jax.random.split(KEY)[0], SLICES, (8, 8, 8))
    for volume in result:
        np.testing.assert_allclose(jnp.mean(volume, axis=(0, 1, 2)), targets.mean, atol=1e-5)
        # Two channels on 8^3: such small slices leave targets of nearly deficient rank, where L-BFGS is slow. The
        # variance is 0.25, a draw without the condition is off by 0.1.
        assert float(jnp.max(plane_errors(volume, targets))) < 2e-2
    assert float(jnp.std(result[0] - result[1])) > 0.1
    # The second draw alone, with targets that are given.
    settings = {"steps": 8, "start": start, "until": None, "budget": 50, "targets": targets}
    second = expand(KEY, PRIOR, SLICES, (8, 8, 8), first=1, **settings)
    np.testing.assert_allclose(second, result[1:], atol=1e-4)


def test_statistics_matched_down_to_a_level_are_nearly_kept():
    targets = slice_targets(jax.random.split(KEY)[0], SLICES, (8, 8, 8))
    errors = {
        until: float(jnp.mean(plane_errors(expand(KEY, PRIOR, SLICES, (8, 8, 8), steps=12, until=until)[0], targets)))
        for until in (0.1, 1.0, 100.0)
    }
    # Never matched: another volume of the same prior. The lower the level, the less the prior alone can change.
    assert errors[0.1] < errors[1.0] < errors[100.0]
    assert errors[0.1] < 0.5 * errors[100.0]


@pytest.mark.parametrize("start", [None, 5.0])
@pytest.mark.parametrize("until", [None, 1.0])
def test_budgets_are_counted(until, start, monkeypatch):
    calls = []
    inner = TwoPoint.match

    def counted(self, x, threshold):
        jax.debug.callback(lambda: calls.append(self.budget))
        return inner(self, x, threshold)

    monkeypatch.setattr(TwoPoint, "match", counted)
    growing._grow.clear_cache()
    expand(KEY, PRIOR, SLICES, (8, 8, 8), steps=9, start=start, until=until, budget=11)
    jax.effects_barrier()
    growing._grow.clear_cache()
    assert sum(calls) == 11 * growing_budgets(9, start, until) > 0


@pytest.mark.parametrize(
    ("slices", "shape", "reason"),
    [
        ({}, (8, 8, 8), "none given"),
        ({"u": FIELD[0]}, (8, 8, 8), "unknown axis 'u'"),
        ({"x": FIELD[0, ..., :1]}, (8, 8, 8), "channels"),
        ({"x": np.full((8, 8, 2), np.inf, np.float32)}, (8, 8, 8), "not finite"),
        ({"x": FIELD[0]}, (8, 7, 8), "multiples of 2"),
    ],
)
def test_bad_slices_are_refused(slices, shape, reason):
    with pytest.raises(ValueError, match=reason):
        expand(KEY, PRIOR, slices, shape)


def test_a_level_below_zero_is_refused():
    with pytest.raises(ValueError, match=r"until = -1.0: a noise level"):
        expand(KEY, PRIOR, SLICES, (8, 8, 8), until=-1.0)
    with pytest.raises(ValueError, match="first = -1"):
        expand(KEY, PRIOR, SLICES, (8, 8, 8), first=-1)
