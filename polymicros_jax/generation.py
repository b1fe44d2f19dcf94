"""Generation of a dataset of polycrystals by local-to-global diffusion (PolyMicros Sec. 3, Alg. 3, App. B.2).

The dataset is a design of G covariances x L local models x R repeats. Sample number to ingredients is a pure function
and the PRNG key of a sample is its number folded into the key of the dataset, so any worker can make any sample, and
what it makes depends neither on the number of workers nor on interruptions. Volumes are drawn one a call: 64^3 voxels
fill a device, and no bit can then depend on a batch size.
"""

import dataclasses
import functools
import importlib.metadata
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from polymicros_jax.conditioners.crystals import CrystalGuide
from polymicros_jax.data import store as stores
from polymicros_jax.data.dataset_card import write_card
from polymicros_jax.data.feasibility import Limits, Rejection, check, count_grains, too_few
from polymicros_jax.data.sampling_plan import Plan, ingredients, share
from polymicros_jax.data.throughput import write_timing
from polymicros_jax.diffusion.sampler import EDM_CHURN, Churn
from polymicros_jax.local_global import draw
from polymicros_jax.local_models import LocalModel, local_models, one_representation
from polymicros_jax.orientation import representation
from polymicros_jax.orientation.grain_averaging import grain_averaged
from polymicros_jax.progress import Progress
from polymicros_jax.results import Results
from polymicros_jax.spectral.mosm import PRESETS, Bounds, MosmParams, design
from polymicros_jax.training.prior import Prior
from polymicros_jax.types import SEEDS, ArrayLike, Key

BOUNDS = {"gsh4": "gsh4", "hex27": "hex27", "rogsh3": "paper"}
"""Preset of MOSM bounds by representation: the variance of the field must match that of the channels."""

MOST_REFUSALS_IN_A_ROW = 10
"""A run in which so many samples fail one after the other is not going to make a dataset."""


