"""Simulated polycrystals as volumes, made from a line of text that is their source wherever they go.

``simulated/grain_growth?side=64&grains=200&aspect=1,1,1.5&seed=3`` is a volume, and the name under which cards of
priors and datasets list it: what was learnt from a simulation says so. Orientations are uniform, one a grain.
"""

from functools import lru_cache
from urllib.parse import parse_qsl

import jax
import numpy as np

from polymicros_jax.data.errors import DataError
from polymicros_jax.data.volume import OrientationVolume
from polymicros_jax.orientation import quaternion
from polymicros_jax.simulate import grain_growth, voronoi
from polymicros_jax.types import SEEDS

PREFIX = "simulated/"
KINDS = ("grain_growth", "voronoi")
DEFAULTS = {"side": "64", "grains": "200", "start": "0", "aspect": "1,1,1", "seed": "0"}
"""Keys of a source: voxels along each axis, grains at the end, grains at the start of the growth (0: its default),
relative length of grains along x, y, z, and the seed of positions and orientations."""


@lru_cache(maxsize=4)
def load(source: str) -> OrientationVolume:
    """The simulated volume that a source names; periodic, with cubic symmetry and voxels of 1.

    Args:
      source: ``simulated/KIND?key=value&...``, see `KINDS` and `DEFAULTS`.

    Raises:
      DataError: an unknown kind or key, or values that do not fit.

    >>> volume = load("simulated/voronoi?side=16&grains=20")
    >>> volume.shape, volume.symmetry, len(np.unique(volume.fields["grain"]))
    ((16, 16, 16), '432', 20)
    """
    kind, _, query = source.removeprefix(PREFIX).partition("?")
    if not source.startswith(PREFIX) or kind not in KINDS:
        raise DataError(f"{source}: found the kind {kind!r}, accepted are {', '.join(PREFIX + each for each in KINDS)}")
    given = dict(parse_qsl(query, keep_blank_values=True))
    if given.keys() - DEFAULTS.keys():
        raise DataError(f"{source}: found {sorted(given.keys() - DEFAULTS.keys())}, accepted are {sorted(DEFAULTS)}")
    if kind == "voronoi" and "start" in given:
        raise DataError(f"{source}: found start, which is where grain growth begins; voronoi has none")
    settings = {**DEFAULTS, **given}
    try:
        side, grains, start, seed = (int(settings[key]) for key in ("side", "grains", "start", "seed"))
        aspect = tuple(float(each) for each in settings["aspect"].split(","))
        if side < 1 or not 0 <= seed < SEEDS:
            raise ValueError(f"side {side}, seed {seed}: accepted are side >= 1 and 0 <= seed < {SEEDS}")
        labels, account = _labels(kind, (side,) * 3, grains, start, aspect, seed)
    except ValueError as error:
        raise DataError(f"{source}: {error}") from error
    orientations = np.asarray(quaternion.random(jax.random.key(seed), (int(labels.max()) + 1,)))
    return OrientationVolume(
        quaternions=orientations[labels],
        phase=np.ones(labels.shape, np.int32),
        mask=np.ones(labels.shape, bool),
        spacing=(1.0, 1.0, 1.0),
        symmetry="432",
        frame="none",
        provenance={"source": source, "simulated": True, "periodic": True, **account},
        fields={"grain": labels},
    )


def _labels(
    kind: str, shape: tuple[int, int, int], grains: int, start: int, aspect: tuple[float, ...], seed: int
) -> tuple[np.ndarray, dict[str, object]]:
    if kind == "voronoi":
        labels = grain_growth.compact(voronoi.voronoi(seed, shape, grains, aspect))
        return labels, {"method": "Voronoi tessellation of uniform points", "grains": int(labels.max()) + 1}
    labels, history = grain_growth.grow(seed, shape, grains, start=start or None, aspect=aspect)
    return labels, {
        "method": "normal grain growth, threshold dynamics, equal boundary energies",
        "grains": int(history.grains[-1]),
        "mean_radius": [float(history.mean_radius[0]), float(history.mean_radius[-1])],
        "time": float(history.time[-1]),
        "steps": len(history.time) - 1,
    }
