"""Objects of the tasks that complete a volume: from some of its voxels, or from maps."""

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from polymicros_jax.conditioners.two_point import LEAST_BUDGET
from polymicros_jax.config import ConfigError
from polymicros_jax.data import masks
from polymicros_jax.data.errors import DataError
from polymicros_jax.data.volume import OrientationVolume
from polymicros_jax.experiment.inputs import check_shape, invertible_prior, representation, require_group, volume
from polymicros_jax.experiment.masking import check_draws, filling, from_shapes, known_voxels
from polymicros_jax.orientation.representation import Representation
from polymicros_jax.orientation.sections import missing_axis
from polymicros_jax.training.calibration import Calibration, load_calibration
from polymicros_jax.training.prior import Prior


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """What the super-resolution task needs.

    Attributes:
      title: what is reconstructed, for the report.
      reference: the volume; it holds the truth that the input lacks, or nothing where it was never measured.
      known: voxels the reconstruction is given.
      stacking: axis along which whole sections are missing, if so.
      calibration: of the prior; None where it has none.
      from_shapes: whether a warm start begins at interpolated shapes, and not at linear interpolation.
      scored: whether the reference knows missing voxels.
      settings: keyword arguments of `filling_methods.fill_with_prior`.
    """

    title: str
    seed: int
    prior: Prior
    kind: Representation
    reference: OrientationVolume
    known: np.ndarray
    stacking: int | None
    scored: bool
    settings: dict[str, Any]
    calibration: Calibration | None
    from_shapes: bool


def reconstruction(config: ConfigDict) -> Reconstruction:
    """Objects of a super-resolution.

    Raises:
      ConfigError: keys that do not fit together, or a mask that keeps nothing or everything.
      DataError: a volume that cannot be read.
    """
    section, kind = config.super_resolve, representation(config)
    prior = invertible_prior(config, section.prior)
    reference, mask = volume(section.volume, "super_resolve.volume"), section.mask
    require_group(reference, kind, "super_resolve.volume")
    drawn = {"method": section.method, "start": section.start, "theta": section.theta}
    settings = filling(section, "super_resolve", prior, **drawn)
    if mask.kind == "insert":
        if Path(section.volume.source).is_dir() and not section.volume.slice_spacing:
            raise ConfigError(
                "super_resolve.volume.slice_spacing: found none, accepted with a folder of sections to put others "
                "between is their distance in micrometres"
            )
        try:
            reference = masks.insert_slices(reference, mask.axis, mask.every)
        except DataError as error:
            raise ConfigError(f"super_resolve.mask: {error}") from error
    hint = (
        "super_resolve.volume.spacing resamples; with mask.kind=insert, mask.every is to be the distance of sections "
        "over the step"
    )
    _mention_flat_voxels(reference.spacing, "super_resolve", hint)
    known = known_voxels(mask, reference, config.seed, "super_resolve.mask")
    missing = ~known & reference.mask
    return Reconstruction(
        title=section.volume.source,
        seed=config.seed,
        prior=prior,
        kind=kind,
        reference=reference,
        known=known,
        stacking=missing_axis(known),
        scored=bool(missing.any()),
        settings=settings,
        calibration=load_calibration(section.prior),
        from_shapes=from_shapes(section.guess, "super_resolve.guess"),
    )


def _mention_flat_voxels(spacing: tuple[float, float, float], name: str, hint: str) -> None:
    """Warns of voxels that are no cubes: to a prior all are, and it takes grains for flattened or stretched."""
    if max(spacing) > 1.05 * min(spacing):
        edges = " x ".join(f"{edge:g}" for edge in spacing)
        warnings.warn(
            f"{name}: voxels of {edges} micrometres; the prior was trained on cubes and takes them for cubes. {hint}",
            stacklevel=3,
        )


@dataclasses.dataclass(frozen=True)
class Expansion:
    """What the 2D-to-3D task needs.

    Attributes:
      maps: single sections by the axis they are normal to.
      reference: the volume the maps were cut from, if any.
      spacing: of the volumes to draw, along each axis that of the maps that run along it.
      settings: keyword arguments of `reconstruct.expand`.
      baselines: whether the prior without maps and the statistics without a prior stand beside the draws.
      boundary_cost: of the grain averaging that ends a draw; 0 leaves draws as they are.
    """

    seed: int
    prior: Prior
    kind: Representation
    maps: dict[str, OrientationVolume]
    reference: OrientationVolume | None
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    settings: dict[str, Any]
    baselines: bool
    boundary_cost: float


