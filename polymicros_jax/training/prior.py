"""A trained prior: network parameters with everything needed to use them, and its file format.

A prior is a `.safetensors` file with a JSON card of the same name beside it. The card holds the architecture, the
representation and ``sigma_data`` (they have no other home), and what the training was: data, steps, hardware, cost,
scores.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import flax.struct
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from polymicros_jax.data.atomic import replacing
from polymicros_jax.data.errors import DataError
from polymicros_jax.diffusion.preconditioning import Denoiser, Scale, denoiser, within
from polymicros_jax.models import unet3d
from polymicros_jax.models.layers import Padding
from polymicros_jax.orientation import representation
from polymicros_jax.orientation.representation import Representation
from polymicros_jax.types import Params

WEIGHTS = Path(__file__).parents[1] / "weights"
"""Folder of the priors that travel with the package."""

CARD_FORMAT = "polymicros_jax.Prior/1"


@flax.struct.dataclass
class Prior:
    """An unconditional diffusion model of orientation fields. A pytree whose leaves are the parameters.

    Attributes:
      params: nested dict of arrays.
      network: architecture.
      sigma_data: standard deviation of the training data, the scale of the preconditioning.
      representation: name of the channels the fields have, see `orientation.representation`.
      sigma_skip: see `diffusion.preconditioning.denoiser`; None is EDM's.
      radius: norm that no voxel of the data exceeds, 3/2 for GSH-4, see `diffusion.preconditioning.within`; None does
        not limit the answers.
    """

    params: Params
    network: unet3d.UNet3DConfig = flax.struct.field(pytree_node=False)
    sigma_data: float = flax.struct.field(pytree_node=False)
    representation: str = flax.struct.field(pytree_node=False)
    sigma_skip: float | None = flax.struct.field(pytree_node=False, default=None)
    radius: float | None = flax.struct.field(pytree_node=False, default=None)

    @property
    def kind(self) -> Representation | None:
        """How its channels stand for orientations; None for channels of the user's own."""
        return representation.get(self.representation) if self.representation in representation.names() else None

    def denoiser(self, padding: Padding = "replicate") -> Denoiser:
        """``denoise(x, sigma)`` for fields ``(nx, ny, nz, H)`` or batches of them; see `preconditioning.denoiser`."""

        return build_denoiser(
            self.network, self.params, self.sigma_data, sigma_skip=self.sigma_skip, radius=self.radius, padding=padding
        )


def build_denoiser(
    network: unet3d.UNet3DConfig,
    params: Params,
    sigma_data: Scale,
    *,
    sigma_skip: float | None,
    radius: float | None,
    padding: Padding,
) -> Denoiser:
    """The denoiser of a prior from its parts, for programs that local models of several scales share.

    Every draw must go through here: a denoiser without the prior's ``radius`` can run away.
    """

    def raw(x: jax.Array, c_noise: jax.Array) -> jax.Array:
        return unet3d.apply(network, params, x, c_noise, padding=padding)

    denoise = denoiser(raw, sigma_data, sigma_skip)
    return denoise if radius is None else within(denoise, radius)


STORAGES = ("float32", "float16")
"""What weights may be stored as."""


def save_prior(path: str | Path, prior: Prior, training: dict[str, Any], storage: str = "float32") -> tuple[Path, Path]:
    """Writes ``path`` (.safetensors) and its card (.json) beside it, each complete or not at all.

    Args:
      path: ends in ``.safetensors``.
      prior: what to write.
      training: JSON-compatible account of the training, the card's entry of that name.
      storage: "float32", or "float16" to halve the file (relative rounding of 5e-4 per weight).

    Returns:
      Paths of the weights and of the card.

    Raises:
      ValueError: another storage.

    >>> prior = Prior({"stem": np.ones(3, np.float32)}, unet3d.UNet3DConfig(channels=9), 0.5, "gsh4")
    >>> weights, card = save_prior("mine.safetensors", prior, {"steps": 100}, storage="float16")
    >>> weights.name, card.name, read_card(weights)["training"]
    ('mine.safetensors', 'mine.json', {'steps': 100})
    """
    if storage not in STORAGES:
        raise ValueError(f"storage: found {storage!r}, accepted are {', '.join(STORAGES)}")
    path = Path(path)
    flat = flax.traverse_util.flatten_dict(prior.params, sep="/")
    tensors = {name: np.asarray(leaf).astype(storage) for name, leaf in flat.items()}
    header = {
        "format": CARD_FORMAT,
        "representation": prior.representation,
        "sigma_data": prior.sigma_data,
        "sigma_skip": prior.sigma_skip,
        "radius": prior.radius,
        "network": dataclasses.asdict(prior.network),
        "parameters": unet3d.parameter_count(prior.params),
        "training": training,
    }
    with replacing(path) as temporary:
        safetensors.numpy.save_file(tensors, temporary)
        temporary.chmod(0o644)
        header["sha256"] = _sha256(temporary)
    with replacing(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(header, indent=2) + "\n")
    return path, path.with_suffix(".json")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def shipped() -> tuple[str, ...]:
    """Names of the priors that travel with the package.

    >>> "compact_gsh4" in shipped()
    True
    """
    return tuple(sorted(path.stem for path in WEIGHTS.glob("*.safetensors")))


