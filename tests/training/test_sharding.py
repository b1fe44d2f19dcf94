"""Sharded equals unsharded, over rows and over space, on eight emulated devices; where rows and arrays lie."""

import json
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import pytest

from polymicros_jax.config import ConfigError
from polymicros_jax.training.mesh import build_mesh, on_this_process, place_patches, place_whole, rows_of_process

sys.path.insert(0, str(Path(__file__).parent))
import training_process

PROGRAM = Path(__file__).with_name("eight_devices.py")
# Sums of at most 16 x 8 x 4 x 4 x 2 values in another order, over the root mean square of each array: below
# sqrt(4096) roundings of 6e-8.
TOLERANCE = 4e-6


def started(case):
    environment = {
        **os.environ,
        "JAX_NUM_CPU_DEVICES": "8",
        "JAX_PLATFORMS": "cpu",
    }
    command = [sys.executable, str(PROGRAM), case]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def findings_of(process):
    output, errors = process.communicate(timeout=560)
    assert process.returncode == 0, errors
    findings = json.loads(output.splitlines()[-1])
    assert findings.pop("devices") == 8
    return findings


@pytest.fixture(scope="module")
def findings():
    """Both programs at once."""
    processes = {case: started(case) for case in ("steps", "layers")}
    try:
        return {case: findings_of(process) for case, process in processes.items()}
    finally:
        for process in processes.values():
            process.kill()


def test_steps_on_any_mesh_are_those_of_one_device(findings):
    differences = findings["steps"]
    assert differences.pop("other rows") > 1000 * TOLERANCE
    assert sorted(differences) == ["2 x 4", "8 x 1"]
    assert max(differences.values()) < TOLERANCE


def test_gradients_through_each_operation_are_those_of_one_device(findings):
    operations = {name: found for name, found in findings["layers"].items() if "difference" in str(found)}
    assert len(operations) == 6
    for name, found in operations.items():
        # Attention has four such sums one after the other: norm, softmax over voxels, context, norm.
        sums = 4 if name == "attention" else 1
        assert found["difference"] < TOLERANCE * np.sqrt(sums), name


def test_convolutions_exchange_boundary_layers_and_never_the_field(findings):
    found = findings["layers"]
    whole = found["elements"]
    assert max(found["gathered on purpose"]["received"]["all-gather"]) == whole
    for padding in ("replicate", "periodic"):
        for lowering in ("convolve_volumes", "convolve_tiles"):
            assert sorted(found[f"{lowering} {padding}"]["received"]) == ["all-reduce", "collective-permute"]
        received = found[f"convolve_volumes {padding}"]["received"]
        # Neighbours along "space" send layers; all devices sum the gradient of the kernel, 27 x 16 numbers. At most
        # three layers travel at once: one for the halo, up to two because padding moves the borders of the shares.
        layer = 1 * 8 * 8 * 4
        assert max(received["collective-permute"]) <= 3 * layer < whole / 4
        assert max(received["all-reduce"]) <= 27 * 16


@pytest.mark.slow
def test_four_devices_for_one_sample_need_a_share_of_the_memory_each():
    found = findings_of(started("unet"))
    # Sums over 32^3 voxels in another order, backwards through a dozen convolutions and norms; measured: 4e-5.
    assert found["difference"] < 4e-4
    alone, shared = found["memory"]
    assert shared < alone / 3  # 3.4 measured: the shares overlap by their boundary layers
    assert "all-gather" not in found["received"]


def test_a_mesh_of_devices_that_cannot_be_divided_is_refused():
    for wrong in (0, 3):
        with pytest.raises(ValueError, match=f"devices_per_sample: found {wrong}, accepted is a divisor of 4"):
            build_mesh(wrong, [jax.devices()[0]] * 4)


def test_devices_of_a_process_stand_together():
    mixed = [mock.Mock(spec=jax.Device, process_index=number % 2, id=number) for number in range(8)]
    found = build_mesh(2, mixed).devices
    assert [[device.id for device in row] for row in found] == [[0, 2], [4, 6], [1, 3], [5, 7]]


def test_on_one_device_everything_stays_as_it_is():
    mesh = build_mesh()
    assert dict(mesh.shape) == {"data": 1, "space": 1}
    rows = np.arange(2 * 4 * 4 * 4 * 1, dtype=np.float32).reshape(2, 4, 4, 4, 1)
    for where in (None, mesh):
        assert rows_of_process(where, 2) == (0, 2)
        np.testing.assert_array_equal(place_patches(where, rows, 2), rows)
        tree = {"a": jax.numpy.arange(3), "b": jax.numpy.float32(2.5)}
        for back in (place_whole(where, tree), on_this_process(place_whole(where, tree))):
            assert jax.tree.structure(back) == jax.tree.structure(tree)
            np.testing.assert_array_equal(back["a"], tree["a"])
            assert (back["b"].dtype, float(back["b"])) == (np.float32, 2.5)
    assert place_whole(None, tree) is tree


@pytest.mark.parametrize(
    ("devices", "apart", "batch", "reason"),
    [
        (1, 2, 8, "train.devices_per_sample: found 2, accepted is a divisor of 1 devices"),
        (8, 0, 8, "train.devices_per_sample: found 0"),
        (8, 4, 8, "train.patch: found 8, accepted is a multiple of 32: .* stride of 8 times 4 devices per sample"),
        (8, 1, 8, "train.optimisation: 8 patches in 2 parts do not divide among 8 groups of 1 devices"),
    ],
)
def test_a_config_that_does_not_fit_the_devices_is_refused(monkeypatch, devices, apart, batch, reason):
    fields = training_process.MemoryFields((training_process.FIELD,))
    monkeypatch.setattr(training_process.objects, "fields", lambda *_: fields)
    monkeypatch.setattr(training_process.unet3d, "init", training_process.init)
    monkeypatch.setattr(jax, "device_count", lambda: devices)
    config = training_process.config()
    config.train.devices_per_sample, config.train.optimisation.batch = apart, batch
    with pytest.raises(ConfigError, match=reason):
        training_process.objects.training(config)
