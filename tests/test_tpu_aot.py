"""What benchmarks/tpu_aot.py makes of a compiled program; on the CPU, so libtpu is not needed."""

import functools

import jax
import jax.numpy as jnp
import pytest

from benchmarks import tpu_aot
from ldeq_jax.mesh import batch_sharding, make_mesh, replicated


def test_cost_of_open_and_nested_loops_is_that_of_their_steps():
    product = 2 * 16**3  # FLOPs

    def twice(x):  # nothing moves out of the loops: each product needs the one before
        return jax.lax.scan(lambda x, _: (jnp.tanh(x @ x), None), x, length=2)[0]

    def program(x, budget):
        def body(carry):
            x, step = carry
            return twice(jnp.tanh(x @ x)), step + 1

        x, _ = jax.lax.while_loop(lambda carry: carry[1] < budget, body, (x @ x, 0))
        return x

    arguments = jax.ShapeDtypeStruct((16, 16), jnp.float32), jax.ShapeDtypeStruct((), jnp.int32)
    traced = jax.jit(program).trace(*arguments)
    once = tpu_aot.cost_of(traced.lower().compile())
    parts = tpu_aot.parts_of("program", once, traced.jaxpr, iter([5]), jax.devices()[0])
    assert [part.times for part in parts] == [1, 5, 10]
    flops = sum(part.times * part.cost.flops for part in parts)
    assert flops == pytest.approx((1 + 5 * (1 + 2)) * product, rel=0.01)


def test_loops_of_other_platforms_are_not_counted():
    def repeated(times, x):
        return jax.lax.fori_loop(0, times, lambda _, x: jnp.sin(x), x)

    def program(x):
        ways = {"cpu": functools.partial(repeated, 2), "default": functools.partial(repeated, 3)}
        return jax.lax.platform_dependent(x, **ways)

    (loop,) = tpu_aot.loops(jax.make_jaxpr(program)(1.0).jaxpr)
    assert loop.length == 3


def test_collectives_are_counted_with_their_bytes():
    mesh = make_mesh(4, jax.devices()[:2])

    def program(x, y):
        y = jax.lax.while_loop(lambda y: jnp.any(y < 9), lambda y: y + 1, y)
        return jnp.sum(x, axis=0), y

    shardings = batch_sharding(mesh)
    function = jax.jit(program, in_shardings=shardings, out_shardings=(replicated(mesh), shardings))
    shapes = jax.ShapeDtypeStruct((4, 3, 5), jnp.float32), jax.ShapeDtypeStruct((4,), jnp.int32)
    found = tpu_aot.collectives(function.lower(*shapes).compile().as_text())
    assert [(c["kind"], c["in_loop"], c["count"]) for c in found] == [
        ("all-reduce", False, 1),
        ("all-reduce", True, 1),
    ]
    assert found[0]["bytes"] == 3 * 5 * 4
    assert found[1]["bytes"] <= 4  # a truth value
