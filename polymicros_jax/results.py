"""What a task hands back: a few lines for people, and the paths of what it wrote."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from polymicros_jax.data.atomic import replacing


@dataclasses.dataclass(frozen=True)
class Results:
    """Outcome of a task."""

    summary: str
    files: Sequence[Path] = ()

    def to_json(self, workdir: Path) -> dict[str, Any]:
        """JSON-compatible; paths inside ``workdir`` become relative to it."""
        inside = [path.relative_to(workdir) if path.is_relative_to(workdir) else path for path in self.files]
        return {"summary": self.summary, "files": [str(path) for path in inside]}


def write_json(path: Path, content: Any) -> Path:
    """Writes a file that appears whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
    return path
