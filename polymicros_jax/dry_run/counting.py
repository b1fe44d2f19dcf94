"""What a traced program costs, counted from its equations: nothing is compiled and nothing is run.

Operations are those of matrix products and convolutions, two a multiplication and addition; the rest is not counted.
Memory is the largest sum of arrays that are alive at once when the equations run in the order they were traced in. XLA
fuses and reorders: it needs less for what it fuses and some scratch for convolutions and transposes.

Where a lowering is chosen by platform, the plain one is counted, so that the numbers are those of the mathematics.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Var


class Cost(NamedTuple):
    """Operations of matrix products and convolutions, and bytes alive at the peak, arguments included."""

    operations: float
    peak_bytes: int


def cost(function: Callable[..., Any], *arguments: Any) -> Cost:
    """Cost of a call. Arguments are arrays or trees of them; `jax.ShapeDtypeStruct` will do."""
    traced = jax.make_jaxpr(function)(*arguments).jaxpr
    inside = _walk(traced)
    return Cost(inside.operations, inside.peak_bytes + _total(traced.invars) + _total(traced.constvars))


def tree_bytes(tree: Any) -> int:
    """Bytes of all arrays of a tree, or of arrays of these shapes."""
    return sum(_bytes(leaf) for leaf in jax.tree.leaves(tree))


def _walk(program: Jaxpr) -> Cost:
    """Operations, and the peak of what the equations make: inputs are counted where they were made."""
    last_use = {}
    for number, equation in enumerate(program.eqns):
        last_use.update({v: number for v in equation.invars if isinstance(v, Var)})
    last_use.update({v: len(program.eqns) for v in program.outvars if isinstance(v, Var)})
    made: set[Var] = set()
    operations, alive, peak = 0.0, 0, 0
    for number, equation in enumerate(program.eqns):
        inside = _inside(equation)
        operations += inside.operations
        results = [v for v in equation.outvars if v in last_use]
        # What the equation makes inside includes its results.
        peak = max(peak, alive + max(inside.peak_bytes, _total(results)))
        made.update(results)
        alive += _total(results)
        ended = {v for v in equation.invars if isinstance(v, Var) and v in made and last_use[v] == number}
        alive -= _total(ended)
        made -= ended
    return Cost(operations, peak)


def _inside(equation: Any) -> Cost:
    """Cost of one equation but for its results."""
    name, parameters = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = parameters["dimension_numbers"]
        depth = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        return Cost(2.0 * depth * math.prod(equation.outvars[0].aval.shape), 0)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        features = kernel[parameters["dimension_numbers"].rhs_spec[0]]
        return Cost(2.0 * math.prod(kernel) / features * math.prod(equation.outvars[0].aval.shape), 0)
    if name == "cond":
        return _walk(parameters["branches"][-1].jaxpr)
    parts = [_walk(part) for value in parameters.values() for part in _programs(value)]
    repeats = parameters.get("length", 1) if name == "scan" else 1
    return Cost(repeats * sum(part.operations for part in parts), max((part.peak_bytes for part in parts), default=0))


def _programs(value: Any) -> list[Jaxpr]:
    if isinstance(value, ClosedJaxpr):
        return [value.jaxpr]
    return [value] if isinstance(value, Jaxpr) else []


def _total(variables: Any) -> int:
    return sum(_bytes(v.aval) for v in set(variables) if not isinstance(v, Literal))


def _bytes(array: Any) -> int:
    dtype = array.dtype
    # Random keys have no bytes of their own to ask for.
    return 0 if jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key) else array.size * dtype.itemsize
