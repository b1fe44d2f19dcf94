"""What a task hands back: a few lines for people, and the paths of what it wrote."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from polymicros_jax.data.atomic import replacing

Cell = float | int | str | None


@dataclasses.dataclass(frozen=True)
class Results:
    """Outcome of a task."""

    summary: str
    files: Sequence[Path] = ()

    def to_json(self, workdir: Path) -> dict[str, Any]:
        """JSON-compatible; paths inside ``workdir`` become relative to it."""
        inside = [path.relative_to(workdir) if path.is_relative_to(workdir) else path for path in self.files]
        return {"summary": self.summary, "files": [str(path) for path in inside]}


def table(head: Sequence[str], rows: Mapping[str, Sequence[Cell]]) -> str:
    """A table for people: names to the left, four digits of each number to the right, a dash where there is none.

    >>> print(table(["set", "rank", "cubes"], {"measured": [12.3456, 24], "drawn": [None, 24]}))
    set        rank  cubes
    measured  12.35     24
    drawn         –     24
    """
    lines = [list(head), *([name, *map(_cell, values)] for name, values in rows.items())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )


def _cell(value: Cell) -> str:
    if isinstance(value, str):
        return value
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}"


def write_json(path: Path, content: Any) -> Path:
    """Writes a file that appears whole or not at all; numbers that are not finite, which JSON lacks, become null."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(finite(content), indent=2, allow_nan=False) + "\n")
    return path


def finite(content: Any) -> Any:
    """What `write_json` writes of it: mappings and lists with None for numbers that are not finite."""
    if isinstance(content, Mapping):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