def sample_key(seed: tuple[int, int], attempt: int = 0) -> Key:
    """PRNG key of an attempt at a sample.

    >>> bool(sample_key((0, 5)) == sample_key((0, 5))), bool(sample_key((0, 5)) == sample_key((0, 5), attempt=1))
    (True, False)
    """
    dataset, index = seed
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(dataset), index), attempt)


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a call of `generate` did.

    Attributes:
      directory: of the dataset.
      samples: in this worker's share.
      made: new samples.
      found: samples that were complete before.
      rejected: attempts at the new samples that failed a check.
      refused: samples of the share of which every attempt failed.
      seconds: wall-clock time of the draws; on a cluster, of the call.
    """

    directory: Path
    samples: int
    made: int
    found: int
    rejected: int
    refused: int
    seconds: float

    def table(self) -> str:
        """A short table for people."""
        rate = 3600 * self.made / self.seconds if self.seconds > 0 else 0.0
        rows = [
            ("made", f"{self.made} of {self.samples} ({self.found} were there)"),
            ("rejected attempts", str(self.rejected)),
            ("refused samples", str(self.refused)),
            ("rate", f"{rate:.3g} samples an hour"),
            ("dataset", str(self.directory)),
        ]
        return "\n".join(f"{name:<18} {value}" for name, value in rows)

    def results(self) -> Results:
        """What the generate task hands back: the table, and the files about the whole dataset."""
        files = ("README.md", "dataset.json", "throughput.json")
        return Results(self.table(), [self.directory / name for name in files])


def generate(
    directory: str | Path,
    *,
    priors: Mapping[str, Prior],
    shape: tuple[int, int, int],
    covariances: int,
    repeats: int,
    seed: int,
    steps: int = 25,
    skip: int = 12,
    churn: Churn | None = EDM_CHURN,
    crystals: bool = False,
    boundary_cost: float = 0.0,
    mixtures: int = 4,
    bounds: str | Bounds | None = None,
    origins: Mapping[str, Float[ArrayLike, " h"]] | None = None,
    means: Mapping[str, Float[ArrayLike, " h"]] | None = None,
    sources: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    attempts: int = 5,
    dtype: str = "float32",
    worker: int = 0,
    workers: int = 1,
    indices: range | None = None,
    card: bool = True,
) -> Summary:
    """Makes this worker's share of a dataset; samples that are complete are skipped, so a second call resumes.

    Args:
      directory: of the dataset, see `data.store`.
      priors: local models by name, all in one representation; their order is part of the design.
      shape: grid of the volumes.
      covariances: G, number of MOSM parameter sets; the design is a function of the seed.
      repeats: R.
      seed: of the dataset.
      steps: N of the noise schedule.
      skip: steps left out at the noisy end.
      churn: fresh noise a step; None takes none.
      crystals: whether draws are guided to orientations, see `conditioners.crystals`.
      boundary_cost: of `orientation.grain_averaging`, which gives every grain of a volume one orientation; 0 leaves
        draws as they are.
      mixtures: Q of the MOSM kernel.
      bounds: of the MOSM parameters; by default the preset of the representation.
      origins: per prior, the channel means that were subtracted from its training data: the prior works about this
        origin, the stored volumes include it. Zero where missing.
      means: per prior, channel means of the stored volumes; the origin where missing.
      sources: per prior, a sentence for the data card on what it was trained on.
      limits: feasibility of a volume.
      attempts: a volume that fails a check is drawn again, at most so many times in all.
      dtype: of the store.
      worker: number of this worker.
      workers: number of workers; each makes a contiguous range of samples, and none needs to know of the others.
      indices: the samples to make, in place of the share of a worker; an empty range only opens the dataset.
      card: whether to write the card from the data at the end; of many short calls the last is enough.

    Returns:
      What was done. The folder's README.md, dataset.json and throughput.json are rewritten from the data.

    Raises:
      ValueError: arguments that do not fit together.
      DataError: the folder holds another dataset; the field that differs is named.
      FloatingPointError: a draw is not finite; names sample, seed and attempt.
      RuntimeError: `MOST_REFUSALS_IN_A_ROW` samples failed one after the other.

    >>> from polymicros_jax.models.unet3d import UNet3DConfig
    >>> priors = {"mine": Prior({}, UNet3DConfig(channels=3), 0.2, "rogsh3")}  # in practice `load_prior`
    >>> plan = {"shape": (32, 32, 32), "covariances": 1, "repeats": 2, "seed": 0}
    >>> summary = generate("dataset", priors=priors, **plan, indices=range(0))
    >>> summary.made, stores.open("dataset").samples  # room for 1 x 1 x 2; without `indices` they are made
    (0, 2)
    """
    limits = Limits() if limits is None else limits
    plan = Plan(seed=seed, covariances=covariances, models=len(priors), repeats=repeats)
    check_plan(plan, shape=shape, steps=steps, skip=skip, mixtures=mixtures, attempts=attempts)
    name, channels = one_representation(priors, shape)
    mine = _mine(plan.samples, worker, workers, indices)
    finish = _finish(name, limits, boundary_cost, dtype)
    box = bounds_of(bounds, name)
    locals_ = local_models(priors, channels, origins or {}, means or {}, sources or {})
    parameters, report = design(seed, covariances, mixtures=mixtures, channels=channels, bounds=box)
    settings = {
        **plan._asdict(),
        "steps": steps,
        "skip": skip,
        "churn": None if churn is None else churn._asdict(),
        "crystals": crystals,
        "boundary_cost": boundary_cost,
        "mixtures": mixtures,
        "bounds": dataclasses.asdict(box),
        "design": dataclasses.asdict(report),
        "representation": name,
        "limits": limits._asdict(),
        "attempts": attempts,
        "local_models": [local.account for local in locals_],
    }
    store = stores.create(
        directory, samples=plan.samples, shape=shape, channels=channels, settings=settings, dtype=dtype
    )
    recipe = _Recipe(
        plan=plan,
        parameters=parameters,
        local_models=locals_,
        draw=functools.partial(draw, shape=shape, steps=steps, skip=skip, churn=churn),
        crystals=crystals,
        finish=finish,
        attempts=attempts,
    )
    done, refused = set(stores.completed(store, mine)), set(stores.refused(store, mine))
    found, made, rejected, in_a_row = len(done), 0, 0, 0
    times: list[float] = []
    began = time.perf_counter()
    with Progress("generate", len(mine), start=len(done | refused)) as progress:
        for index in mine:
            if index in done or index in refused:
                continue
            started = time.perf_counter()
            sample = recipe.make(index)
            failures = sample.record["rejected"]
            rejected += len(failures)
            if sample.field is None:
                stores.write_refusal(store, index, sample.record)
                refused.add(index)
                in_a_row += 1
                if in_a_row == MOST_REFUSALS_IN_A_ROW:
                    raise RuntimeError(
                        f"{in_a_row} samples in a row refused after {attempts} attempts each, the last, {index}, "
                        f"because: {failures[-1]['reason']}; {store.refusal(index)} has the numbers"
                    )
            else:
                stores.write_sample(store, index, sample.field, sample.record)
                made += 1
                in_a_row = 0
            times.append(time.perf_counter() - started)
            progress.update(found + made + len(refused), rejected=str(rejected))
    seconds = time.perf_counter() - began
    write_timing(store, times, jax.devices()[0].device_kind)
    if card:
        write_card(store)
    return Summary(store.directory, len(mine), made, found, rejected, len(refused), seconds)


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuses settings of the generate task before anything is written: what `generate` itself would refuse.

    Raises:
      ValueError: names the argument and what is accepted.
    """
    plan = Plan(settings["seed"], settings["covariances"], len(settings["priors"]), settings["repeats"])
    numbers = ("shape", "steps", "skip", "mixtures", "attempts")
    check_plan(plan, **{name: settings[name] for name in numbers})
    name, _ = one_representation(settings["priors"], settings["shape"])
    share(plan.samples, settings["worker"], settings["workers"])
    bounds_of(settings["bounds"], name)
    if settings["dtype"] not in stores.DTYPES:
        raise ValueError(f"dtype: found {settings['dtype']!r}, accepted are {', '.join(stores.DTYPES)}")


