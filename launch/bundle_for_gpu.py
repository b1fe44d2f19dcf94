"""Packs a training for a machine that has JAX and CUDA but no network: code, missing packages, state, one command.

Usage:
    python launch/bundle_for_gpu.py OUT --config configs/compact_gpu.py --installed freeze.txt
        [--workdir runs/compact_gpu] [--python 3.12] [--minutes 9] [-- --config.train.seed=1 ...]

``freeze.txt`` is what ``python3 -m pip list --format=freeze`` prints on that machine: what it has is left alone,
whatever its version, and everything else the package needs travels as wheels. Copy OUT there, run ``bash OUT/run.sh``.
It goes on from the workdir that came along, stops after so many minutes, and leaves in OUT/results the log, sheets, and
in pieces of at most 16 MiB the newest weights (results/weights) and the whole workdir with its optimiser state
(results/workdir). Bring either back and put it together with

    python launch/bundle_for_gpu.py FOLDER --join OUT/results/weights/latest.safetensors.json

then bundle again: with the workdir the training goes on exactly, with ``-- --config.train.initial=latest.safetensors``
it goes on from the weights with a fresh optimiser.
"""

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from polymicros_jax.data.atomic import replacing
from polymicros_jax.training.pieces import join, split

ROOT = Path(__file__).parents[1]

PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")

SCRIPT = """#!/usr/bin/env bash
# Made by launch/bundle_for_gpu.py: runs one slice of a training where it lies.
set -euo pipefail
cd "$(dirname "$0")"
here=$PWD
python3 -m pip install -q --no-index --no-deps --no-compile --upgrade --target "$here/site" wheels/*.whl
export PYTHONPATH="$here/site${{PYTHONPATH:+:$PYTHONPATH}}"
pieces() {{
  python3 -c "import sys; from polymicros_jax.training import pieces; getattr(pieces, sys.argv[1])(*sys.argv[2:])" "$@"
}}
if [ -f state/{name}.json ] && [ ! -d {name} ]; then pieces join state/{name}.json .; fi
mkdir -p results/weights
status=0
timeout --signal=INT {seconds} python3 -m polymicros_jax.main --config={config} --workdir="$here"/{name} {flags} \\
  || status=$?
# Ended by itself or by the clock: both leave a checkpoint.
[ "$status" -eq 0 ] || [ "$status" -eq 124 ] || exit "$status"
for trail in metrics.jsonl tensorboard sheets; do
  if [ -e {name}/$trail ]; then cp -r {name}/$trail results/; fi
done
for weights in {name}/*.safetensors; do
  [ -f "$weights" ] || continue
  pieces split "$weights" results/weights
  cp "${{weights%.safetensors}}.json" results/weights/card_of_"$(basename "${{weights%.safetensors}}")".json
done
pieces split {name} results/workdir
"""


def needed(package: str, have: Iterable[str], environment: dict[str, str]) -> dict[str, str]:
    """Names and versions, as installed here, of what a package needs and a machine lacks.

    Args:
      package: whose requirements to follow, down to the last; itself left out.
      have: names of the packages on the machine; their own requirements are taken to be there too.
      environment: markers of the machine, such as ``{"python_version": "3.12"}``.
    """
    seen, found, waiting = {_plain(name) for name in have}, {}, [package]
    while waiting:
        current = waiting.pop()
        for line in metadata.requires(current) or ():
            requirement = Requirement(line)
            name = _plain(requirement.name)
            marker = requirement.marker
            if name in seen or (marker is not None and not marker.evaluate({**environment, "extra": ""})):
                continue
            seen.add(name)
            found[name] = metadata.version(name)
            waiting.append(name)
    return dict(sorted(found.items()))


def _plain(name: str) -> str:
    """A package name as the index writes it."""
    return re.sub(r"[-_.]+", "-", name.split("==")[0].split(" @")[0].strip()).lower()


def download(packages: dict[str, str], folder: Path, python: str) -> None:
    """Wheels of exactly these packages, and of this one."""
    folder.mkdir(parents=True)
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)], check=True)
    there = ["--no-deps", "--only-binary=:all:", "--python-version", python]
    there += [flag for name in PLATFORMS for flag in ("--platform", name)]
    for name, version in packages.items():
        subprocess.run([*pip, "download", "-q", *there, "-d", str(folder), f"{name}=={version}"], check=True)


def bundle(
    out: Path, config: Path, have: Iterable[str], workdir: Path | None, python: str, minutes: float, flags: list[str]
) -> dict[str, str]:
    """Writes the folder; returns the packages that travel."""
    if out.exists():
        raise SystemExit(f"{out}: is there already; give another folder")
    packages = needed("polymicros-jax", have, {"python_version": python, "sys_platform": "linux"})
    download(packages, out / "wheels", python)
    shutil.copyfile(config, out / config.name)
    name = workdir.name if workdir is not None else config.stem
    if workdir is not None:
        split(workdir, out / "state")
    seconds = round(60 * minutes)
    with replacing(out / "run.sh") as temporary:
        temporary.write_text(
            SCRIPT.format(
                name=shlex.quote(name), seconds=seconds, config=shlex.quote(config.name), flags=shlex.join(flags)
            )
        )
    return packages


def main() -> None:
    """Bundles, or joins what came back."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--join", type=Path, metavar="LIST", help="join the pieces of this list into OUT instead")
    parser.add_argument("--config", type=Path, help="what to run")
    parser.add_argument("--installed", type=Path, help="packages of the other machine, a line each")
    parser.add_argument("--workdir", type=Path, help="folder of a training begun here, to go on with")
    parser.add_argument("--python", default="3.12", help="version there")
    parser.add_argument("--minutes", type=float, default=9.0, help="length of one slice")
    parser.add_argument("flags", nargs="*", help="after --: flags for the training")
    arguments = parser.parse_args()
    if arguments.join is not None:
        print(f"joined {join(arguments.join, arguments.out)}")
        return
    if arguments.config is None or arguments.installed is None:
        parser.error("--config and --installed are needed")
    have = [line for line in arguments.installed.read_text().splitlines() if line.strip() and line[0] != "#"]
    packages = bundle(
        arguments.out,
        arguments.config,
        have,
        arguments.workdir,
        arguments.python,
        arguments.minutes,
        arguments.flags,
    )
    print("packages that travel: " + (", ".join(f"{name} {version}" for name, version in packages.items()) or "none"))
    print(f"wrote {arguments.out}; there: bash {arguments.out.name}/run.sh")


if __name__ == "__main__":
    main()
