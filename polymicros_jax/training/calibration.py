"""How far a prior's reconstructions can be believed: fitted on a volume with known truth, kept beside the weights.

A calibration belongs to a prior and to the way it is drawn from; the file stands beside ``NAME.safetensors`` as
``NAME.calibration.json``. It holds one entry per width of gap, because what a prior adds to shapes grows with the gap.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polymicros_jax.data.atomic import replacing
from polymicros_jax.data.errors import DataError
from polymicros_jax.orientation.grain_posterior import Weights
from polymicros_jax.training.prior import WEIGHTS

FORMAT = "polymicros_jax.Calibration/1"


@dataclasses.dataclass(frozen=True)
class Calibrated:
    """A model of the candidate grains and the level its intervals are asked for so that they cover 90 %."""

    weights: Weights
    level: float


@dataclasses.dataclass(frozen=True)
class Entry:
    """Fits for gaps of one width, in voxels: with the prior's draws, and from shapes alone."""

    gap: float
    with_prior: Calibrated
    shapes_alone: Calibrated


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Entries by width of gap, and what they were fitted on and with."""

    entries: tuple[Entry, ...]
    fitted_on: tuple[str, ...]
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def sources(self) -> tuple[str, ...]:
        """What the volumes it was fitted on were read from; their titles begin with it.

        >>> Calibration((), ("al1050/evaluate, every 2 voxels, one section in 4 along z known",)).sources
        ('al1050/evaluate',)
        """
        return tuple(dict.fromkeys(title.split(", ")[0] for title in self.fitted_on))

    def nearest(self, gap: float) -> Entry:
        """The entry whose gap is nearest on a logarithmic scale; scores are in units of the gap."""
        return min(self.entries, key=lambda entry: abs(math.log(entry.gap / gap)))


def path_for(prior: str | Path) -> Path:
    """Where the calibration of a shipped prior, or of the weights at a path, is kept.

    >>> path_for("compact_gsh4").name
    'compact_gsh4.calibration.json'
    """
    path = Path(prior)
    return (path if path.suffix == ".safetensors" else WEIGHTS / f"{prior}.x").with_suffix(".calibration.json")


def save_calibration(path: Path, calibration: Calibration) -> Path:
    """Writes the file; it appears whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({"format": FORMAT, **dataclasses.asdict(calibration)}, indent=2) + "\n")
        temporary.chmod(0o644)
    return path


def load_calibration(prior: str | Path) -> Calibration | None:
    """The calibration kept beside a prior; None where there is none.

    Raises:
      DataError: a file that is none.

    >>> calibration = load_calibration("compact_gsh4")
    >>> calibration is not None  # the shipped prior has one
    True
    """
    path = path_for(prior)
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text())
        if content["format"] != FORMAT:
            raise DataError(f"{path}: format is {content['format']!r}, accepted is {FORMAT!r}")
        entries = tuple(
            Entry(each["gap"], _calibrated(each["with_prior"]), _calibrated(each["shapes_alone"]))
            for each in content["entries"]
        )
        if not entries:
            raise DataError(f"{path}: entries: found none, accepted is at least one")
        return Calibration(entries, tuple(content["fitted_on"]), content["settings"])
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: {error!r}; accepted is a calibration written by the evaluate task") from error


def _calibrated(content: Mapping[str, Any]) -> Calibrated:
    return Calibrated(Weights(**content["weights"]), float(content["level"]))
