"""The diversity task: principal components of two-point statistics, of our volumes and of others' (Sec. 3, Fig. 3).

Every set is treated alike: the same number of cubes of the same side, covariances without wrapping (a cube cut from a
volume does not wrap), at the lags in the three coordinate planes. Each set has its own components. Its effective rank
says among how many directions its variance is shared, its total variance how far its members lie apart; a set of
blurred volumes can have a high rank and little variance, so neither is read alone.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from polymicros_jax import experiment
from polymicros_jax.local_global import draw_free
from polymicros_jax.orientation import quaternion
from polymicros_jax.progress import Progress
from polymicros_jax.results import Results, table, write_json
from polymicros_jax.simulate.voronoi import voronoi
from polymicros_jax.spectral import diversity, two_point
from polymicros_jax.training.prior import Prior
from polymicros_jax.viz import canvas, correlations, report
from polymicros_jax.viz.report import Column, Section, Table

COLUMNS = (
    Column("cubes", "cubes", best=None, digits=0),
    Column("effective_rank", "effective rank", best="max"),
    Column("components_90", "components for 90 % of the variance", best="max", digits=0),
    Column("total_variance", "total variance of the statistics", best="max", digits=4),
    Column("channel_std", "standard deviation of the channels", best=None, digits=3),
)


def run(objects: experiment.Diversity, workdir: Path) -> Results:
    """Completes the sets, measures them, and writes ``metrics.json``, ``report.html`` and the curves as a picture."""
    sets = dict(objects.cubes)
    for grains in objects.voronoi_grains:
        sets[f"Voronoi, {grains} grains"] = voronoi_cubes(objects, grains)
    for name, prior in objects.priors.items():
        sets[f"unconditioned draws of {name}"] = free_draws(objects, prior)
    # A rank depends on the number of samples: all sets show as many as the smallest has.
    count = min(len(cubes) for cubes in sets.values())
    sets = {name: cubes[spread(len(cubes), count)] for name, cubes in sets.items()}
    vectors = {name: statistics(cubes) for name, cubes in sets.items()}
    rows, curves = {}, {}
    for name, each in vectors.items():
        state = diversity.update(diversity.empty(each.shape[1], min(count, each.shape[1])), each)
        curve = np.clip(np.asarray(diversity.explained_variance_curve(state)), 0.0, 1.0)
        # Less than 1 in the last place may be missing where a curve should end at 1.
        curves[name] = np.maximum.accumulate(curve)[: count - 1]
        rows[name] = {
            "cubes": count,
            "effective_rank": float(diversity.effective_rank(state)),
            "components_90": int(np.searchsorted(curve, 0.9) + 1),
            "total_variance": float(state.squared_sum / (count - 1)),
            "channel_std": float(np.sqrt(np.mean(np.var(sets[name], axis=(0, 1, 2, 3))))),
        }
    together, scores = common_scores(vectors)
    drawing = correlations.explained_variance(curves)
    picture = canvas.save(drawing, workdir / "explained_variance.png")
    metrics = write_json(workdir / "metrics.json", {"side": objects.side, "sets": rows})
    page = report.write(
        workdir / "report.html",
        title="Diversity of two-point statistics",
        summary=f"{count} cubes of {objects.side}^3 voxels of each set; covariances of all channels at the lags in the "
        "three coordinate planes, without wrapping. Rank and variance are to be read together.",
        sections=[
            Section("Rank and variance", table=Table(COLUMNS, rows, corner="set")),
            Section(
                "Explained variance",
                text="The slower a curve rises, the more directions the set spreads over.",
                figures=[("Each set along its own components.", drawing)],
            ),
            Section(
                "On common components",
                figures=[
                    (
                        "Scores along the principal components of all sets together.",
                        correlations.principal_scores(scores, components=min(4, count), shares=together),
                    )
                ],
            ),
        ],
        provenance=json.loads((workdir / "environment.json").read_text()),
        config=(workdir / "config.json").read_text(),
    )
    head = ("set", "effective rank", "components for 90 %", "total variance")
    keys = ("effective_rank", "components_90", "total_variance")
    lines = {name: [row[key] for key in keys] for name, row in rows.items()}
    return Results(table(head, lines), [page, picture, metrics])


def spread(length: int, count: int) -> np.ndarray:
    """``count`` positions in a list, spread over all of it: neighbours in it are often neighbours in a volume.

    >>> spread(9, 3).tolist()
    [0, 4, 8]
    """
    return np.linspace(0, length - 1, count).round().astype(int)


def statistics(cubes: Float[np.ndarray, "n side _ _ h"]) -> Float[np.ndarray, "n features"]:
    """Covariances of each cube, without wrapping, at the lags of which one component is zero, as one vector a cube."""
    return np.stack([np.asarray(_planes(jnp.asarray(cube))) for cube in cubes])


@jax.jit
def _planes(cube: Float[Array, "side _ _ h"]) -> Float[Array, " features"]:
    found = two_point.covariances(cube, periodic=False)
    return diversity.features({"x": found[0], "y": found[:, 0], "z": found[:, :, 0]})


def common_scores(vectors: Mapping[str, np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Shares of the variance of all sets together by component, and every set's scores."""
    every = np.concatenate(list(vectors.values()))
    state = diversity.update(diversity.empty(every.shape[1], min(every.shape)), every)
    shares = np.diff(np.asarray(diversity.explained_variance_curve(state)), prepend=0.0)
    return shares, {name: np.asarray(diversity.scores(state, each)) for name, each in vectors.items()}


def voronoi_cubes(objects: experiment.Diversity, grains: int) -> np.ndarray:
    """Voronoi tessellations with uniform orientations, the plainest synthetic polycrystals."""
    cubes = []
    for number in range(objects.count):
        labels = voronoi(1000 * objects.seed + number, (objects.side,) * 3, grains)
        key = jax.random.fold_in(jax.random.key(objects.seed), number)
        values = np.asarray(objects.kind.encode(quaternion.random(key, (grains,))))
        cubes.append(values[labels])
    return np.stack(cubes)


def free_draws(objects: experiment.Diversity, prior: Prior) -> np.ndarray:
    """Draws of a local model from noise, without covariances to start from: what it makes by itself."""
    shape = (objects.side,) * 3
    key, draws = jax.random.key(objects.seed), []
    with Progress("draws", objects.count) as progress:
        for n in range(objects.count):
            draws.append(np.asarray(draw_free(jax.random.fold_in(key, n), prior, shape, steps=objects.steps)))
            progress.update(n + 1)
    if not np.isfinite(draws).all():
        raise FloatingPointError(f"diversity: an unconditioned draw is not finite (seed {objects.seed})")
    return np.stack(draws)
