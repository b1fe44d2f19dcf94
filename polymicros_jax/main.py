"""Command line: ``python -m polymicros_jax.main --config=configs/NAME.py [--workdir=DIR] [--config.key=value]``."""

import os
import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from polymicros_jax import tasks
from polymicros_jax.config import ConfigError
from polymicros_jax.data.errors import DataError
from polymicros_jax.training import distributed

_CONFIG = config_flags.DEFINE_config_file("config", None, "What to run: a file of configs/.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder to write into. Default: runs/NAME.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the resolved config and stop.")


def main(argv: list[str]) -> int:
    """Dispatches to the task of the config; one line on standard error and exit status 2 for a mistake of the user."""
    logging.set_verbosity(logging.WARNING)
    if len(argv) > 1:
        print(f"error: unexpected argument {argv[1]!r}", file=sys.stderr)
        return 2
    config = _CONFIG.value
    if _DRY_RUN.value:
        print(config)
        return 0
    folder = Path(_WORKDIR.value or Path("runs") / Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem)
    try:
        if config.get("task") == "train":
            distributed.join(distributed.requested(os.environ))
        results = tasks.run(config, folder.absolute())
    except (ConfigError, DataError, FloatingPointError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if distributed.is_writer():
        print(results.summary)
        for path in results.files:
            print(f"wrote {path}")
    return 0


def run() -> None:
    """Entry point of the command line."""
    flags.mark_flag_as_required("config")
    app.run(main)


if __name__ == "__main__":
    run()
