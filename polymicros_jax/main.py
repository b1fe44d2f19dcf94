"""Command line: ``python -m polymicros_jax.main --config=configs/NAME.py [--workdir=DIR] [--config.key=value]``."""

import os
import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from polymicros_jax import dry_run, tasks, usage
from polymicros_jax.config import ConfigError
from polymicros_jax.data.errors import DataError
from polymicros_jax.training import distributed

_CONFIG = config_flags.DEFINE_config_file("config", None, "What to run: a file of configs/.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder to write into. Default: runs/NAME.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the config, parameters, memory and expected time, and stop.")

_HELP = ("-h", "-help", "--help", "--helpshort")


def main(argv: list[str]) -> int:
    """Dispatches to the task of the config; one line on standard error and exit status 2 for a mistake of the user."""
    logging.set_verbosity(logging.WARNING)
    if len(argv) > 1:
        print(f"error: unexpected argument {argv[1]!r}; --help says what there is", file=sys.stderr)
        return 2
    config = _CONFIG.value
    folder = Path(_WORKDIR.value or Path("runs") / Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem)
    try:
        tasks.require(config)
        if _DRY_RUN.value:
            print(dry_run.describe(config))
            return 0
        if config.task == "train":
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


def _parse(argv: list[str]) -> list[str]:
    """Flags as absl reads them, but for the two calls of people who do not know them yet."""
    if any(argument in _HELP for argument in argv[1:]):
        print(usage.text())
        sys.exit(0)
    named = {argument.lstrip("-").split("=")[0] for argument in argv[1:]}
    if not named & {"config", "helpfull", "helpxml"}:
        print(f"error: --config is missing\n\n{usage.text()}", file=sys.stderr)
        sys.exit(2)
    try:
        return app.parse_flags_with_usage(argv)
    except AttributeError as error:  # ml_collections wraps the KeyError of a key that the config does not have
        cause = error.args[0]
        message = cause.args[0] if isinstance(cause, KeyError) else cause
        print(f"error: config has no key {message}; --dry_run prints those there are", file=sys.stderr)
        sys.exit(2)


def run() -> None:
    """Entry point of the command line."""
    app.run(main, flags_parser=_parse)


if __name__ == "__main__":
    run()
