"""Reconstruction of measured volumes, scored beside the classical baselines, with intervals that can be believed.

Longer than most files here: prior, baselines and intervals are filled in and scored by one routine, so that none of
them gets another voxel set or another metric.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from polymicros_jax import experiment
from polymicros_jax.data import samples
from polymicros_jax.data.atomic import replacing
from polymicros_jax.data.volume import OrientationVolume
from polymicros_jax.orientation import grain_posterior, grains, interpolation, uncertainty
from polymicros_jax.orientation import posterior_uncertainty as certainty
from polymicros_jax.orientation.candidates import Candidates, candidates
from polymicros_jax.orientation.grain_posterior import GrainPosterior
from polymicros_jax.orientation.metrics import reconstruction_errors
from polymicros_jax.orientation.neighbour_filling import neighbour_vote
from polymicros_jax.orientation.representation import Representation
from polymicros_jax.orientation.snapping import snap
from polymicros_jax.reconstruct import super_resolve
from polymicros_jax.results import Results, table, write_json
from polymicros_jax.training.calibration import Calibrated, Calibration, Entry, save_calibration
from polymicros_jax.training.prior import Prior
from polymicros_jax.training.progress import Progress
from polymicros_jax.viz import ablation, canvas, report
from polymicros_jax.viz.report import RECONSTRUCTION_COLUMNS, Column, Section, Table

PRIOR = "diffusion prior"
SHAPES = "shapes, regularised"
FUSED = "prior and shapes"

LEVEL = 0.9
"""What intervals are stated at."""


@dataclasses.dataclass(frozen=True, eq=False)
class Filled:
    """A volume whose missing voxels were filled.

    Attributes:
      quaternions: ``(nx, ny, nz, 4)``, known voxels as given.
      seconds: wall-clock time, compilation included.
      draws: ``(d, nx, ny, nz, 4)``, where the method gives several.
      distance: ``(nx, ny, nz)``, mean distance of the draws' channels to the orientation manifold, before snapping.
      fields: ``(d, nx, ny, nz, h)``, channels of the draws before snapping.
      posterior: probabilities of the candidate grains of the missing voxels, where the method gives them.
      level: what `posterior_uncertainty.radius` is to be asked for, so that intervals stated at `LEVEL` cover it.
      labels: ``(nx, ny, nz)``, grain numbers, with ``posterior``.
    """

    quaternions: np.ndarray
    seconds: float
    draws: np.ndarray | None = None
    distance: np.ndarray | None = None
    fields: np.ndarray | None = None
    posterior: GrainPosterior | None = None
    level: float = LEVEL
    labels: np.ndarray | None = None


def baselines(
    q: Float[np.ndarray, "nx ny nz 4"],
    known: Bool[np.ndarray, "nx ny nz"],
    kind: Representation,
    reach: int = 0,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> dict[str, Filled]:
    """The classical methods: nearest known voxel, linear interpolation of the channels, and what suits the mask.

    Where whole sections are missing: great circles between sections that show the same grain, and shape-based
    interpolation (signed distance to each grain, interpolated between sections), the strong one. Elsewhere: the vote of
    the neighbours, as EBSD software fills unindexed points. With ``reach > 0`` linear interpolation is also shown
    snapped to measured crystals: what the prior is given to start from, treated as its draws are. Distances are those
    of voxels of the given ``spacing``.
    """
    group = kind.group
    methods: dict[str, Callable[[], np.ndarray]] = {
        "nearest slice": lambda: interpolation.nearest_slice(q, known, spacing),
        "linear": lambda: interpolation.linear_orientations(q, known, group),
    }
    if reach > 0:
        methods["linear, snapped"] = lambda: _snapped_linear(q, known, kind, reach)
    if interpolation.missing_axis(known) is not None:
        methods["spherical"] = lambda: interpolation.spherical(q, known, group)
        methods["shape-based"] = lambda: interpolation.shape_based(q, known, group, spacing=spacing)
    else:
        methods["neighbour vote"] = lambda: neighbour_vote(q, known, group)
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
    found: Candidates | None = None,
    **settings: Any,
) -> Filled:
    """Draws from the prior given the known voxels; the estimate is the draw nearest to the others in each voxel.

    With ``reach > 0`` every draw is snapped to the measured crystals within ``reach`` voxels (`orientation.snapping`).
    With ``found`` a warm start begins at the regularised shapes (`grain_posterior.regularised`), which gaps of any form
    have, and not at the linear interpolation.
    """
    began = time.perf_counter()
    values = np.asarray(kind.encode(q))
    guess = None
    if found is not None and settings.get("start") is not None:
        guess = np.asarray(kind.encode(grain_posterior.regularised(found)))
    fields = super_resolve(key, prior, values, known, guess=guess, **settings)
    distance = np.mean([np.asarray(kind.decode(field)[1]) for field in fields], axis=0)
    snapped = jnp.stack([snap(field, values, known, reach) for field in fields]) if reach > 0 else fields
    draws = np.stack([np.where(known[..., None], q, np.asarray(kind.decode(field)[0])) for field in snapped])
    estimate = np.asarray(uncertainty.medoid(draws, kind.group)[0])
    return Filled(estimate, time.perf_counter() - began, draws, distance, np.asarray(fields))


def fuse(
    found: Candidates, terms: Float[np.ndarray, "3 n k"], known: Bool[np.ndarray, "nx ny nz"], model: Calibrated
) -> Filled:
    """The most probable measured grain of every missing voxel, with the probabilities.

    ``terms`` are `grain_posterior.features` at all missing voxels, with the draws of a prior or without.
    """
    began = time.perf_counter()
    posterior = grain_posterior.posterior(found, ~known, terms, model.weights)
    quaternions, labels = found.filled.copy(), found.label[..., 0].copy()
    quaternions[~known] = posterior.estimate()
    labels[~known] = np.take_along_axis(posterior.label, posterior.probability.argmax(axis=1)[:, None], axis=1)[:, 0]
    return Filled(quaternions, time.perf_counter() - began, posterior=posterior, level=model.level, labels=labels)


def fuse_both(
    found: Candidates, terms: Float[np.ndarray, "3 n k"], known: Bool[np.ndarray, "nx ny nz"], entry: Entry
) -> dict[str, Filled]:
    """`fuse` from shapes alone, and with the prior: the difference is what the prior contributes."""
    alone = np.stack([*terms[:2], np.zeros_like(terms[2])])
    return {SHAPES: fuse(found, alone, known, entry.shapes_alone), FUSED: fuse(found, terms, known, entry.with_prior)}


def calibrate(cases: list["Case"], *, with_prior: bool) -> Calibrated:
    """Weights and level fitted on volumes whose truth is known."""
    terms = [case.terms[:, case.scored] for case in cases]
    weights = grain_posterior.fit(terms, [case.target() for case in cases], with_prior=with_prior)
    pieces = []
    for case, each in zip(cases, terms, strict=True):
        chance = grain_posterior.probabilities(each, weights)
        open_ = certainty.contested(chance, LEVEL)
        q = case.orientations()[case.scored][open_]
        best = np.take_along_axis(q, chance[open_].argmax(axis=1)[:, None, None], axis=1)[:, 0]
        pieces.append((case.truth()[open_], chance[open_], q, best))
    truth, chance, q, best = (np.concatenate(each) for each in zip(*pieces, strict=True))
    level = certainty.level_for(truth, chance, q, best, LEVEL, cases[0].reference.group) if len(truth) else LEVEL
    return Calibrated(weights, level)


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """One volume with one mask after everything costly: what calibration and scoring need.

    ``terms`` are the `grain_posterior.features` at the missing voxels, with the draws of the prior.
    """

    title: str
    source: str
    mask: str
    reference: OrientationVolume
    known: np.ndarray
    found: Candidates
    terms: np.ndarray

    @property
    def scored(self) -> np.ndarray:
        """Which of the missing voxels the reference knows."""
        return self.reference.mask[~self.known]

    def truth(self) -> np.ndarray:
        """Orientations of the scored voxels."""
        return self.reference.quaternions[~self.known & self.reference.mask]

    def orientations(self) -> np.ndarray:
        """What each candidate brings to the missing voxels."""
        return grain_posterior.orientations(self.found, ~self.known)

    def target(self) -> np.ndarray:
        """Which candidates are right at the scored voxels."""
        labels = self.found.label[~self.known][self.scored]
        return grain_posterior.target(self.truth(), self.orientations()[self.scored], labels, self.reference.group)


def score(
    reference: OrientationVolume, known: Bool[np.ndarray, "nx ny nz"], filled: Mapping[str, Filled]
) -> dict[str, dict[str, Any]]:
    """Errors on the missing voxels that the reference knows, one row per method; see `orientation.metrics`."""
    rows: dict[str, dict[str, Any]] = {}
    labels = grains.segment(reference.quaternions, group=reference.group, mask=reference.mask)
    missing = ~known & reference.mask
    for name, each in filled.items():
        rows[name] = dict(
            reconstruction_errors(
                reference.quaternions,
                each.quaternions,
                ~known,
                reference.group,
                observed=reference.mask,
                grain_labels=labels,
            )
        )
        if each.draws is not None and len(each.draws) > 1:
            values = uncertainty.energy_score(reference.quaternions, each.draws, reference.group)
            spread = uncertainty.spread_map(each.draws, reference.group)
            rows[name]["energy_score_deg"] = float(np.asarray(values)[missing].mean())
            rows[name]["spread_deg"] = float(np.asarray(spread)[missing].mean())
        if each.posterior is not None:
            rows[name] |= _score_posterior(reference, known, each, each.posterior)
        rows[name]["seconds"] = round(each.seconds, 2)
    return rows


def _score_posterior(
    reference: OrientationVolume, known: np.ndarray, each: Filled, posterior: GrainPosterior
) -> dict[str, float | None]:
    """What the probabilities say, and how far it is true."""
    scored, group = reference.mask[~known], reference.group
    chance, q = posterior.probability[scored], posterior.quaternions[scored]
    truth, estimate = reference.quaternions[~known][scored], posterior.estimate()[scored]
    inside = {level: certainty.covered(truth, chance, q, estimate, level, group) for level in (each.level, LEVEL)}
    open_ = certainty.contested(chance, LEVEL)
    stated = np.ones(known.shape)
    stated[~known] = posterior.probability.max(axis=1)
    assert each.labels is not None
    area = certainty.boundary_area(each.labels)
    right = grain_posterior.target(truth, q, posterior.label[scored], group)
    wrong = np.take_along_axis(right, chance.argmax(axis=1)[:, None], axis=1)[:, 0] == 0
    return {
        "spread_deg": float(np.mean(certainty.spread(chance, q, group))),
        "energy_score_deg": float(np.mean(certainty.energy_score(truth, chance, q, group))),
        "expected_error_deg": float(np.mean(certainty.expected_error(chance, q, estimate, group))),
        "coverage": float(inside[each.level].mean()),
        "contested_share": float(open_.mean()),
        "coverage_contested": float(inside[each.level][open_].mean()) if open_.any() else None,
        "coverage_contested_uncalibrated": float(inside[LEVEL][open_].mean()) if open_.any() else None,
        "boundary_displacement_voxels": certainty.boundary_displacement(each.labels, stated),
        "boundary_displacement_true_voxels": float(wrong.sum() / scored.mean() / area) if area else None,
    }


def run(objects: experiment.Evaluation, workdir: Path) -> Results:
    """The evaluate task: every volume, every mask, every method, one table each and one report.

    A case that is done is read back when the run is started again. The models of the candidate grains are fitted on
    volumes of other sources with the same mask; where there are none, those kept beside the prior are used, unless they
    were fitted on the same source.
    """
    cases, tables, folder = [], {}, workdir / "cases"
    folder.mkdir(exist_ok=True)
    with Progress("cases", len(objects.masks), start=len(list(folder.glob("*.json")))) as progress:
        for number, (title, name, mask, known) in enumerate(objects.masks):
            case, tables[title] = _case(objects, folder / f"{number:02d}", title, name, mask, known)
            cases.append(case)
            progress.update(len(cases), last=title)
    for case in cases:
        rows = tables[case.title]
        others = [each for each in cases if not samples.may_overlap(each.source, case.source)]
        entry = _fitted([each for each in others if each.mask == case.mask])
        kept = objects.calibration
        if entry is None and kept is not None and not any(samples.may_overlap(s, case.source) for s in kept.sources):
            entry = kept.nearest(case.found.gap)
        if entry is not None:
            rows |= score(case.reference, case.known, fuse_both(case.found, case.terms, case.known, entry))
    files = [write_json(workdir / "metrics.json", tables)]
    files.append(_write_calibration(workdir, objects, cases))
    files = [*_write_report(workdir, objects, tables), *files]
    return Results("\n\n".join(text_table(*item) for item in tables.items()), files)


def _case(
    objects: experiment.Evaluation, stem: Path, title: str, name: str, mask: str, known: np.ndarray
) -> tuple[Case, dict[str, dict[str, Any]]]:
    """One case from its record where it is done, else drawn and kept; with its table but for the fused methods."""
    reference, kind, source = objects.volumes[name], objects.kind, objects.sources[name]
    record, arrays = stem.with_suffix(".json"), stem.with_suffix(".npz")
    if record.exists():
        with np.load(arrays) as stored:
            label, sources, scores, copied = (stored[key] for key in ("label", "source", "score", "filled"))
            found = Candidates(label, sources, scores, known, copied, float(stored["gap"]), float(stored["voxels"]))
            return Case(title, source, mask, reference, known, found, stored["terms"]), json.loads(record.read_text())
    q = reference.quaternions
    filled = baselines(q, known, kind, objects.reach, reference.spacing)
    found = candidates(q, known, kind.group, spacing=reference.spacing)
    begin = found if objects.from_shapes else None
    for label, settings in objects.settings.items():
        key = jax.random.key(objects.seed)
        filled[label] = fill_with_prior(key, objects.prior, kind, q, known, found=begin, **settings)
    drawn = next(filled[label].fields for label in objects.settings)
    terms = grain_posterior.features(found, ~known, drawn, kind.group)
    rows = score(reference, known, filled)
    with replacing(arrays) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, terms=terms, **dataclasses.asdict(found))
    write_json(record, rows)  # last: its presence says that the case is done
    return Case(title, source, mask, reference, known, found, terms), rows


def _fitted(cases: list[Case]) -> Entry | None:
    """Models of the candidate grains, fitted on these cases together; None without any."""
    if not cases:
        return None
    gap = float(np.mean([case.found.gap for case in cases]))
    return Entry(gap, calibrate(cases, with_prior=True), calibrate(cases, with_prior=False))


def _write_calibration(workdir: Path, objects: experiment.Evaluation, cases: list[Case]) -> Path:
    """Fits on all volumes together, to be kept beside the prior: for volumes that are none of these."""
    entries = [_fitted([each for each in cases if each.mask == mask]) for mask in {case.mask: None for case in cases}]
    settings = next(iter(objects.settings.values()))
    fitted_on = tuple(case.title for case in cases)
    calibration = Calibration(tuple(entry for entry in entries if entry is not None), fitted_on, settings)
    return save_calibration(workdir / "calibration.json", calibration)


COLUMNS = (*RECONSTRUCTION_COLUMNS, Column("seconds", "time (s)", best=None, digits=1))

UNCERTAINTY_COLUMNS = (
    Column("spread_deg", "spread (°)", best=None),
    Column("energy_score_deg", "CRPS (°)"),
    Column("expected_error_deg", "error it expects (°)", best=None),
    Column("mean_disorientation_deg", "error it makes (°)", best=None),
    Column("coverage_contested", "90 % intervals cover, contested voxels (%)", best=None, digits=1, scale=100.0),
    Column("coverage_contested_uncalibrated", "before recalibration (%)", best=None, digits=1, scale=100.0),
    Column("contested_share", "contested voxels (%)", best=None, digits=1, scale=100.0),
    Column("coverage", "cover, all missing voxels (%)", best=None, digits=1, scale=100.0),
    Column("boundary_displacement_voxels", "boundaries, displacement it expects (voxels)", best=None),
    Column("boundary_displacement_true_voxels", "and has (voxels)", best=None),
)

CONTESTED = (
    "Contested: the best candidate grain is less probable than 90 %, so that an interval says more than one grain. "
    "Models and levels were fitted on the other volumes."
)


def _write_report(
    workdir: Path, objects: experiment.Evaluation, tables: dict[str, dict[str, dict[str, Any]]]
) -> list[Path]:
    mean = {
        title: {name: row["mean_disorientation_deg"] for name, row in rows.items()} for title, rows in tables.items()
    }
    label = "mean disorientation on missing voxels (°)"
    overview = [("Every task, every method (Fig. 9 of the paper).", ablation.bars(mean, ylabel=label))]
    files = [canvas.save(overview[0][1], workdir / "masks.png")]
    if len(objects.thetas) > 1:
        for number, (title, values) in enumerate(mean.items()):
            drawn = {name: [values[each] for each in labels] for name, labels in objects.families.items()}
            rest = {name: value for name, value in values.items() if name not in objects.settings}
            drawing = ablation.curves(objects.thetas, drawn, xlabel="theta", ylabel=label, levels=rest, title=title)
            overview.append(("Share theta of the steps that are conditioned (Fig. 8 of the paper).", drawing))
            files.append(canvas.save(drawing, workdir / f"theta_{number:02d}.png"))
    sections = [Section("Overview", figures=overview)]
    for title, rows in tables.items():
        sections.append(Section(title, table=Table(COLUMNS, rows)))
        stated = {name: row for name, row in rows.items() if "spread_deg" in row}
        if stated:
            sections.append(Section(f"Uncertainty: {title}", table=Table(UNCERTAINTY_COLUMNS, stated, note=CONTESTED)))
    page = report.write(
        workdir / "report.html",
        title="Reconstruction of measured volumes",
        summary=f"Errors on missing voxels only. Prior: {objects.prior_name}.",
        sections=sections,
        provenance=json.loads((workdir / "environment.json").read_text()),
        config=(workdir / "config.json").read_text(),
    )
    return [page, *files]


def text_table(title: str, rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The table of a report as plain text."""
    shown = {
        "mean °": ("mean_disorientation_deg", 1.0),
        "p95 °": ("p95_disorientation_deg", 1.0),
        ">5° %": ("share_above_5deg", 100.0),
        "wrong %": ("wrong_grain_share", 100.0),
        "MAPE %": ("mape_percent", 1.0),
        "s": ("seconds", 1.0),
    }
    lines = {
        name: [None if row[key] is None else f"{scale * row[key]:.2f}" for key, scale in shown.values()]
        for name, row in rows.items()
    }
    return f"{title}\n{table(('method', *shown), lines)}"
