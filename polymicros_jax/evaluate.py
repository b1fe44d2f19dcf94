"""The evaluate task: measured volumes with hidden voxels, filled by every method and scored beside the baselines."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from polymicros_jax import experiment
from polymicros_jax.data import samples
from polymicros_jax.data.atomic import replacing
from polymicros_jax.filling_methods import baselines, fill_with_prior, fuse_both
from polymicros_jax.orientation import grain_posterior
from polymicros_jax.orientation.candidates import Candidates, candidates
from polymicros_jax.progress import Progress
from polymicros_jax.results import Results, write_json
from polymicros_jax.scoring import COLUMNS, UNCERTAINTY_COLUMNS, Case, calibrate, score, text_table
from polymicros_jax.training.calibration import Calibration, Entry, save_calibration
from polymicros_jax.viz import ablation, canvas, report
from polymicros_jax.viz.report import Section, Table

CONTESTED = (
    "Contested: the best candidate grain is less probable than 90 %, so that an interval says more than one grain. "
    "Models and levels were fitted on the other volumes."
)


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


def _write_report(
    workdir: Path, objects: experiment.Evaluation, tables: dict[str, dict[str, dict[str, Any]]]
) -> list[Path]:
    mean = {
        title: {name: row["mean_disorientation_deg"] for name, row in rows.items()} for title, rows in tables.items()
    }
    label = "mean disorientation on missing voxels (°)"
    overview = [("Every task, every method (Fig. 9 of the paper).", ablation.dots(mean, xlabel=label))]
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