def check_plan(plan: Plan, *, shape: tuple[int, ...], steps: int, skip: int, mixtures: int, attempts: int) -> None:
    """Refuses numbers of which no dataset can be made.

    Raises:
      ValueError: names the number and what is accepted.
    """
    least = {"covariances": plan.covariances, "priors": plan.models, "repeats": plan.repeats}
    for name, found in {**least, "mixtures": mixtures, "attempts": attempts}.items():
        if found < 1:
            raise ValueError(f"{name}: found {found}, accepted is at least 1")
    if not 0 <= plan.seed < SEEDS:
        raise ValueError(f"seed: found {plan.seed}, accepted are 0 to {SEEDS - 1}")
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"shape: found {shape}, accepted are three sides of at least 1 voxel")
    if not 0 < skip < steps:
        raise ValueError(f"skip: found {skip}, accepted is 0 < skip < steps = {steps}; the draw starts from a field")


def bounds_of(bounds: str | Bounds | None, name: str) -> Bounds:
    """The box of MOSM parameters that is meant: given, a preset, or the preset of the representation ``name``.

    Raises:
      ValueError: no such preset.
    """
    if isinstance(bounds, Bounds):
        return bounds
    preset = BOUNDS.get(name) if bounds is None else bounds
    if preset is None or preset not in PRESETS:
        raise ValueError(f"bounds: found {bounds!r} for {name}, accepted are {sorted(PRESETS)} or a Bounds")
    return PRESETS[preset]


def run(settings: Mapping[str, Any]) -> Results:
    """The generate task: makes this worker's share of the dataset."""
    return generate(**settings).results()


Checks = dict[str, float | int]
Finish = Callable[[np.ndarray], tuple[np.ndarray, Checks, Rejection | None]]
"""From a draw to the volume to store, what was found in it, and why it is not kept if it is not."""