def expansion(config: ConfigDict) -> Expansion:
    """Objects of an expansion.

    Raises:
      ConfigError: neither a volume nor maps, maps of different step, or a shape the network cannot take.
      DataError: a volume that cannot be read.
    """
    section, kind = config.expand, representation(config)
    prior = invertible_prior(config, section.prior)
    given = {axis: each for axis, each in section.maps.items() if each.source}
    if bool(given) == bool(section.volume.source):
        raise ConfigError(
            f"expand: found {'both' if given else 'neither'} maps and a volume to cut them from, accepted is one of "
            "them; for maps set expand.volume.source to nothing"
        )
    reference = None
    if given:
        maps = {axis: volume(each, f"expand.maps.{axis}") for axis, each in given.items()}
    else:
        reference = volume(section.volume, "expand.volume")
        maps = {axis: _middle(reference, number) for number, axis in enumerate("xyz")}
    for axis, each in maps.items():
        require_group(each, kind, f"expand, map normal to {axis}")
        if not each.mask.any():
            where = f"expand.maps.{axis}" if reference is None else f"expand.volume: the section normal to {axis}"
            raise ConfigError(f"{where}: found no observed voxel, accepted is at least one")
        _warn_of_phases(each, "expand.volume" if reference is not None else f"expand.maps.{axis}")
        if each.shape["xyz".index(axis)] != 1:
            raise ConfigError(
                f"expand.maps.{axis}: found {' x '.join(map(str, each.shape))} voxels, accepted is a single section "
                f"normal to {axis}; `OrientationVolume.rotate_frame` turns a map, and its orientations, into that plane"
            )
    check_draws(section, "expand", section.start)
    if not section.until >= 0.0:
        raise ConfigError(f"expand.until: found {section.until}, accepted is a noise level, or 0 to match to the end")
    if not 0 <= section.boundary_cost < np.inf:
        raise ConfigError(f"expand.boundary_cost: found {section.boundary_cost}, accepted is a finite number from 0 on")
    if section.budget < LEAST_BUDGET:
        raise ConfigError(f"expand.budget: found {section.budget}, accepted is at least {LEAST_BUDGET}")
    check_shape(section.shape, prior.network.stride, "expand.shape")
    spacing = _common_spacing(maps)
    _mention_flat_voxels(spacing, "expand", "expand.volume.spacing, and expand.maps.x.spacing and so on, resample")
    return Expansion(
        seed=config.seed,
        prior=prior,
        kind=kind,
        maps=maps,
        reference=reference,
        shape=tuple(section.shape),
        spacing=spacing,
        settings={
            "draws": section.draws,
            "steps": section.steps,
            "start": section.start or None,
            "until": section.until or None,
            "budget": section.budget,
        },
        baselines=section.baselines,
        boundary_cost=section.boundary_cost,
    )


def _warn_of_phases(each: OrientationVolume, name: str) -> None:
    """Says that phases of one symmetry become one: a drawn volume knows orientations alone."""
    numbers = np.unique(each.phase[each.mask & (each.phase > 0)]).tolist()
    if len(numbers) > 1:
        found = ", ".join(f"{number} {each.phase_names[number - 1]}" for number in numbers)
        warnings.warn(
            f"{name}.phase: {found} are taken for one phase, as the volumes have; the number of one leaves others out",
            stacklevel=3,
        )


def _common_spacing(maps: dict[str, OrientationVolume]) -> tuple[float, float, float]:
    """Step along each axis in the maps that run along it; along the normal of a single map, what the map says."""
    steps = []
    for number, axis in enumerate("xyz"):
        along = {name: each.spacing[number] for name, each in maps.items() if name != axis} or {
            name: each.spacing[number] for name, each in maps.items()
        }
        if max(along.values()) > (1 + 1e-3) * min(along.values()):
            found = ", ".join(f"{step:g} in the map normal to {name}" for name, step in along.items())
            raise ConfigError(f"expand.maps: found steps along {axis} of {found}; accepted is one step for all")
        steps.append(next(iter(along.values())))
    x, y, z = steps
    return x, y, z


def _middle(whole: OrientationVolume, axis: int) -> OrientationVolume:
    middle = whole.shape[axis] // 2
    start, stop = [0, 0, 0], list(whole.shape)
    start[axis], stop[axis] = middle, middle + 1
    return whole.crop(start, stop)
