"""Errors and stated uncertainties of filled volumes against the truth, and the models that are fitted to the truth."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool

from polymicros_jax.data.volume import OrientationVolume
from polymicros_jax.filling_methods import LEVEL, Filled
from polymicros_jax.orientation import grain_posterior, grains, uncertainty
from polymicros_jax.orientation import posterior_uncertainty as certainty
from polymicros_jax.orientation.candidates import Candidates
from polymicros_jax.orientation.grain_posterior import GrainPosterior
from polymicros_jax.orientation.metrics import reconstruction_errors
from polymicros_jax.results import table
from polymicros_jax.training.calibration import Calibrated
from polymicros_jax.viz.report import RECONSTRUCTION_COLUMNS, Column

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


def calibrate(cases: list[Case], *, with_prior: bool) -> Calibrated:
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
