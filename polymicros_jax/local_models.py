"""The local models of a dataset: their common representation, their place in the design, their entry in its card."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from polymicros_jax.models import unet3d
from polymicros_jax.orientation import representation
from polymicros_jax.training.prior import Prior
from polymicros_jax.types import ArrayLike, Params


@dataclasses.dataclass(frozen=True)
class LocalModel:
    """A prior with its place in the dataset: origin, target mean about that origin, and its entry in the settings."""

    name: str
    prior: Prior
    origin: np.ndarray
    mean: np.ndarray
    account: dict[str, Any]


def local_models(
    priors: Mapping[str, Prior],
    channels: int,
    origins: Mapping[str, Float[ArrayLike, " h"]],
    means: Mapping[str, Float[ArrayLike, " h"]],
    sources: Mapping[str, str],
) -> list[LocalModel]:
    """The priors in their order, with the origins, means and sources that `generation.generate` was given for them.

    Raises:
      ValueError: something for a prior that there is not, or of another number of channels.
    """
    for argument, given in (("origins", origins), ("means", means), ("sources", sources)):
        if given.keys() - priors.keys():
            raise ValueError(f"{argument}: found {sorted(given)}, accepted are names of priors: {list(priors)}")
    models = []
    for name, prior in priors.items():
        origin = np.asarray(origins.get(name, np.zeros(channels)), np.float32)
        mean = np.asarray(means.get(name, origin), np.float32)
        if origin.shape != (channels,) or mean.shape != (channels,):
            raise ValueError(
                f"origin and mean of {name!r}: shapes {origin.shape}, {mean.shape}, accepted ({channels},)"
            )
        account = {
            "name": name,
            "source": sources.get(name, "not stated"),
            "sha256": _fingerprint(prior.params),
            "parameters": unet3d.parameter_count(prior.params),
            "sigma_data": float(prior.sigma_data),
            "network": dataclasses.asdict(prior.network),
            "origin": origin.tolist(),
            "mean": mean.tolist(),
        }
        models.append(LocalModel(name, prior, origin, mean - origin, account))
    return models


def one_representation(priors: Mapping[str, Prior], shape: tuple[int, int, int]) -> tuple[str, int]:
    """Name and channels of the representation that all priors share, once they and the shape are found to fit.

    Raises:
      ValueError: no prior, several representations, or a shape that one of them cannot take.
    """
    names = sorted({prior.representation for prior in priors.values()})
    if len(names) != 1:
        raise ValueError(f"priors: found the representations {names}, accepted is at least one prior, all of one")
    channels = representation.get(names[0]).channels
    for name, prior in priors.items():
        if prior.network.channels != channels:
            raise ValueError(f"prior {name!r}: {prior.network.channels} channels, {names[0]} has {channels}")
        if any(side % prior.network.stride for side in shape):
            raise ValueError(f"shape {shape}: each side must be a multiple of {prior.network.stride} for {name!r}")
    return names[0], channels


def _fingerprint(params: Params) -> str:
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()
