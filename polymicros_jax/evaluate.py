"""Scoring of reconstructions against a measured volume, beside the classical baselines."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from polymicros_jax import experiment
from polymicros_jax.data.volume import OrientationVolume
from polymicros_jax.orientation import interpolation, shape_interpolation, uncertainty
from polymicros_jax.orientation.metrics import reconstruction_errors
from polymicros_jax.orientation.representation import Representation
from polymicros_jax.orientation.snapping import snap
from polymicros_jax.reconstruct import super_resolve
from polymicros_jax.results import Results, write_json
from polymicros_jax.training.prior import Prior
from polymicros_jax.viz import report
from polymicros_jax.viz.report import RECONSTRUCTION_COLUMNS, Column, Section, Table

PRIOR = "diffusion prior"


@dataclasses.dataclass(frozen=True)
class Filled:
    """A volume whose missing voxels were filled.

    Attributes:
      quaternions: ``(nx, ny, nz, 4)``, known voxels as given.
      seconds: wall-clock time, compilation included.
      draws: ``(d, nx, ny, nz, 4)``, where the method gives several.
      distance: ``(nx, ny, nz)``, mean distance of the draws' channels to the orientation manifold, before snapping.
    """

    quaternions: np.ndarray
    seconds: float
    draws: np.ndarray | None = None
    distance: np.ndarray | None = None


def baselines(
    q: Float[np.ndarray, "nx ny nz 4"], known: Bool[np.ndarray, "nx ny nz"], kind: Representation, reach: int = 0
) -> dict[str, Filled]:
    """Nearest known voxel, linear interpolation of the channels and, where whole sections are missing, shapes.

    Shape-based interpolation (signed distance to each grain, interpolated between sections) is the strong classical
    method. With ``reach > 0`` linear interpolation is also shown snapped to measured crystals: what the prior is given
    to start from, treated as its draws are.
    """
    group = kind.group
    methods: dict[str, Callable[[], np.ndarray]] = {
        "nearest slice": lambda: interpolation.nearest_slice(q, known),
        "linear": lambda: interpolation.linear_orientations(q, known, group),
    }
    if reach > 0:
        methods["linear, snapped"] = lambda: _snapped_linear(q, known, kind, reach)
    if interpolation.missing_axis(known) is not None:
        methods["shape-based"] = lambda: shape_interpolation.shape_based(q, known, group)
    filled = {}
    for name, method in methods.items():
        began = time.perf_counter()
        result = np.asarray(method())
        filled[name] = Filled(np.where(known[..., None], q, result), time.perf_counter() - began)
    return filled


def _snapped_linear(q: np.ndarray, known: np.ndarray, kind: Representation, reach: int) -> np.ndarray:
    values = np.asarray(kind.encode(q))
    return np.asarray(kind.decode(snap(interpolation.linear(values, known), values, known, reach))[0])


def fill_with_prior(
    key: jax.Array,
    prior: Prior,
    kind: Representation,
    q: Float[np.ndarray, "nx ny nz 4"],
    known: Bool[np.ndarray, "nx ny nz"],
    *,
    reach: int = 0,
    **settings: Any,
) -> Filled:
    """Draws from the prior given the known voxels; the estimate is the draw nearest to the others in each voxel.

    With ``reach > 0`` every draw is snapped to the measured crystals within ``reach`` voxels (`orientation.snapping`).
    """
    began = time.perf_counter()
    values = np.asarray(kind.encode(q))
    fields = super_resolve(key, prior, values, known, **settings)
    distance = np.mean([np.asarray(kind.decode(field)[1]) for field in fields], axis=0)
    if reach > 0:
        fields = jnp.stack([snap(field, values, known, reach) for field in fields])
    draws = np.stack([np.where(known[..., None], q, np.asarray(kind.decode(field)[0])) for field in fields])
    estimate = np.asarray(uncertainty.medoid(draws, kind.group)[0])
    return Filled(estimate, time.perf_counter() - began, draws, distance)


def score(
    reference: OrientationVolume, known: Bool[np.ndarray, "nx ny nz"], filled: Mapping[str, Filled]
) -> dict[str, dict[str, Any]]:
    """Errors on the missing voxels that the reference knows, one row per method; see `metrics`."""
    rows = {}
    for name, each in filled.items():
        rows[name] = reconstruction_errors(
            reference.quaternions, each.quaternions, ~known, reference.group, observed=reference.mask
        )
        if each.draws is not None and len(each.draws) > 1:
            missing = ~known & reference.mask
            values = uncertainty.energy_score(reference.quaternions, each.draws, reference.group)
            spread = uncertainty.spread_map(each.draws, reference.group)
            rows[name]["energy_score_deg"] = float(np.asarray(values)[missing].mean())
            rows[name]["spread_deg"] = float(np.asarray(spread)[missing].mean())
        rows[name]["seconds"] = round(each.seconds, 2)
    return rows


def run(objects: experiment.Evaluation, workdir: Path) -> Results:
    """The evaluate task: every volume, every mask, every method, one table each and one report."""
    tables: dict[str, dict[str, dict[str, Any]]] = {}
    for title, name, known in objects.masks:
        reference = objects.volumes[name]
        filled = baselines(reference.quaternions, known, objects.kind, objects.reach)
        for label, settings in objects.settings.items():
            key = jax.random.key(objects.seed)
            filled[label] = fill_with_prior(key, objects.prior, objects.kind, reference.quaternions, known, **settings)
        tables[title] = score(reference, known, filled)
        print(text_table(title, tables[title]), flush=True)
    metrics_path = write_json(workdir / "metrics.json", tables)
    page = report.write(
        workdir / "report.html",
        title="Reconstruction of measured volumes",
        summary=f"Errors on missing voxels only. Prior: {objects.prior_name}.",
        sections=[Section(heading=title, table=Table(columns=COLUMNS, rows=rows)) for title, rows in tables.items()],
    )
    return Results("\n\n".join(text_table(*item) for item in tables.items()), [page, metrics_path])


COLUMNS = (*RECONSTRUCTION_COLUMNS, Column("seconds", "time (s)", best=None, digits=1))


def text_table(title: str, rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The table of a report as plain text."""
    width = max(len(name) for name in (*rows, "method"))
    head = f"{'method':<{width}} {'mean °':>8} {'p95 °':>8} {'>5° %':>8} {'wrong %':>8} {'MAPE %':>8} {'s':>7}"
    lines = [title, head]
    for name, row in rows.items():
        mape = row["mape_percent"]
        lines.append(
            f"{name:<{width}} {row['mean_disorientation_deg']:8.2f} {row['p95_disorientation_deg']:8.2f} "
            f"{100 * row['share_above_5deg']:8.2f} {100 * row['wrong_grain_share']:8.2f} "
            f"{'–' if mape is None else format(mape, '.2f'):>8} {row['seconds']:7.1f}"
        )
    return "\n".join(lines)