def _locate(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if path.suffix == ".safetensors":
        return path
    if str(name_or_path) in shipped():
        return WEIGHTS / f"{name_or_path}.safetensors"
    raise DataError(
        f"prior: found {str(name_or_path)!r}, accepted are {', '.join(shipped())} or the path of a .safetensors file"
    )


def read_card(name_or_path: str | Path) -> dict[str, Any]:
    """The card of a shipped prior or of the weights at a path.

    Raises:
      DataError: there is no card, or it is not one.

    >>> card = read_card("compact_gsh4")
    >>> card["representation"], card["network"]["channels"]
    ('gsh4', 9)
    """
    path = _locate(name_or_path).with_suffix(".json")
    if not path.is_file():
        raise DataError(f"{path}: no such file; weights come with a card of the same name")
    try:
        card = json.loads(path.read_text())
    except ValueError as error:  # neither JSON nor text
        raise DataError(f"{path}: {error}; accepted is a card written by save_prior") from error
    if not isinstance(card, dict):
        raise DataError(f"{path}: found {type(card).__name__}, accepted is a card written by save_prior")
    if card.get("format") != CARD_FORMAT:
        raise DataError(f"{path}: format is {card.get('format')!r}, accepted is {CARD_FORMAT!r}")
    return card


def _network(settings: dict[str, Any], path: Path) -> unet3d.UNet3DConfig:
    """Architecture of a card; keys it has not take the defaults they had before there was a key."""
    known = {field.name for field in dataclasses.fields(unet3d.UNet3DConfig)}
    for name in settings:
        if name not in known:
            raise DataError(f"{path}: found network.{name}, accepted are {', '.join(sorted(known))}")
    for name in ("channels", "width", "multipliers"):
        if name not in settings:
            raise DataError(f"{path}: network has no {name!r}; accepted is a card written by save_prior")
    return unet3d.UNet3DConfig(**{**settings, "multipliers": tuple(settings["multipliers"])})


def read_network(name_or_path: str | Path) -> unet3d.UNet3DConfig:
    """Architecture of a shipped prior or of the weights at a path, from the card alone.

    Raises:
      DataError: there is no card, or it is not one.

    >>> read_network("compact_gsh4").channels
    9
    """
    path, card = _locate(name_or_path).with_suffix(".json"), read_card(name_or_path)
    if "network" not in card:
        raise DataError(f"{path}: has no 'network'; accepted is a card written by save_prior")
    return _network(card["network"], path)


def load_prior(name_or_path: str | Path) -> Prior:
    """Reads a shipped prior by its name, or weights and card written by `save_prior`; parameters are float32.

    A card without ``sigma_skip`` is older than that setting, and its weights were trained with EDM's.

    Raises:
      DataError: an unknown name, a missing file, a card that lacks a key, or tensors that are not those of the card's
        architecture or not those it was written with.

    >>> prior = load_prior("compact_gsh4")
    >>> prior.representation, prior.sigma_data, prior.network.channels
    ('gsh4', 0.5, 9)
    >>> load_prior("compact")
    Traceback (most recent call last):
        ...
    polymicros_jax.data.errors.DataError: prior: found 'compact', accepted are compact_gsh4, ...
    """
    path = _locate(name_or_path)
    card = read_card(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    for key in ("network", "sigma_data", "representation"):
        if key not in card:
            raise DataError(f"{path.with_suffix('.json')}: has no {key!r}; accepted is a card written by save_prior")
    network = _network(card["network"], path.with_suffix(".json"))
    try:
        tensors = safetensors.numpy.load_file(path)
    except safetensors.SafetensorError as error:
        raise DataError(f"{path}: {error}; accepted are weights written by save_prior") from error
    wanted = flax.traverse_util.flatten_dict(
        jax.eval_shape(lambda key: unet3d.init(key, network), jax.random.key(0)), sep="/"
    )
    found = {name: leaf.shape for name, leaf in tensors.items()}
    expected = {name: leaf.shape for name, leaf in wanted.items()}
    if found != expected:
        wrong = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        raise DataError(
            f"{path}: tensor {wrong[0]!r} has shape {found.get(wrong[0])}, the card's network has "
            f"{expected.get(wrong[0])} ({len(wrong)} such tensors)"
        )
    if "sha256" in card and _sha256(path) != card["sha256"]:
        raise DataError(f"{path}: is damaged, or not what its card was written for: the sha256 differs")
    params = flax.traverse_util.unflatten_dict(
        {name: jnp.asarray(leaf, jnp.float32) for name, leaf in tensors.items()}, sep="/"
    )
    return Prior(
        params, network, card["sigma_data"], card["representation"], card.get("sigma_skip"), card.get("radius")
    )
