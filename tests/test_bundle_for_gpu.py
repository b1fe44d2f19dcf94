"""The bundle for a machine without a network: what travels, and what its script asks for. Nothing is downloaded."""

import importlib.util
import subprocess
from pathlib import Path

import pytest

from polymicros_jax.training.pieces import join

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def module():
    spec = importlib.util.spec_from_file_location("bundle_for_gpu", ROOT / "launch" / "bundle_for_gpu.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture
def requirements(module, monkeypatch):
    """A small world of packages: what each needs."""
    needs = {
        "polymicros-jax": ["jax>=0.6", "flax>=0.11", "tensorboardX", "pytest; extra == 'dev'"],
        "jax": ["jaxlib"],
        "flax": ["jax", "rich>=13", "Typing_Extensions", "tomli; python_version < '3.11'"],
        "tensorboardx": ["numpy", "protobuf"],
        "rich": ["pygments"],
    }
    monkeypatch.setattr(module.metadata, "requires", lambda name: needs.get(name))
    monkeypatch.setattr(module.metadata, "version", lambda name: f"1.{len(name)}")


def test_what_the_machine_lacks_is_followed_to_the_end(module, requirements):
    have = ["jax==0.4.30", "numpy==1.26", "typing.extensions==4", "Protobuf @ file:///x"]
    found = module.needed("polymicros-jax", have, {"python_version": "3.12"})
    # jax is there, so what it needs is too; the extra and the marker of an older Python do not count.
    assert found == {"flax": "1.4", "pygments": "1.8", "rich": "1.4", "tensorboardx": "1.12"}
    assert "tomli" in module.needed("polymicros-jax", have, {"python_version": "3.10"})


def test_a_bundle_holds_wheels_state_config_and_a_script_that_parses(module, requirements, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(module.subprocess, "run", lambda command, **_: asked.append(command))
    workdir = tmp_path / "runs" / "begun"
    (workdir / "checkpoints").mkdir(parents=True)
    (workdir / "config.json").write_text("{}")
    out, config = tmp_path / "out", ROOT / "configs" / "compact_gpu.py"
    flags = ["--config.train.name=a b"]
    module.bundle(out, config, ["jax", "numpy", "protobuf"], workdir, "3.12", 1.5, flags)
    monkeypatch.undo()
    assert [command[3:5] for command in asked] == [["wheel", "-q"], *[["download", "-q"]] * 5]
    assert [command[-1] for command in asked[1:]][:2] == ["flax==1.4", "pygments==1.8"]
    assert all("3.12" in command for command in asked[1:])
    assert (out / "compact_gpu.py").read_text() == config.read_text()
    assert (join(out / "state" / "begun.json", tmp_path / "there") / "config.json").read_text() == "{}"
    script = (out / "run.sh").read_text()
    assert "timeout --signal=INT 90 python3 -m polymicros_jax.main --config=compact_gpu.py" in script
    assert "'--config.train.name=a b'" in script
    assert '--workdir="$here"/begun' in script
    subprocess.run(["bash", "-n", str(out / "run.sh")], check=True)
    with pytest.raises(SystemExit, match="is there already"):
        module.bundle(out, config, [], None, "3.12", 1.0, [])


def test_a_workdir_with_a_blank_in_its_name_is_one_word(module, requirements, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "download", lambda packages, folder, python: folder.mkdir(parents=True))
    workdir = tmp_path / "begun here"
    workdir.mkdir()
    (workdir / "config.json").write_text("{}")
    out = tmp_path / "out"
    module.bundle(out, ROOT / "configs" / "compact_gpu.py", [], workdir, "3.12", 1.0, [])
    line = next(each for each in (out / "run.sh").read_text().splitlines() if "--workdir=" in each)
    words = line[line.index("--workdir=") :].removesuffix("\\")
    shell = ["bash", "-c", f"here=/x; printf '[%s]' {words}"]
    assert subprocess.run(shell, capture_output=True, check=True, text=True).stdout == "[--workdir=/x/begun here]"


def test_the_script_runs_a_slice_and_leaves_pieces(module, requirements, tmp_path, monkeypatch):
    """With a stand-in for Python that trains nothing and splits by copying."""
    monkeypatch.setattr(module, "download", lambda packages, folder, python: folder.mkdir(parents=True))
    out = tmp_path / "out"
    module.bundle(out, ROOT / "configs" / "compact_gpu.py", [], None, "3.12", 1.0, [])
    tools = tmp_path / "tools"
    tools.mkdir()
    fake = tools / "python3"
    fake.write_text(
        '#!/usr/bin/env bash\necho "$@" >> "$CALLS"\n'
        'case "$*" in *polymicros_jax.main*) mkdir -p compact_gpu; touch compact_gpu/metrics.jsonl '
        "compact_gpu/latest.safetensors compact_gpu/latest.json; exit ${STATUS:-0};; esac\n"
    )
    fake.chmod(0o755)
    calls = tmp_path / "calls"
    environment = {"PATH": f"{tools}:/usr/bin:/bin", "CALLS": str(calls)}
    subprocess.run(["bash", str(out / "run.sh")], check=True, env=environment)
    lines = calls.read_text().splitlines()
    assert "--no-index --no-deps" in lines[0]
    assert lines[1].startswith(f"-m polymicros_jax.main --config=compact_gpu.py --workdir={out}/compact_gpu")
    assert lines[2].endswith("split compact_gpu/latest.safetensors results/weights")
    assert lines[3].endswith("split compact_gpu results/workdir")
    assert sorted(path.name for path in (out / "results").iterdir()) == ["metrics.jsonl", "weights"]
    # A training that fails is not taken for one the clock ended.
    failed = subprocess.run(["bash", str(out / "run.sh")], check=False, env={**environment, "STATUS": "2"})
    assert failed.returncode == 2
