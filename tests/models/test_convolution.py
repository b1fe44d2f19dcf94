"""The two lowerings of the convolution: the same numbers, the same derivatives, in loops, mapped and sharded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polymicros_jax.models import convolution
from polymicros_jax.models.convolution import convolve_planes, convolve_tiles, convolve_volumes


def arrays(shape, into, out, dtype=jnp.float32):
    """Input, kernel and cotangent of a convolution whose output has the given batch and grid."""
    x_key, kernel_key, bar_key = jax.random.split(jax.random.key(0), 3)
    batch, *grid = shape
    x = jax.random.normal(x_key, (batch, *(side + 2 for side in grid), into), dtype)
    kernel = jax.random.normal(kernel_key, (3, 3, 3, into, out), dtype)
    return x, kernel, jax.random.normal(bar_key, (*shape, out), dtype)


def with_gradients(lowering):
    def run(x, kernel, y_bar):
        y, transpose = jax.vjp(lowering, x, kernel)
        return (y, *transpose(y_bar))

    return jax.jit(run)


def assert_close(one, other, tolerance):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance * float(np.std(b)))


# Each value is a sum of n products with errors of 2^-24 of a product each, in random order: below
# 2^-24 sqrt(n) sqrt(n) / sqrt(n) of the standard deviation sqrt(n), so some 1e-7; times 4 for the additions of the
# transforms in two axes, times 5 for the largest of thousands of values.
FLOAT32 = 2e-6


@pytest.mark.parametrize(
    ("shape", "scratch"),
    [
        ((2, 5, 6, 4), convolution.SCRATCH_BYTES),  # one portion
        ((2, 4, 8, 6), 1),  # four portions of two rows
        ((1, 2, 3, 5), 1),  # odd sides
    ],
)
def test_both_lowerings_agree_and_so_do_their_gradients(shape, scratch, monkeypatch):
    monkeypatch.setattr(convolution, "SCRATCH_BYTES", scratch)
    given = arrays(shape, 6, 5)
    assert_close(with_gradients(convolve_tiles)(*given), with_gradients(convolve_volumes)(*given), 3 * FLOAT32)


@pytest.mark.usefixtures("x64")
def test_tiles_are_the_sum_that_defines_a_convolution():
    x, kernel, _ = arrays((1, 2, 4, 4), 3, 2, jnp.float64)
    y = convolve_tiles(x, kernel)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3, 3), axis=(1, 2, 3))
    np.testing.assert_allclose(y, np.einsum("bxyzcijk,ijkcd->bxyzd", windows, kernel), atol=1e-13)
    assert np.abs(y - convolve_tiles(x, kernel[::-1])).max() > 1.0


def test_planes_agree_too():
    x, kernel, _ = arrays((2, 5, 4, 3), 4, 6)
    assert_close(convolve_planes(x, kernel), convolve_volumes(x, kernel), FLOAT32)


@pytest.mark.parametrize(("channels", "operation"), [(16, "stablehlo.dot_general"), (8, "stablehlo.convolution")])
def test_a_cpu_gets_the_lowering_of_its_channels(channels, operation):
    x, kernel, _ = arrays((1, 2, 2, 2), channels, channels)
    text = jax.jit(convolution.convolve).trace(x, kernel).lower(lowering_platforms=("cpu",)).as_text()
    assert [name for name in ("stablehlo.dot_general", "stablehlo.convolution") if name in text] == [operation]


def test_an_accelerator_gets_the_native_operation():
    x, kernel, _ = arrays((1, 2, 2, 2), 16, 16)
    text = jax.jit(convolution.convolve).trace(x, kernel).lower(lowering_platforms=("cuda",)).as_text()
    assert "stablehlo.convolution" in text
    assert "stablehlo.dot_general" not in text


def test_it_differentiates_again_maps_and_loops():
    """The guided sampler takes gradients inside loops; gradients of those must be right too."""
    x, kernel, _ = arrays((2, 2, 4, 2), 3, 3)

    def steepness(lowering):
        def loss(kernel, one):
            return jnp.sum(jnp.sin(lowering(one[None], kernel)))

        def total(kernel):
            gradients = jax.vmap(jax.grad(loss), (None, 0))(kernel, x)
            return jax.lax.fori_loop(0, 2, lambda _, s: s + jnp.sum(jnp.square(jax.grad(loss)(kernel, x[0]))), 0.0) + (
                jnp.sum(jnp.square(gradients))
            )

        return jax.jit(jax.grad(total))(kernel)

    # Two derivatives through sines: sums of as many more terms; ten times the error of one convolution.
    assert_close(steepness(convolve_tiles), steepness(convolve_volumes), 30 * FLOAT32)


def test_bfloat16_comes_back_as_bfloat16_rounded_once():
    x, kernel, _ = arrays((1, 2, 4, 4), 8, 4, jnp.bfloat16)
    y = convolve_tiles(x, kernel)
    assert y.dtype == jnp.bfloat16
    exact = convolve_volumes(x.astype(jnp.float32), kernel.astype(jnp.float32))
    np.testing.assert_allclose(y.astype(jnp.float32), exact, rtol=2**-8, atol=1e-4)
