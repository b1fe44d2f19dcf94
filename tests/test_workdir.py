"""The folder of a run: claimed by one config, done once."""

import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest

from polymicros_jax import config as defaults
from polymicros_jax import tasks, workdir
from polymicros_jax.config import ConfigError
from polymicros_jax.data import samples
from polymicros_jax.data.export import write
from polymicros_jax.results import Results, table, write_json


def read(path):
    return json.loads(path.read_text())


def claim(folder, config):
    workdir.check(folder, config)
    workdir.start(folder, config)


def test_a_check_writes_nothing(tmp_path):
    workdir.check(tmp_path / "new", defaults.default("train"))
    assert not (tmp_path / "new").exists()


def test_a_new_folder_is_claimed_and_taken_up_again(tmp_path):
    folder = tmp_path / "runs" / "a"
    claim(folder, defaults.default("train"))
    written = read(folder / "config.json")
    assert written["task"] == "train"
    assert written["train"]["optimisation"]["steps"] == defaults.default("train").train.optimisation.steps
    environment = read(folder / "environment.json")
    assert environment["versions"]["jax"] == jax.__version__
    assert environment["versions"]["numpy"] == np.__version__
    assert len(environment["devices"]) == jax.device_count()
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    claim(folder, defaults.default("train"))
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_an_empty_folder_is_accepted(tmp_path):
    claim(tmp_path, defaults.default("convert"))
    assert (tmp_path / "config.json").exists()


def test_a_folder_whose_start_was_killed_is_taken_for_a_new_one(tmp_path):
    for name in ("environment.json", ".environment.json.7.00ff.part", ".config.json.7.00ff.part"):
        (tmp_path / name).write_text("{")
    claim(tmp_path, defaults.default("convert"))
    assert read(tmp_path / "config.json")["task"] == "convert"
    (other := tmp_path / "other").mkdir()
    (other / ".data.npz.7.00ff.part").write_text("")
    with pytest.raises(ConfigError, match="is not empty"):
        workdir.check(other, defaults.default("convert"))


def test_another_config_is_refused_by_the_key_that_differs(tmp_path):
    claim(tmp_path, defaults.default("train"))
    before = (tmp_path / "config.json").read_bytes()
    other = defaults.default("train")
    other.train.optimisation.steps = 123456
    there = defaults.default("train").train.optimisation.steps
    with pytest.raises(ConfigError, match=rf"config\.train\.optimisation\.steps is {there} there and 123456 now"):
        claim(tmp_path, other)
    with pytest.raises(ConfigError, match=r"config\.(convert|task|train)"):
        claim(tmp_path, defaults.default("convert"))
    assert (tmp_path / "config.json").read_bytes() == before


def test_tuples_survive_the_file(tmp_path):
    config = defaults.default("generate")
    config.generate.shape = (32, 16, 8)
    claim(tmp_path, config)
    claim(tmp_path, config)
    config.generate.shape = (32, 16, 16)
    with pytest.raises(ConfigError, match=r"config\.generate\.shape is \[32, 16, 8\] there and \[32, 16, 16\] now"):
        claim(tmp_path, config)


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("chapter")
    with pytest.raises(ConfigError, match=r"is not empty and has no config\.json"):
        claim(tmp_path, defaults.default("train"))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_results_are_kept_and_relative_to_the_folder(tmp_path):
    assert workdir.finished(tmp_path) is None
    inside, outside = tmp_path / "figures" / "a.png", Path("/elsewhere/b.vti")
    results = Results("two lines\nof text", (inside, outside)).to_json(tmp_path)
    assert results == {"summary": "two lines\nof text", "files": ["figures/a.png", "/elsewhere/b.vti"]}
    workdir.finish(tmp_path, results)
    assert workdir.finished(tmp_path) == results
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_what_is_not_json_leaves_the_old_file(tmp_path):
    path = write_json(tmp_path / "metrics.json", {"error": 1.5})
    with pytest.raises(TypeError):
        write_json(path, {"error": object()})
    assert read(path) == {"error": 1.5}
    assert [each.name for each in tmp_path.iterdir()] == ["metrics.json"]


def test_a_program_without_git_still_runs(monkeypatch):
    def absent(*arguments, **options):
        raise FileNotFoundError("git")

    monkeypatch.setattr(workdir.subprocess, "run", absent)
    assert workdir.environment()["commit"] == "unknown"


def test_a_table_is_aligned_and_says_what_is_missing() -> None:
    found = table(["set", "rank", "cubes"], {"measured": [12.3456, 2400], "drawn": [float("nan"), None]})
    assert found.splitlines() == ["set        rank  cubes", "measured  12.35  2,400", "drawn         –      –"]


def test_a_number_that_is_not_finite_is_the_same_when_the_run_goes_on(tmp_path):
    config = defaults.default("train")
    config.train.optimisation.clip = float("inf")
    claim(tmp_path / "a", config)
    claim(tmp_path / "a", config)
    config.train.optimisation.clip = 2.0
    with pytest.raises(ConfigError, match=r"clip is None there and 2\.0 now"):
        workdir.check(tmp_path / "a", config)


def test_a_finished_run_says_that_its_input_changed(tmp_path):
    source = samples.load("in100").crop((0, 0, 0), (4, 4, 4)).save(tmp_path / "scan.npz")
    config = defaults.default("convert")
    config.convert.volume.source, config.convert.outputs = str(source), ("scan.vti",)
    tasks.run(config, tmp_path / "run")
    assert "changed since" not in tasks.run(config, tmp_path / "run").summary
    later = (tmp_path / "run" / "results.json").stat().st_mtime + 5
    os.utime(source, (later, later))
    again = tasks.run(config, tmp_path / "run").summary
    assert again.startswith("(done before)")
    assert f"{source} changed since: another --workdir runs it again" in again


def test_a_folder_of_inputs_may_hold_a_link_that_leads_nowhere(tmp_path):
    sections = write(samples.load("in100").crop((0, 0, 0), (4, 4, 3)), tmp_path / "sections", frame="edax")
    (sections / "notes").symlink_to(tmp_path / "gone")
    config = defaults.default("convert")
    source = config.convert.volume
    source.source, source.frame, source.slice_spacing = str(sections), "edax", 0.25
    config.convert.outputs = ("scan.vti",)
    tasks.run(config, tmp_path / "run")
    assert "changed since" not in tasks.run(config, tmp_path / "run").summary
    (sections / "section_0001.ang").unlink()
    later = (tmp_path / "run" / "results.json").stat().st_mtime + 5
    os.utime(sections, (later, later))
    assert f"{sections} changed since" in tasks.run(config, tmp_path / "run").summary


def test_a_dataset_that_other_workers_write_is_no_input(tmp_path):
    config = defaults.default("generate")
    config.generate.directory = str(tmp_path / "dataset")
    (tmp_path / "dataset").mkdir()
    workdir.start(tmp_path / "run", config)
    workdir.finish(tmp_path / "run", {})
    later = (tmp_path / "run" / "results.json").stat().st_mtime + 5
    os.utime(tmp_path / "dataset", (later, later))
    assert workdir.newer_inputs(tmp_path / "run", config) == []
    config.generate.priors = (str(tmp_path / "dataset"),)  # negative control: the same folder, read
    assert workdir.newer_inputs(tmp_path / "run", config) == [str(tmp_path / "dataset")]
