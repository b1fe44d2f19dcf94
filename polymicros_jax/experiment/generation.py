"""Arguments of the dataset engine."""

from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from polymicros_jax.config import ConfigError
from polymicros_jax.data.feasibility import Limits
from polymicros_jax.diffusion.sampler import EDM_CHURN
from polymicros_jax.experiment.inputs import refuse_centred, representation
from polymicros_jax.training.prior import load_prior, read_card


def generation(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """Keyword arguments of `generation.generate`; a dataset that several workers share has a folder of its own.

    Raises:
      ConfigError: no priors, two of one name, one of another representation, or of centred fields where volumes are
        to be orientations.
      DataError: a prior that cannot be read.
    """
    section, kind = config.generate, representation(config)
    if not section.priors:
        raise ConfigError("generate.priors: found none, accepted are names or paths of priors")
    priors = {Path(each).stem: load_prior(each) for each in section.priors}
    if len(priors) != len(section.priors):
        raise ConfigError(f"generate.priors: found {section.priors}, accepted are files of different names")
    for name, prior in priors.items():
        if prior.representation != kind.name:
            raise ConfigError(f"generate.priors: {name} is a prior of {prior.representation}, not of {kind.name}")
    if section.crystals and not kind.invertible:
        raise ConfigError(f"generate.crystals: found True, accepted with {kind.name} is False: it cannot be decoded")
    if not 0 <= section.boundary_cost < np.inf or (section.boundary_cost and not kind.invertible):
        raise ConfigError(
            f"generate.boundary_cost: found {section.boundary_cost}, accepted with {kind.name} is 0"
            + (" or a finite number above it" if kind.invertible else "")
        )
    if section.crystals or section.boundary_cost:
        for each in section.priors:
            refuse_centred(each, "generate.priors with generate.crystals or generate.boundary_cost")
    cards = {Path(each).stem: read_card(each) for each in section.priors}
    return {
        "directory": Path(section.directory).absolute() if section.directory else workdir / "dataset",
        "priors": priors,
        "sources": {name: _trained_on(card) for name, card in cards.items()},
        "shape": tuple(section.shape),
        "covariances": section.covariances,
        "repeats": section.repeats,
        "seed": config.seed,
        "steps": section.steps,
        "skip": section.skip,
        # A guided draw takes no fresh noise: with it draws of an imperfect prior lose their variance.
        "churn": None if section.crystals else EDM_CHURN,
        "crystals": section.crystals,
        "boundary_cost": section.boundary_cost,
        "mixtures": section.mixtures,
        "bounds": section.bounds or None,
        "limits": Limits(distance=section.largest_mean_distance, grains=section.fewest_grains),
        "attempts": section.attempts,
        "dtype": section.dtype,
        "worker": section.worker,
        "workers": section.workers,
    }


def _trained_on(card: dict[str, Any]) -> str:
    """The volumes that a prior was trained on, as its card lists them."""
    found = card.get("training", {}).get("trained_on", "unknown")
    return found if isinstance(found, str) else "; ".join(found)


def cluster(config: ConfigDict) -> dict[str, Any] | None:
    """Where to generate: keyword arguments of `cluster.generate_on_cluster`, or None for this process.

    Raises:
      ConfigError: a cluster and several workers, which both share the samples out.
    """
    section = config.generate.ray
    if not section.address:
        return None
    if config.generate.workers != 1:
        raise ConfigError(f"generate.workers: found {config.generate.workers}, accepted with generate.ray.address is 1")
    return {"address": section.address, "block": section.block, "cpus": section.cpus, "gpus": section.gpus}
