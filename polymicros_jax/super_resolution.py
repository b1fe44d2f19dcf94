"""The super_resolve task: fills what a scan is missing and reports on it."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np

from polymicros_jax import experiment
from polymicros_jax.data import export, samples
from polymicros_jax.data.volume import OrientationVolume
from polymicros_jax.filling_methods import FUSED, PRIOR, SHAPES, Filled, baselines, fill_with_prior, fuse_both
from polymicros_jax.orientation import grain_posterior, grains, ipf, uncertainty
from polymicros_jax.orientation import posterior_uncertainty as certainty
from polymicros_jax.orientation.candidates import Candidates, candidates
from polymicros_jax.orientation.sections import nearest_known
from polymicros_jax.progress import Progress
from polymicros_jax.results import Results, table, write_json
from polymicros_jax.scoring import COLUMNS, score, text_table
from polymicros_jax.viz import canvas, cubes, ipf_key, report, slices
from polymicros_jax.viz.report import Section, Table
from polymicros_jax.viz.slices import Panel


def run(objects: experiment.Reconstruction, workdir: Path) -> Results:
    """Reconstructs, scores where the truth is known, writes volume, metrics and report."""
    reference, known, kind = objects.reference, objects.known, objects.kind
    q = reference.quaternions
    filled = baselines(q, known, kind, objects.settings["reach"], reference.spacing)
    found = candidates(q, known, kind.group, spacing=reference.spacing)
    begin = found if objects.from_shapes else None
    key = jax.random.key(objects.seed)
    with Progress("draws", objects.settings["draws"]) as progress:
        drawn = fill_with_prior(
            key, objects.prior, kind, q, known, found=begin, progress=progress.update, **objects.settings
        )
    filled[PRIOR] = drawn
    if objects.calibration is not None:
        terms = grain_posterior.features(found, ~known, drawn.fields, kind.group)
        filled |= fuse_both(found, terms, known, objects.calibration.nearest(found.gap))
    result = filled.get(FUSED, drawn)
    rows = score(reference, known, filled) if objects.scored else {}
    spread = _spread(result, known, kind.group)
    files = [
        write_json(workdir / "metrics.json", {"on": "missing voxels only", "methods": rows}),
        *_write_volume(workdir, objects, result, drawn, spread, _phases(reference, known, found, result)),
    ]
    files = [*_write_report(workdir, objects, filled, rows, spread), *files]
    if rows:
        return Results(text_table(f"{objects.title}: missing voxels only", rows), files)
    row = [known.size, int((~known).sum()), float(spread[~known].mean())]
    return Results(table(("volume", "voxels", "filled", "mean spread °"), {objects.title: row}), files)


def _error_map(reference: OrientationVolume, known: np.ndarray, each: Filled) -> np.ndarray:
    error = np.asarray(uncertainty.disorientation_map(reference.quaternions, each.quaternions, reference.group))
    return np.where(known, 0.0, np.where(reference.mask, error, np.nan)).astype(np.float32)


def _spread(result: Filled, known: np.ndarray, group: str) -> np.ndarray:
    """Degrees by which two draws differ: of the whole distribution where there is one, else of the draws made."""
    if result.posterior is None:
        assert result.draws is not None
        return np.asarray(uncertainty.spread_map(result.draws, group))
    spread = np.zeros(known.shape, np.float32)
    spread[~known] = np.asarray(certainty.spread(result.posterior.probability, result.posterior.quaternions, group))
    return spread


def _phases(reference: OrientationVolume, known: np.ndarray, found: Candidates, result: Filled) -> np.ndarray:
    """Phase of every voxel: a filled one has that of the measured grain put there, or of the nearest voxel."""
    phase = nearest_known(reference.phase[..., None], known & reference.mask, reference.spacing)[..., 0]
    if result.posterior is not None:
        best = result.posterior.probability.argmax(axis=1)
        source = np.take_along_axis(found.source[~known], best[:, None], axis=1)[:, 0]
        phase[~known] = phase.reshape(-1)[source]
    return phase


def _at_known(name: str, values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """What was measured (confidence index, image quality), where it was: 0 at filled voxels, no grain for numbers."""
    nothing = grains.UNASSIGNED if name == "grain" else 0
    return np.where(known.reshape(*known.shape, *[1] * (values.ndim - 3)), values, np.asarray(nothing, values.dtype))


def _write_volume(
    workdir: Path,
    objects: experiment.Reconstruction,
    result: Filled,
    drawn: Filled,
    spread: np.ndarray,
    phase: np.ndarray,
) -> list[Path]:
    reference, known = objects.reference, objects.known
    method = PRIOR if result.posterior is None else f"{FUSED}, the most probable measured grain"
    assert drawn.distance is not None
    fields = {
        **{name: _at_known(name, values, known) for name, values in reference.fields.items()},
        "known": known,
        "spread_deg": spread.astype(np.float32),
        "distance_to_manifold": drawn.distance.astype(np.float32),
    }
    if result.posterior is not None:
        chance, q, estimate = result.posterior.probability, result.posterior.quaternions, result.posterior.estimate()
        # How probable it is that the grain is the right one, and the radius of the recalibrated 90 % interval.
        right, interval = np.ones(known.shape, np.float32), np.zeros(known.shape, np.float32)
        right[~known] = chance.max(axis=1)
        interval[~known] = certainty.radius(chance, q, estimate, result.level, reference.group)
        fields |= {"grain_probability": right, "interval_deg": interval}
    volume = dataclasses.replace(
        reference,
        quaternions=result.quaternions,
        mask=np.ones_like(known),
        phase=np.maximum(phase, 1),
        fields=fields,
        provenance={**reference.provenance, "reconstruction": f"missing voxels filled: {method}"},
    )
    cells = {"ipf_z": np.round(255 * _colours(result.quaternions, reference.group)).astype(np.uint8)}
    if objects.scored:
        cells["error_deg"] = _error_map(reference, known, result)
    return [
        export.write(volume, workdir / "reconstruction.vti", cells=cells),
        export.write(volume, workdir / "reconstruction.npz"),
    ]


def _write_report(
    workdir: Path,
    objects: experiment.Reconstruction,
    filled: dict[str, Filled],
    rows: dict[str, dict],
    spread: np.ndarray,
) -> list[Path]:
    reference, known = objects.reference, objects.known
    group = reference.group
    # A map is shown as it is. In a stack planes normal to its axis are all known or all missing; the others show the
    # sections from the side.
    flat = [axis for axis in (0, 1, 2) if reference.shape[axis] == 1]
    normals = flat or [axis for axis in (0, 1, 2) if axis != objects.stacking]
    panels = [Panel("reference", _colours(reference.quaternions, group), reference.mask)] if objects.scored else []
    panels.append(Panel("input", _colours(reference.quaternions, group), known))
    panels += [Panel(name, _colours(each.quaternions, group)) for name, each in filled.items()]
    pictures = [
        (
            f"Section normal to {'xyz'[axis]}, IPF colours for sample z.",
            slices.comparison(panels, axis=axis, spacing=reference.spacing),
        )
        for axis in normals
    ]
    picture = canvas.save(pictures[0][1], workdir / "sections.png")
    sections = [Section("Sections", figures=[*pictures, ("Colour key.", ipf_key.ipf_key(group))])]
    if rows:
        sections.insert(0, _scores(rows, int((~known & reference.mask).sum())))
    if objects.scored:
        sections.append(_errors(objects, filled, normals[0]))
    sections.append(_spreads(objects, spread, normals[0]))
    sections.append(_cubes(objects, filled.get(FUSED, filled[PRIOR])))
    page = report.write(
        workdir / "report.html",
        title=f"Filled: {objects.title}",
        summary=" ".join([_summary(rows, known), *_remarks(objects)]),
        sections=sections,
        headline=[
            (f"{row['mean_disorientation_deg']:.2f}°", f"mean disorientation, {name}") for name, row in rows.items()
        ],
        provenance={**reference.provenance, **json.loads((workdir / "environment.json").read_text())},
        config=(workdir / "config.json").read_text(),
    )
    return [page, picture]


def _colours(q: np.ndarray, group: str) -> np.ndarray:
    return np.asarray(ipf.colours(q, "z", group))


def _scores(rows: dict[str, dict], missing: int) -> Section:
    return Section(
        "Errors on missing voxels",
        "Disorientation between reference and reconstruction. A voxel is in the wrong grain when its "
        "orientation is nearer to a neighbouring grain's mean than to its own grain's. MAPE is the paper's "
        "figure, on ROGSH channels mapped to [0, 1]; copying slices already makes it small.",
        table=Table(COLUMNS, rows, note=f"{missing} missing voxels."),
    )


def _errors(objects: experiment.Reconstruction, filled: dict[str, Filled], normal: int) -> Section:
    maps = {name: _error_map(objects.reference, objects.known, each) for name, each in filled.items()}
    drawing = slices.degree_maps(maps, axis=normal, spacing=objects.reference.spacing, known=objects.known)
    caption = f"Disorientation to the reference, section normal to {'xyz'[normal]}; known voxels grey."
    return Section("Error in degrees", figures=[(caption, drawing)])


def _spreads(objects: experiment.Reconstruction, spread: np.ndarray, normal: int) -> Section:
    drawing = slices.degree_maps(
        {"spread": spread}, label="spread (°)", axis=normal, spacing=objects.reference.spacing, known=objects.known
    )
    return Section(
        "Spread",
        "Mean disorientation between two answers drawn at random, from the probabilities of the grains where there "
        "are any and else from the prior; large where the reconstruction does not know.",
        figures=[(f"Spread in degrees, section normal to {'xyz'[normal]}.", drawing)],
    )


def _cubes(objects: experiment.Reconstruction, result: Filled) -> Section:
    reference, known = objects.reference, objects.known
    drawing = cubes.cubes(
        {
            "input": _colours(reference.quaternions, reference.group),
            "reconstruction": _colours(result.quaternions, reference.group),
        },
        spacing=reference.spacing,
        known={"input": known, "reconstruction": np.ones_like(known)},
        columns=2,
    )
    return Section("Volume", figures=[("Input and reconstruction.", drawing)])


def _remarks(objects: experiment.Reconstruction) -> list[str]:
    """What to know of the models of the candidate grains that were fitted before."""
    kept = objects.calibration
    if kept is None:
        return []
    remarks = []
    if objects.scored and any(samples.may_overlap(source, objects.title) for source in kept.sources):
        remarks.append(f"{FUSED} and {SHAPES} were fitted on this material: their figures are optimistic.")
    other = [key for key in ("method", "start", "theta") if objects.settings[key] != kept.settings.get(key)]
    if other:
        fitted = ", ".join(f"{key} {kept.settings.get(key)}" for key in other)
        remarks.append(f"{FUSED} was fitted to draws of {fitted}: its probabilities are less certain here.")
    return remarks


def _summary(rows: dict[str, dict], known: np.ndarray) -> str:
    share = f"{100 * (~known).mean():.0f} % of {known.size:,} voxels were missing and were filled."
    if not rows:
        return share + " There is no reference to score against."
    mean = {name: row["mean_disorientation_deg"] for name, row in rows.items()}
    best = min(mean, key=lambda name: mean[name])
    chosen = FUSED if FUSED in mean else PRIOR
    return (
        f"{share} The reconstruction ({chosen}) is off by {mean[chosen]:.2f} degrees on average, copying the nearest "
        f"known voxel by {mean['nearest slice']:.2f}. The best of the methods shown is: {best}."
    )
