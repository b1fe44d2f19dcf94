"""The realism task: do draws of a local model look like its source, and how far do they keep the statistics asked for?

Both depend on ``skip``, the number of diffusion steps left out at the noisy end. A small one gives the model freedom to
make crystals and loses the requested two-point statistics; a large one keeps them and leaves the Gaussian field it
started from. The curves over ``skip`` show where neither is lost, if anywhere.
"""

import dataclasses
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from polymicros_jax import experiment
from polymicros_jax.conditioners.crystals import CrystalGuide
from polymicros_jax.data import structure
from polymicros_jax.diffusion.schedule import karras
from polymicros_jax.generation import BOUNDS
from polymicros_jax.local_global import draw, start_field
from polymicros_jax.orientation import ipf
from polymicros_jax.orientation.grain_averaging import grain_averaged
from polymicros_jax.progress import Progress
from polymicros_jax.results import Results, table, write_json
from polymicros_jax.spectral import two_point
from polymicros_jax.spectral.mosm import MosmParams, covariance, sample_params
from polymicros_jax.viz import ablation, cubes, report
from polymicros_jax.viz.distributions import densities
from polymicros_jax.viz.report import Column, Section, Table

SOURCE, FIELD = "source", "Gaussian fields"
LABELS = {
    "diameter": "grain diameter (voxels)",
    "chord": "chord length (voxels)",
    "disorientation": "disorientation across boundaries (°)",
    "sharpness": "share of a boundary's change on one face",
}
COLUMNS = (
    *(
        column
        for name, label in LABELS.items()
        for column in (
            Column(f"{name}_median", f"{label}, median", best=None),
            Column(f"{name}_distance", "distance from the source (its standard deviations)"),
        )
    ),
    Column("distance", "mean distance to the manifold (its norm)", digits=3),
    Column("requested", "error of covariances, to the requested ones", digits=3),
)
SKIP_COLUMNS = (
    Column("sigma", "noise at the start", best=None, digits=3),
    Column("requested", "error of covariances, to the requested ones", digits=3),
    Column("start", "to those of the field the draw started from", digits=3),
    Column("distance", "mean distance to the manifold (its norm)", digits=3),
    Column("sharpness", "median sharpness of boundaries", best="max", digits=3),
)

Distributions = dict[str, np.ndarray]