def _finish(name: str, limits: Limits, boundary_cost: float, dtype: str) -> Finish:
    if boundary_cost == 0:
        return lambda draw: (draw, *check(draw, name, limits))
    kind = representation.get(name)
    if boundary_cost < 0 or not kind.invertible:
        raise ValueError(
            f"boundary_cost: found {boundary_cost} with {name}, accepted is 0, or with gsh4 and hex27 a number above it"
        )

    def averaged(draw: np.ndarray) -> tuple[np.ndarray, Checks, Rejection | None]:
        # How far from crystals it is, is a matter of the draw; how many grains it has, of the volume.
        measured, rejection = check(draw, name, limits._replace(grains=0))
        if rejection is not None:
            return draw, measured, rejection
        # As the store rounds it: a dataset of draws averaged later is the dataset of averaged draws.
        volume, labels = grain_averaged(draw.astype(dtype), kind, boundary_cost, periodic=True)
        found = count_grains(labels)
        return volume, {**measured, "grains": found}, too_few(found, limits)

    return averaged


class _Sample(NamedTuple):
    """A volume and what is written beside it; no volume where every attempt failed a check."""

    field: np.ndarray | None
    record: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class _Recipe:
    """How the samples of a dataset are made: `draw` lacks the key, the prior, the kernel, the mean and the guides."""

    plan: Plan
    parameters: MosmParams
    local_models: Sequence[LocalModel]
    draw: Callable[..., Array]
    crystals: bool
    finish: Finish
    attempts: int

    def make(self, index: int) -> _Sample:
        """Sample number ``index``: the first of its draws that passes the checks."""
        parts = ingredients(self.plan, index)
        local, seed = self.local_models[parts.model], self.plan.seed
        mosm = jax.tree.map(lambda leaf: leaf[parts.covariance], self.parameters)
        described = f"sample {index} (seed {seed}, covariance {parts.covariance}, local model {local.name!r})"
        field, checks, failures = _first_feasible(self._draws(parts.seed, local, mosm), self.finish, described)
        record = {
            "seed": seed,
            "covariance": parts.covariance,
            "local_model": local.name,
            "repeat": parts.repeat,
            "rejected": failures,
            "mosm": {part.name: _listed(getattr(mosm, part.name)) for part in dataclasses.fields(mosm)},
            "made_with": _versions(),
        }
        if len(failures) == self.attempts:
            return _Sample(None, record)
        statistics = {"mean": _listed(field.mean((0, 1, 2))), "std": _listed(field.std((0, 1, 2)))}
        return _Sample(field, {**record, "attempt": len(failures), "checks": checks, "channels": statistics})

    def _draws(self, seed: tuple[int, int], local: LocalModel, mosm: MosmParams) -> Iterator[np.ndarray]:
        """One for every attempt, made when it is asked for."""
        guides = [CrystalGuide(local.prior.representation, origin=local.origin)] if self.crystals else []
        for attempt in range(self.attempts):
            field = self.draw(sample_key(seed, attempt), local.prior, mosm, mean=local.mean, guides=guides)
            yield np.asarray(field) + local.origin


def _first_feasible(
    draws: Iterable[np.ndarray], finish: Finish, described: str
) -> tuple[np.ndarray, Checks, list[dict[str, Any]]]:
    """The first draw that passes the checks, what they found in it, and what they found in those before.

    Where none passes, all of them are among the latter, and the first two are the last draw and its checks.
    """
    failures: list[dict[str, Any]] = []
    for attempt, field in enumerate(draws):
        if not np.isfinite(field).all():
            raise FloatingPointError(f"{described}: the draw of attempt {attempt} is not finite")
        field, checks, rejection = finish(field)
        if rejection is None:
            break
        failures.append({"attempt": attempt, **rejection._asdict(), "checks": checks})
    return field, checks, failures


def _mine(samples: int, worker: int, workers: int, indices: range | None) -> range:
    if indices is None:
        return share(samples, worker, workers)
    if len(indices) and not 0 <= min(indices) <= max(indices) < samples:
        raise ValueError(f"indices: found {indices}, accepted are samples 0 to {samples - 1}")
    return indices


def _versions() -> dict[str, str]:
    return {
        "polymicros_jax": importlib.metadata.version("polymicros-jax"),
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
    }


def _listed(values: ArrayLike | int) -> Any:
    return np.asarray(values).tolist()
