"""Choices and clipping: values, and derivatives that ask for no equality of computed numbers."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Jaxpr, JaxprEqn, Var

from polymicros_jax.choice import clip, ordered
from polymicros_jax.diffusion.preconditioning import within
from polymicros_jax.orientation import embedding, ipf, quaternion, texture
from polymicros_jax.spectral.random_field import sample_reference_row


def test_ordered_and_clip_are_those_of_numpy() -> None:
    a, b = np.random.default_rng(0).integers(-3, 4, (2, 200)).astype(np.float32)  # with ties
    high, low = ordered(a, b)
    np.testing.assert_array_equal(high, np.maximum(a, b))
    np.testing.assert_array_equal(low, np.minimum(a, b))
    for bounds in ((-1.0, 2.0), (None, 1.0), (0.0, None)):
        np.testing.assert_array_equal(clip(a, *bounds), np.clip(a, *bounds))


def test_nan_is_not_lost() -> None:
    one, nan = np.ones(1, np.float32), np.full(1, np.nan, np.float32)
    for pair in ((one, nan), (nan, one)):
        assert np.isnan(np.stack(ordered(*pair))).sum() == 1
    assert np.isnan(clip(nan, 0.0, 1.0)).all()


def test_derivatives() -> None:
    """The larger and the smaller have one derivative each, at ties too; beyond a bound there is none."""
    for a, b in ((1.0, 2.0), (2.0, 1.0), (1.0, 1.0)):
        jacobian = np.array(jax.jacobian(lambda a, b: jnp.stack(ordered(a, b)), (0, 1))(a, b))
        assert sorted(jacobian.tolist()) == [[0.0, 1.0], [1.0, 0.0]]
    slope = jax.vmap(jax.grad(lambda x: clip(x, 0.0, 1.0)))
    assert slope(jnp.array([-0.5, 0.0, 0.5, 1.0, 1.5])).tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]


Q = np.asarray(quaternion.random(jax.random.key(0), (3,)))
DIFFERENTIATED = {
    "disorientation of cubic crystals": lambda q: quaternion.disorientation(q, Q, "432"),
    "disorientation of hexagonal crystals": lambda q: quaternion.disorientation(q, Q, "622"),
    "Rodrigues vectors": lambda q: quaternion.from_rodrigues(q[:, 1:]),
    "harmonics": embedding.encode,
    "nearest orientation": lambda q: embedding.decode(embedding.encode(q))[0],
    "colours of cubic crystals": lambda q: ipf.direction_colours(q[:, 1:], "432"),
    "colours of hexagonal crystals": lambda q: ipf.direction_colours(q[:, 1:], "622"),
    "pole density": lambda q: texture.pole_figure(q, (1, 0, 0), np.array([[0.0, 0.0, 1.0]], np.float32)),
    "denoiser in a ball": lambda q: within(lambda x, sigma: x, radius=0.5)(q, 0.1),
    "field with given covariances": lambda q: sample_reference_row(jax.random.key(0), q[:, :, None] * q[:, None, :]),
}


def equations(program: Jaxpr) -> Iterator[JaxprEqn]:
    """Of a program and of all programs within."""
    for equation in program.eqns:
        yield equation
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            if hasattr(inner, "eqns"):
                yield from equations(getattr(inner, "jaxpr", inner))


def computed(equation: JaxprEqn) -> bool:
    """Whether all it takes are floating-point numbers, and none is written in the program."""
    return all(isinstance(x, Var) and jnp.issubdtype(x.aval.dtype, jnp.floating) for x in equation.invars)


@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_no_derivative_asks_whether_two_computed_numbers_are_equal(name: str) -> None:
    """What `jnp.maximum` does: where a number is computed twice with different roundings, the answer is no."""

    def product(q, weights):
        value, back = jax.vjp(DIFFERENTIATED[name], q)
        return value, back(jnp.broadcast_to(weights, value.shape))

    program = jax.make_jaxpr(product)(Q, jnp.float32(1.0)).jaxpr
    assert not [equation for equation in equations(program) if equation.primitive.name == "eq" and computed(equation)]


def test_the_derivative_of_maximum_does() -> None:
    program = jax.make_jaxpr(jax.grad(lambda a: jnp.maximum(2 * a, a * a)))(3.0).jaxpr
    assert any(equation.primitive.name == "eq" and computed(equation) for equation in equations(program))