def run(objects: experiment.Realism, workdir: Path) -> Results:
    """Draws, measures and writes ``metrics.json`` and ``report.html``."""
    kind = objects.kind
    source = np.asarray(kind.encode(objects.source.quaternions))
    found = {SOURCE: _measured(objects.source.quaternions, source, objects)}
    half = objects.source.shape[0] // 2
    rows: dict[str, dict[str, Any]] = {
        "first half against second": structure.compare(
            *(
                _measured(objects.source.quaternions[part], source[part], objects)
                for part in (slice(half), slice(half, None))
            )
        )
    }
    by_skip, pictures = {}, {}
    cases = _cases(objects)
    starts = [case.start for case in cases]
    found[FIELD], rows[FIELD] = _assessed(starts, objects, found[SOURCE])
    skips = sorted({*objects.skips, objects.skip})
    drawn = _drawn(objects, cases, skips)
    for skip, fields in drawn.items():
        name = f"draws, skip {skip}"
        distributions, row = _assessed(fields, objects, found[SOURCE])
        errors = [_adherence(objects, case, field) for case, field in zip(cases, fields, strict=True)]
        sharp = row["sharpness_median"]
        by_skip[skip] = {
            "sigma": float(karras(objects.steps)[skip]),
            **{key: float(np.mean([error[key] for error in errors])) for key in ("requested", "start")},
            "distance": row["distance"],
            "sharpness": float("nan") if sharp is None else sharp,
        }
        rows[name] = {**row, "requested": by_skip[skip]["requested"]}
        if skip == objects.skip:
            found[name] = distributions
            pictures[name] = fields[0]
            if objects.boundary_cost > 0:
                averaged = [grain_averaged(f, kind, objects.boundary_cost, periodic=True)[0] for f in fields]
                name = f"{name}, grain averaged"
                found[name], rows[name] = _assessed(averaged, objects, found[SOURCE])
                pictures[name] = averaged[0]
                errors = [_adherence(objects, case, each) for case, each in zip(cases, averaged, strict=True)]
                rows[name]["requested"] = float(np.mean([error["requested"] for error in errors]))
    floor = float(np.mean([_adherence(objects, case, case.start)["requested"] for case in cases]))
    metrics = write_json(
        workdir / "metrics.json",
        {
            "distributions": rows,
            "by_skip": {str(skip): row for skip, row in by_skip.items()},
            "requested_floor": floor,
        },
    )
    sections = [
        Section("Distributions", table=Table(COLUMNS, rows, corner="volumes"), figures=_figures(found)),
        Section(
            "How many steps to leave out",
            text="The error of covariances is the root mean square over all lags and pairs of channels, over that "
            f"of the covariances themselves. One Gaussian field alone is {floor:.3f} away from its expectation: a "
            f"draw cannot be asked for less. The run's skip is {objects.skip}.",
            table=Table(SKIP_COLUMNS, {str(skip): row for skip, row in by_skip.items()}, corner="skip"),
            figures=_skip_figures(by_skip, floor, found[SOURCE], rows[FIELD]),
        ),
        Section("Pictures", figures=[("IPF colours for sample z.", _cubes(pictures | {FIELD: starts[0]}, objects))]),
    ]
    page = _write_report(workdir, objects, sections)
    head = ("skip", "noise", "error, requested", "error, start", "distance", "sharpness")
    keys = ("sigma", "requested", "start", "distance", "sharpness")
    return Results(
        table(head, {str(skip): [row[key] for key in keys] for skip, row in by_skip.items()}), [page, metrics]
    )


def _write_report(workdir: Path, objects: experiment.Realism, sections: list[Section]) -> Path:
    size = " x ".join(map(str, objects.shape))
    return report.write(
        workdir / "report.html",
        title="Local realism",
        summary=f"{objects.draws} draws of {objects.prior_name} at {size}, {objects.steps} noise levels, beside "
        f"{objects.source_name}. Distances between distributions are Wasserstein distances in standard deviations of "
        "the source; the two halves of the source differ by what the first row says.",
        sections=sections,
        provenance=json.loads((workdir / "environment.json").read_text()),
        config=(workdir / "config.json").read_text(),
    )


@dataclasses.dataclass(frozen=True)
class _Case:
    """One covariance: its parameters, the key of its draws, and the Gaussian field they all start from."""

    key: jax.Array
    params: MosmParams
    start: np.ndarray


def _cases(objects: experiment.Realism) -> list[_Case]:
    channels = objects.kind.channels
    bounds = objects.bounds or BOUNDS[objects.kind.name]
    design = sample_params(objects.seed, objects.draws, mixtures=objects.mixtures, channels=channels, bounds=bounds)
    cases = []
    for number in range(objects.draws):
        key = jax.random.fold_in(jax.random.key(objects.seed), number)
        params = jax.tree.map(lambda leaf, row=number: leaf[row], design)
        cases.append(_Case(key, params, np.asarray(start_field(key, params, objects.shape, np.zeros(channels)))))
    return cases


def _drawn(objects: experiment.Realism, cases: list[_Case], skips: list[int]) -> dict[int, list[np.ndarray]]:
    """Every case at every skip."""
    drawn: dict[int, list[np.ndarray]] = {skip: [] for skip in skips}
    with Progress("draws", len(skips) * len(cases)) as progress:
        for number, (skip, case) in enumerate(itertools.product(skips, cases)):
            drawn[skip].append(_draw(objects, case, skip))
            progress.update(number + 1)
    return drawn


