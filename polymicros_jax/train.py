"""Training of a prior: the loop, readable from top to bottom."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from polymicros_jax import experiment
from polymicros_jax.data.patches import CubeSymmetries, FieldSource, batch, check_sizes
from polymicros_jax.progress import Progress
from polymicros_jax.results import Results, table
from polymicros_jax.training import distributed
from polymicros_jax.training.checkpoint import Checkpoints
from polymicros_jax.training.mesh import on_this_process, place_patches, place_whole, rows_of_process
from polymicros_jax.training.metrics import relative_errors, root_mean_square, share_removed, validations
from polymicros_jax.training.prefetch import prefetched
from polymicros_jax.training.prior import Prior, save_prior
from polymicros_jax.training.record import TrainingRecord
from polymicros_jax.training.step import Optimisation, build_step, create_state
from polymicros_jax.types import Key


def train(
    workdir: Path,
    initial: Prior,
    source: FieldSource,
    optimisation: Optimisation,
    *,
    seed: int,
    patch: int,
    symmetries: CubeSymmetries | None = None,
    weights: Sequence[float] | None = None,
    rotate: Callable[[Key, Array], Array] | None = None,
    validation: Float[np.ndarray, "n nx ny nz h"] | None = None,
    validate_every: int = 500,
    checkpoint_every: int = 200,
    log_every: int = 20,
    sheet_every: int = 0,
    mesh: Mesh | None = None,
    about: Mapping[str, Any] | None = None,
) -> tuple[Prior, dict[str, Any]]:
    """Trains a prior on random patches; a second call with the same ``workdir`` resumes at the last checkpoint.

    Args:
      workdir: folder of the checkpoints, of ``metrics.jsonl``, ``tensorboard/`` and ``sheets/``, and of
        ``latest.safetensors``, the averaged weights at the newest validation.
      initial: prior to start from.
      source: fields the patches are cut from.
      optimisation: hyper-parameters.
      seed: of the patches and of the noise.
      patch: side of the patches in voxels.
      symmetries: turns each patch by a random symmetry of the grid.
      weights: share of the patches cut from each field; by default uniform over all positions.
      rotate: further augmentation on the device.
      validation: held-out patches; their error per noise level is logged.
      validate_every: steps between validations.
      checkpoint_every: steps between checkpoints: at most so many are lost to a kill.
      log_every: steps between lines of the log.
      sheet_every: steps between sample sheets; 0 draws none.
      mesh: devices to train on, from `training.mesh.build_mesh`. With several processes all of them call this function
        alike, on one shared folder; each makes its own rows, one writes the log.
      about: what the card of ``latest.safetensors`` says of the data.

    Returns:
      The prior with averaged parameters, and an account of the training for its card.

    Raises:
      DataError: a field is smaller than a patch.
      FloatingPointError: the loss or its gradient is not finite; names step and seed.
    """
    check_sizes(source, patch)
    workdir.mkdir(parents=True, exist_ok=True)
    run_key = jax.random.key(seed)
    step_function = build_step(
        initial.network,
        initial.sigma_data,
        initial.representation,
        optimisation,
        run_key,
        sigma_skip=initial.sigma_skip,
        rotate=rotate,
        mesh=mesh,
    )
    checkpoints = Checkpoints(workdir / "checkpoints")
    state = place_whole(mesh, create_state(initial.params, optimisation))
    if checkpoints.latest is not None:
        state = checkpoints.restore(state)
    start = int(state.step)
    writer = distributed.is_writer()
    log = TrainingRecord(workdir, resume_step=start, about=about) if writer else None
    progress = Progress("training", optimisation.steps, start)
    first, rows = rows_of_process(mesh, optimisation.batch)

    def averaged() -> Prior:
        return dataclasses.replace(initial, params=on_this_process(state.ema))

    def patches_of(step: int) -> np.ndarray:
        where = {"seed": seed, "step": step, "first": first, "count": rows}
        return batch(source, **where, size=patch, symmetries=symmetries, weights=weights)

    began = time.perf_counter() - checkpoints.seconds
    recent: list[dict[str, jax.Array]] = []
    with closing(progress), closing(checkpoints), closing(log) if log is not None else nullcontext():
        for step, patches in prefetched(patches_of, range(start, optimisation.steps)):
            state, metrics = step_function(state, place_patches(mesh, patches, optimisation.batch))
            recent.append(metrics)
            done = step + 1
            last = done == optimisation.steps
            log_now, save_now = done % log_every == 0 or last, done % checkpoint_every == 0 or last
            validate_now = validation is not None and (done % validate_every == 0 or last)
            sheet_now = bool(sheet_every) and done % sheet_every == 0
            if log_now or save_now or validate_now or sheet_now:
                # Before saving: a checkpoint that is not finite could never be resumed, nor weights be used.
                _require_finite(jax.device_get(recent), done, seed)
            if log_now and log is not None:
                loss = float(np.mean([each["loss"] for each in jax.device_get(recent)]))
                log.write(done, {"loss": loss, "gradient_norm": float(metrics["gradient_norm"])})
                progress.update(done, loss=f"{loss:.4f}")
            if log_now:
                recent.clear()
            if log is not None and validation is not None and validate_now:
                log.validated(done, averaged(), _scores(averaged(), validation))
            if log is not None and sheet_now:
                log.sheet(done, averaged(), patches_of(0) if validation is None else validation)
            if save_now:
                checkpoints.save(state, seconds=time.perf_counter() - began)
    account: dict[str, Any] = {
        "steps": optimisation.steps,
        "patches_per_step": optimisation.batch,
        "patch": patch,
        "seed": seed,
        "noise_law": {"mean": optimisation.noise.mean, "std": optimisation.noise.std},
        "learning_rate": optimisation.learning_rate,
        "device": f"{1 if mesh is None else mesh.size} x {jax.devices()[0].device_kind}",
        "seconds": round(time.perf_counter() - began, 1),
    }
    prior = averaged()
    if validation is not None:
        account |= {**_scores(prior, validation), "data_rms": root_mean_square(validation)}
    return prior, account


def _scores(prior: Prior, validation: Float[np.ndarray, "n nx ny nz h"]) -> dict[str, dict[str, float]]:
    errors = relative_errors(prior, validation)
    return {"relative_error": errors, "share_removed": share_removed(errors, root_mean_square(validation))}


def _require_finite(recent: Sequence[Mapping[str, Any]], done: int, seed: int) -> None:
    """Refuses metrics of the last steps up to the ``done``-th that are not numbers."""
    for step, metrics in enumerate(recent, start=done - len(recent)):
        if not all(np.isfinite(value) for value in metrics.values()):
            found = ", ".join(f"{name} is {float(value)}" for name, value in metrics.items())
            raise FloatingPointError(f"step {step}, counted from 0, of seed {seed}: {found}")


def run(objects: experiment.Training, workdir: Path) -> Results:
    """The train task: trains, writes the prior with its card; the table repeats the card's scores."""
    prior, account = train(
        workdir,
        objects.initial,
        objects.source,
        objects.optimisation,
        seed=objects.seed,
        patch=objects.patch,
        symmetries=objects.symmetries,
        weights=objects.weights,
        rotate=objects.rotate,
        validation=objects.validation,
        validate_every=objects.validate_every,
        checkpoint_every=objects.checkpoint_every,
        sheet_every=objects.sheet_every,
        mesh=objects.mesh,
        about=objects.data,
    )
    weights = workdir / f"{objects.name}.safetensors"
    files = (weights, weights.with_suffix(".json"))
    if distributed.is_writer():
        if objects.validation is not None:
            account["validation_curve"] = validations(workdir / "metrics.jsonl")
            if objects.previous is not None:
                # On the same patches and the same noise: the table of the card sets both side by side.
                account["previous_relative_error"] = relative_errors(objects.previous, objects.validation)
        files = save_prior(weights, prior, {**objects.data, **account}, objects.storage)
    return Results(_summary(objects, account), files)


def _summary(objects: experiment.Training, account: Mapping[str, Any]) -> str:
    """The account of a training as a short table, beside the scores of the weights it is compared with."""
    before = account.get("previous_relative_error")
    rows = {
        "steps": [account["steps"], None],
        "patches per step": [account["patches_per_step"], None],
        "time (s)": [account["seconds"], None],
    }
    for sigma, error in account.get("relative_error", {}).items():
        rows[f"relative error at noise {sigma}"] = [error, None if before is None else before[sigma]]
    if before is None:
        return table(("training", objects.name), {name: values[:1] for name, values in rows.items()})
    return table(("training", objects.name, f"{objects.data['previous']} before"), rows)
