"""The command line: help, dry runs, slips in one line."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from polymicros_jax import config as defaults
from polymicros_jax import usage
from polymicros_jax.training.prior import read_card

sys.path.insert(0, str(Path(__file__).parent))
import config_files


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/quickstart.py", "--config.super_resolve.drews=1"], "drews"),
        (["--config=configs/quickstart.py", "--config.super_resolve.volume.source=nowhere.ang"], "nowhere.ang"),
    ],
)
def test_the_command_line_says_what_is_wrong(arguments: list[str], message: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "polymicros_jax.main", *arguments, f"--workdir={tmp_path / 'run'}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=config_files.ROOT, check=False)
    assert done.returncode != 0
    assert message in done.stderr
    assert not (tmp_path / "run").exists()


def _main(*arguments: str, cwd: Path = config_files.ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "polymicros_jax.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def test_a_dry_run_says_what_the_run_would_cost_and_writes_nothing(tmp_path: Path) -> None:
    # Two draws of 8 x 16 x 12 voxels, eight steps from pure noise: two evaluations a step, one in the last.
    small = ("--config.super_resolve.volume.stop=(8,16,12)", "--config.super_resolve.steps=8")
    asked = ("--config.super_resolve.draws=2", "--config.super_resolve.start=0.0")
    config = config_files.ROOT / "configs" / "quickstart.py"
    done = _main(f"--config={config}", "--dry_run", *small, *asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "in100/evaluate" in done.stdout
    assert "2 draws by 'project' of 8 x 16 x 12 voxels, 15 evaluations each" in done.stdout
    assert f"{read_card('compact_gsh4')['parameters']:,} parameters" in done.stdout
    assert "memory      about" in done.stdout
    assert "30 evaluations" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_help_names_tasks_and_configs(tmp_path: Path) -> None:
    for cwd in (config_files.ROOT, tmp_path):  # the configs are found from anywhere in a clone
        done = _main("--help", cwd=cwd)
        assert done.returncode == 0
        assert done.stderr == ""
        for task, line in usage.TASKS.items():
            assert f"  {task} " in done.stdout
            assert line in done.stdout
        for name in config_files.NAMES:
            first = (config_files.ROOT / "configs" / f"{name}.py").read_text().splitlines()[0].strip('"')
            assert re.search(rf"^  {name} +{re.escape(first)}$", done.stdout, re.MULTILINE)


def test_every_task_has_a_line() -> None:
    assert tuple(usage.TASKS) == defaults.TASKS


def test_a_file_without_a_description_is_named_and_not_run(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("raise RuntimeError\n")
    assert usage.headlines(tmp_path) == {"own": "no description"}


def test_a_call_without_config_says_what_there_is() -> None:
    done = _main()
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: --config is missing")
    assert "--config=configs/NAME.py" in done.stderr
    assert "quickstart" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--config=configs/nowhere.py",),
            "error: --config: found no file configs/nowhere.py; those of configs/ are listed by --help\n",
        ),
        (("--config=configs/nowhere.py:in100", "--config.seed=1"), "found no file configs/nowhere.py;"),
        (("--config=configs/quickstart.py", "--config.super_resolve.drews=1"), "super_resolve has no key 'drews'"),
        (
            ("--config=configs/generate_smoke.py", "--config.seed=1", "--config.generate.priors[0].prior=x"),
            "error: config.generate.priors[0] is 'compact_gsh4' and has no parts\n",
        ),
        (
            ("--config=configs/generate_smoke.py", "--config.generate.priors[7]=x"),
            "error: config.generate.priors has no [7], accepted are [0] to [0]\n",
        ),
        (
            ("--config=configs/local_32.py", "--config.train.volumes.source=x"),
            "error: config.train.volumes has no key 'source', accepted is a number in brackets\n",
        ),
        (("--config=configs/local_32.py", "--config.train.patch=large"), "invalid literal for int() with base 10"),
        (("--config=configs/quickstart.py", "dry_run"), "unexpected argument 'dry_run'"),
        (("--config=configs/quickstart.py", "--config.task=paint"), "task: found 'paint'"),
        (
            ("--config=configs/quickstart.py", "--config.task=train"),
            "task: found 'train', and the config has no section",
        ),
    ],
)
def test_a_slip_is_a_message_and_no_traceback(arguments: tuple[str, ...], message: str) -> None:
    done = _main(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_task_that_gives_up_says_why_in_a_line() -> None:
    program = (
        "from polymicros_jax import main, tasks\n"
        "def give_up(*arguments): raise RuntimeError('10 samples in a row refused')\n"
        "tasks.run = give_up\n"
        "main.run()\n"
    )
    command = [sys.executable, "-c", program, "--config=configs/convert.py"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=config_files.ROOT, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: 10 samples in a row refused\n"