def _draw(objects: experiment.Realism, case: _Case, skip: int) -> np.ndarray:
    how: dict[str, Any] = {"steps": objects.steps, "skip": skip}
    if objects.crystals:
        how |= {"churn": None, "guides": [CrystalGuide(objects.kind.name)]}
    field = np.asarray(draw(case.key, objects.prior, case.params, objects.shape, **how))
    if not np.isfinite(field).all():
        raise FloatingPointError(f"realism: a draw at skip {skip} is not finite (seed {objects.seed})")
    return field


def _adherence(objects: experiment.Realism, case: _Case, field: np.ndarray) -> dict[str, float]:
    """Relative error of the covariances of a draw, to the requested ones and to those of the field it started from."""
    realised = two_point.covariances(field, periodic=True)
    references = {
        "requested": covariance(case.params, objects.shape),
        "start": two_point.covariances(case.start, periodic=True),
    }
    return {
        name: float(jnp.linalg.norm((realised - each).ravel()) / jnp.linalg.norm(each.ravel()))
        for name, each in references.items()
    }


def _measured(q: np.ndarray, field: np.ndarray, objects: experiment.Realism, periodic: bool = False) -> Distributions:
    kind = objects.kind
    return structure.distributions(q, field, kind.norm, group=kind.group, periodic=periodic)


def _assessed(
    fields: list[np.ndarray], objects: experiment.Realism, source: Distributions
) -> tuple[Distributions, dict[str, Any]]:
    """Distributions over several volumes together, and their row of the table."""
    decoded = [objects.kind.decode(field) for field in fields]
    parts = [_measured(np.asarray(q), field, objects, True) for (q, _), field in zip(decoded, fields, strict=True)]
    together = {name: np.concatenate([part[name] for part in parts]) for name in LABELS}
    distance = float(np.mean([np.asarray(each).mean() for _, each in decoded])) / objects.kind.norm
    return together, {**structure.compare(together, source), "distance": distance}


def _figures(found: Mapping[str, Distributions]) -> list[tuple[str, Figure]]:
    figures = []
    for name, label in LABELS.items():
        present = {title: each[name] for title, each in found.items() if len(each[name])}
        if present:
            figures.append((f"{label[0].upper()}{label[1:]}.", densities(present, xlabel=label, bins=25)))
    return figures


def _skip_figures(
    by_skip: Mapping[int, Mapping[str, float]], floor: float, source: Distributions, field: Mapping[str, Any]
) -> list[tuple[str, Figure]]:
    skips = [float(skip) for skip in by_skip]

    def column(key: str) -> list[float]:
        return [row[key] for row in by_skip.values()]

    adherence = ablation.curves(
        skips,
        {"to the requested": column("requested"), "to the start": column("start")},
        xlabel="skip",
        ylabel="relative error of covariances",
        levels={"one Gaussian field": floor},
    )
    sharp = ablation.curves(
        skips,
        {"distance to the manifold": column("distance"), "sharpness of boundaries": column("sharpness")},
        xlabel="skip",
        ylabel="share of the norm; share of the change",
        levels={
            "Gaussian field, distance": field["distance"],
            "source, sharpness": float(np.median(source["sharpness"])),
        },
    )
    return [("Adherence to the statistics asked for.", adherence), ("What the freedom is used for.", sharp)]


def _cubes(fields: Mapping[str, np.ndarray], objects: experiment.Realism) -> Figure:
    kind = objects.kind
    colours = {
        name: np.asarray(ipf.colours(np.asarray(kind.decode(each)[0]), "z", kind.group))
        for name, each in fields.items()
    }
    size = objects.shape
    colours[SOURCE] = np.asarray(
        ipf.colours(objects.source.quaternions[: size[0], : size[1], : size[2]], "z", kind.group)
    )
    return cubes.cubes(colours, spacing=(1.0, 1.0, 1.0))
