"""Command line: ``python -m polymicros_jax.main --config=configs/NAME.py [--workdir=DIR] [--config.key=value]``."""

import os
import re
import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from polymicros_jax import dry_run, tasks, usage
from polymicros_jax.config import wrong_key
from polymicros_jax.training import distributed

_CONFIG = config_flags.DEFINE_config_file("config", None, "What to run: a file of configs/.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder to write into. Default: runs/NAME.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the config, parameters, memory and expected time, and stop.")

_SLIPS = (flags.Error, AttributeError, LookupError, OSError, TypeError, ValueError)  # what parsing raises


def main(argv: list[str]) -> int:
    """Dispatches to the task of the config; one line on standard error and exit status 2 for a mistake of the user."""
    logging.set_verbosity(logging.WARNING)
    if len(argv) > 1:
        print(f"error: unexpected argument {argv[1]!r}; --help says what there is", file=sys.stderr)
        return 2
    config = _CONFIG.value
    folder = Path(_WORKDIR.value or Path("runs") / _config_file(sys.argv).stem)
    try:
        tasks.require(config)
        if _DRY_RUN.value:
            print(dry_run.describe(config))
            return 0
        if config.task == "train":
            distributed.join(distributed.requested(os.environ))
        results = tasks.run(config, folder.absolute())
    except (FloatingPointError, ImportError, OSError, RuntimeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if distributed.is_writer():
        print("\n".join([results.summary, *(f"wrote {path}" for path in results.files)]))
    return 0


def _parse(argv: list[str]) -> list[str]:
    """Flags as absl reads them; for people who do not know them yet there is help, and one line for every slip."""
    if {"-h", "-help", "--help", "--helpshort"}.intersection(argv[1:]):
        print(usage.text())
        sys.exit(0)
    named = {argument.lstrip("-").split("=")[0] for argument in argv[1:]}
    if not named & {"config", "helpfull", "helpxml"}:
        print(f"error: --config is missing\n\n{usage.text()}", file=sys.stderr)
        sys.exit(2)
    if "config" in named and not (path := _config_file(argv)).is_file():
        print(f"error: --config: found no file {path}; those of configs/ are listed by --help", file=sys.stderr)
        sys.exit(2)
    try:
        return flags.FLAGS(argv)
    except _SLIPS as error:
        print(f"error: {error if isinstance(error, OSError) else _wrong_key(argv) or error}", file=sys.stderr)
        sys.exit(2)


def _config_file(argv: list[str]) -> Path:
    """The file that ``--config=FILE:ARGUMENT`` or ``--config FILE:ARGUMENT`` names."""
    found = [re.fullmatch(r"--?config(=(.*))?", each) for each in argv]
    values = [each[2] if each[1] else after for each, after in zip(found, [*argv[1:], ""], strict=True) if each]
    return Path(values[-1].split(":")[0] if values else "")


def _wrong_key(argv: list[str]) -> str | None:
    """What is wrong with the first ``--config.KEY`` that the file's config does not have."""
    keys = [re.match(r"--?(?:no)?config\.([^=]+)", argument) for argument in argv]
    plain, values = [each for each, key in zip(argv, keys, strict=True) if not key], flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=plain)
    try:
        values(plain, known_only=True)
    except _SLIPS:  # the file itself cannot be used
        return None
    return next(filter(None, (wrong_key(values["config"].value, key[1]) for key in keys if key)), None)


def run() -> None:
    """Entry point of the command line."""
    app.run(main, flags_parser=_parse)


if __name__ == "__main__":
    run()
