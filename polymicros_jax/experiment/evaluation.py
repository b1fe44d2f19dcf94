"""Objects of an evaluation."""

import dataclasses
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from polymicros_jax.config import ConfigError, mask
from polymicros_jax.data.volume import OrientationVolume
from polymicros_jax.experiment.inputs import invertible_prior, representation, require_group, volume
from polymicros_jax.experiment.masking import describe, filling, from_shapes, known_voxels
from polymicros_jax.orientation.representation import Representation
from polymicros_jax.training.calibration import Calibration, load_calibration
from polymicros_jax.training.prior import Prior


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What the evaluate task needs.

    Attributes:
      volumes: reference volumes by name.
      masks: for each volume and mask ``(title, volume name, mask in words, known voxels)``.
      settings: keyword arguments of `filling_methods.fill_with_prior` by the label of the method; the first of them
        feeds the model of the candidate grains.
      reach: of the snapping, see `orientation.snapping`.
      thetas: values of theta, as in ``settings``.
      families: labels by method without its theta, in the order of ``thetas``.
      calibration: kept beside the prior; None where it has none.
      from_shapes: whether warm starts begin at interpolated shapes, and not at linear interpolation.
      sources: what each volume was read from: models for one are fitted on volumes of other sources.
    """

    seed: int
    prior_name: str
    prior: Prior
    kind: Representation
    volumes: dict[str, OrientationVolume]
    masks: list[tuple[str, str, str, np.ndarray]]
    settings: dict[str, dict[str, Any]]
    reach: int
    thetas: tuple[float, ...]
    families: dict[str, list[str]]
    calibration: Calibration | None
    from_shapes: bool
    sources: dict[str, str]


def evaluation(config: ConfigDict) -> Evaluation:
    """Objects of an evaluation.

    Raises:
      ConfigError: no volumes, one of them twice or of another symmetry, or settings that no draw can have.
      DataError: a volume that cannot be read.
    """
    section, kind = config.evaluate, representation(config)
    prior = invertible_prior(config, section.prior)
    if not section.volumes:
        raise ConfigError("evaluate.volumes: found none, accepted is at least one")
    volumes = {_name(each): volume(each, "evaluate.volumes") for each in section.volumes}
    sources = {_name(each): each.source for each in section.volumes}
    if len(volumes) < len(section.volumes):
        found = ", ".join(_name(each) for each in section.volumes)
        raise ConfigError(f"evaluate.volumes: found {found}; accepted is each source once at every resolution")
    sections = {
        f"evaluate.factors[{number}]": mask("slices", axis=section.axis, every=factor)
        for number, factor in enumerate(section.factors)
    } | {f"evaluate.masks[{number}]": each for number, each in enumerate(section.masks)}
    if not sections:
        raise ConfigError("evaluate: found neither factors nor masks, accepted is at least one of them")
    cases: list[tuple[str, str, str, np.ndarray]] = []
    for name, reference in volumes.items():
        require_group(reference, kind, name)
        for key, each in sections.items():
            if each.kind == "insert":
                raise ConfigError(f"{key}.kind: found insert, which leaves nothing to score")
            known = known_voxels(each, reference, config.seed, key)
            if not (~known & reference.mask).any():
                raise ConfigError(f"{key}: keeps all that {name} holds, nothing can be scored")
            title = f"{name}, {describe(each)}"
            if any(title == other for other, *_ in cases):
                raise ConfigError(f"{key}: found a second case of {title}, accepted are masks that differ")
            cases.append((title, name, describe(each), known))
    settings: dict[str, dict[str, Any]] = {}
    families: dict[str, list[str]] = {}
    for method in section.methods:
        for start in section.starts:
            family = f"{method}, start {start:g}" if start else f"{method}, from noise"
            for theta in section.thetas:
                label = f"{family}, theta {theta:g}" if len(section.thetas) > 1 else family
                families.setdefault(family, []).append(label)
                settings[label] = filling(section, "evaluate", prior, method=method, start=start, theta=theta)
    if not settings:
        raise ConfigError("evaluate: methods, starts and thetas: found an empty one, accepted is at least one of each")
    return Evaluation(
        seed=config.seed,
        prior_name=section.prior,
        prior=prior,
        kind=kind,
        volumes=volumes,
        masks=cases,
        settings=settings,
        reach=section.snap,
        thetas=tuple(section.thetas),
        families=families,
        calibration=load_calibration(section.prior),
        from_shapes=from_shapes(section.guess, "evaluate.guess"),
        sources=sources,
    )


def _name(section: ConfigDict) -> str:
    """A volume in words: the same file may be taken at several resolutions."""
    return section.source if section.every == 1 else f"{section.source}, every {section.every} voxels"
