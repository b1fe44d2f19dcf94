"""What ``--help`` prints: the tasks, the configs that are at hand, the flags."""

import ast
from pathlib import Path

TASKS = {
    "train": "a prior on patches of volumes or of a dataset",
    "generate": "a dataset of periodic polycrystals, by local-to-global diffusion",
    "super_resolve": "fill what a scan is missing, with error bars, and score it where the truth is known",
    "expand": "grow periodic 3D volumes from one to three 2D maps",
    "evaluate": "every method and baseline on volumes whose truth is known; fits the calibration",
    "realism": "what draws of a local model share with their source",
    "diversity": "how different volumes are from each other, beside measured and synthetic ones",
    "convert": "a scan from one format to others, DAMASK input included",
    "bootstrap": "a chain of the tasks above, each in its own folder",
}
"""A line for every task, by the name a config gives it."""

COMMAND = "python -m polymicros_jax.main --config=configs/NAME.py [--workdir=DIR] [--config.key=value]"

_TEXT = """\
{command}

Tasks, what `config.task` can be:
{tasks}

Configs in {folder}:
{configs}

Flags:
  --config=FILE       what to run
  --config.KEY=VALUE  changes any key of it; --dry_run prints the keys
  --workdir=DIR       folder to write into; default runs/NAME. The same command given again goes on with a killed train,
                      generate, evaluate, expand or bootstrap, and begins the others again; a run that is done says so
  --dry_run           prints the config, the size of the network, memory and expected time, and stops
  --helpfull          all flags of all modules
"""


def text() -> str:
    """The help as one text."""
    folder = folder_of_configs()
    found = {} if folder is None else headlines(folder)
    return _TEXT.format(
        command=COMMAND,
        tasks=_listed(TASKS),
        folder="configs/" if folder is None else f"{folder}/",
        configs=_listed(found) or "  none at hand: run from a clone of the repository, or write one (`config.default`)",
    )


def folder_of_configs() -> Path | None:
    """The folder ``configs`` of this directory or of the clone this package lies in, as a short path."""
    for folder in (Path("configs"), Path(__file__).parents[1] / "configs"):
        if any(folder.glob("*.py")):
            return folder
    return None


def headlines(folder: Path) -> dict[str, str]:
    """First line of the docstring of every config by name; the files are read, not run."""
    found = {}
    for path in sorted(folder.glob("*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        found[path.stem] = (docstring or "no description").splitlines()[0]
    return found


def _listed(entries: dict[str, str]) -> str:
    width = max(map(len, entries), default=0)
    return "\n".join(f"  {name:<{width}}  {line}" for name, line in entries.items())
