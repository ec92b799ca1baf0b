r"""Training and video compiled for TPUs, on a machine without one: memory, cost, collectives.

  pip install -e '.[aot]'
  python benchmarks/tpu_aot.py --topology v5e:2x2 --program train --rows 16 --output=aot.json

Compiles the training step of ldeq train and the scan over frames of video prediction ahead of time,
with the compiler of a TPU machine, for all devices of a topology. Nothing is executed. A program of
the paper's size takes ten minutes on two cores; each result is written to --output at once.

Where the figures come from:

  memory       the compiler's plan for one device; exact. The compiler refuses a program that does
               not fit.
  collectives  the instructions in the compiled program, with the bytes of their results.
  FLOPs, bytes the compiler's count for one device. It counts the body of a loop once, so each body
               is compiled separately and multiplied by the solver's budget. Bytes are those that
               instructions read and write, in any memory; traffic in the chip's vector memory
               costs less than they suggest.
  bound        per part of the program, the larger of FLOPs / peak and bytes / memory bandwidth, as
               published: an estimate that was not checked on a chip.
  cycles       the compiler's own estimate of its fusions' cycles, summed in the same way, and
               converted to time at the clock that the published peak implies.
"""

import argparse
import dataclasses
import itertools
import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

import jax
import jax.export
import jax.numpy as jnp
from jax.experimental import topologies
from jax.experimental.layout import Format, Layout
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun, jaxprs_in_params

from ldeq_jax.errors import show_in_one_line

if __name__ == "__main__":
    show_in_one_line()

from ldeq_jax import configs
from ldeq_jax.config import Config
from ldeq_jax.data.faces import LandmarkBatch
from ldeq_jax.deq.equilibrium import Gradient
from ldeq_jax.face.schema import WFLW_98
from ldeq_jax.mesh import batch_sharding, make_mesh, replicated
from ldeq_jax.model import rwr
from ldeq_jax.model.ldeq import variable_shapes
from ldeq_jax.report import tables
from ldeq_jax.report.records import to_json
from ldeq_jax.training.optimizer import make_optimizer
from ldeq_jax.training.state import TrainState
from ldeq_jax.training.step import make_train_step

CONFIGS = {"train": "wflw", "video": "wflw_v"}
FRAMES = 8  # per video


class Chip(NamedTuple):
    """Published peaks of a chip, per second: https://cloud.google.com/tpu/docs/v6e (both)."""

    flops: float  # bfloat16; float32 operands are rounded to it at JAX's default precision
    memory: float  # bytes
    bandwidth: float  # bytes, of that memory
    interconnect: float  # bytes, of all links of a chip, one way
    flops_per_cycle: float  # of its matrix units: 4 of 128 x 128, and 4 of 256 x 256


CHIPS = {
    "v5e": Chip(197e12, 16e9, 819e9, 1600e9 / 8, 2 * 4 * 128**2),
    "v6e": Chip(918e12, 32e9, 1640e9, 3584e9 / 8, 2 * 4 * 256**2),
}


class Program(NamedTuple):
    """A jitted function, its arguments, and the iterations of its loops of unknown length."""

    function: Any
    arguments: tuple
    trips: list[int]  # in the order in which the program has them
    images: int  # that one device processes


class Cost(NamedTuple):
    """The work of one device."""

    flops: float
    bytes: float
    cycles: float


class Part(NamedTuple):
    """A part of a program: how often it runs, and the cost of one run."""

    name: str
    times: int
    cost: Cost


def main() -> None:
    """Compiles every combination of the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--topology", nargs="+", default=["v5e:2x2"], help="chips, e.g. v5e:2x2 v6e:4x4")
    add("--program", nargs="+", default=["train"], choices=CONFIGS)
    add("--config", help="name or file of a config instead of wflw (train) or wflw_v (video)")
    add("--dtype", nargs="+", default=["float32"], choices=["float32", "bfloat16"])
    add("--rows", nargs="+", type=int, default=[16], help="images, or videos, per device")
    add(
        "--max_steps",
        nargs="+",
        type=int,
        default=[None],
        help="budget of training, both ways, or of a frame of video; the config's if unset",
    )
    add("--gradient", choices=get_args(Gradient), help="training gradient; the config's if unset")
    add("--no_cost", action="store_true", help="only memory and collectives, in half the time")
    add("--bodies", action="store_true", help="compile the loops' bodies instead of the program")
    add("--lower", action="store_true", help="only lower the program, for GPUs and TPUs")
    add("--output", type=Path, help="add the results to this JSON file")
    given = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")  # libtpu compiles, but there is no TPU,
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # no cloud metadata,
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # and no device to lock
    records = []
    for name, dtype, steps, rows, topology in itertools.product(
        given.program, given.dtype, given.max_steps, given.rows, given.topology
    ):
        config = configs.load(given.config or CONFIGS[name])
        config = configured(config, dtype, steps, given.gradient)
        what = name, config, rows, topology
        if given.lower:
            print(f"{name}, {dtype}: {lowered(name, config, rows)}", flush=True)
            continue
        for record in bodies(*what) if given.bodies else whole(*what, not given.no_cost):
            records.append(record)
            print(to_json(record), flush=True)
            if given.output:
                before = json.loads(given.output.read_text()) if given.output.exists() else []
                given.output.write_text(to_json([*before, record], indent=1))
    if given.lower:
        return
    print(f"\nMemory and exchange per device\n\n{memory_table(records)}")
    print(f"Cost per device (an estimate: no TPU was used)\n\n{cost_table(records)}")


def configured(config: Config, dtype: str, steps: int | None, gradient: str | None) -> Config:
    """The config with 98 landmarks, a precision, a budget and a gradient."""
    config = config.for_schema(WFLW_98)
    gradient = gradient or config.model.gradient
    model, recurrence = (
        dataclasses.replace(config.model, dtype=dtype, gradient=gradient),
        config.rwr,
    )
    if steps is not None:
        recurrence = dataclasses.replace(recurrence, budget=steps)
        solvers = {
            way: dataclasses.replace(getattr(model, way), max_steps=max(steps, 1))
            for way in ("forward", "backward")
        }
        model = dataclasses.replace(model, **solvers)
    return dataclasses.replace(config, model=model, rwr=recurrence)


def train_program(config: Config, rows: int, mesh: jax.sharding.Mesh) -> Program:
    """The training step, with `rows` images per device."""
    model, batch_size = config.model, rows * mesh.size
    variables = variable_shapes(model)
    optimizer = make_optimizer(config.optimizer, config.train.num_steps)
    state = TrainState(
        step=jax.ShapeDtypeStruct((), jnp.int32),
        **variables,
        opt_state=jax.eval_shape(optimizer.init, variables["params"]),
        ema=variables["params"] if config.optimizer.ema_decay else {},
    )
    size = model.image_size
    batch = LandmarkBatch(
        image=jax.ShapeDtypeStruct((batch_size, size, size, 3), jnp.uint8),
        landmarks=jax.ShapeDtypeStruct((batch_size, model.num_landmarks, 2), jnp.float32),
        mask=jax.ShapeDtypeStruct((batch_size,), bool),
        frame_from_crop=jax.ShapeDtypeStruct((batch_size, 3, 3), jnp.float32),
        index=jax.ShapeDtypeStruct((batch_size,), jnp.int32),
    )
    step = make_train_step(model, config.optimizer, config.train, WFLW_98.eye_corners, mesh)
    trips = [model.forward.max_steps]
    if model.gradient == "implicit":
        trips.append(model.backward.max_steps)
    return Program(step, (state, batch), trips, rows)


def video_program(config: Config, rows: int, mesh: jax.sharding.Mesh) -> Program:
    """Recurrence over the frames of `rows` videos per device, all frames with a face."""
    model, videos, frames = config.model, rows * mesh.size, FRAMES
    everywhere, by_video = replicated(mesh), batch_sharding(mesh)

    def scan(variables, settings, images, state, frame_from_crop):
        return rwr.scan(model, variables, settings, images, state, frame_from_crop=frame_from_crop)

    size = model.image_size
    arguments = (
        variable_shapes(model),
        config.rwr,
        jax.ShapeDtypeStruct((videos, frames, size, size, 3), jnp.uint8),
        jax.eval_shape(lambda: rwr.initial_state(model, videos)),
        jax.ShapeDtypeStruct((videos, frames, 3, 3), jnp.float32),
    )
    shardings = (everywhere, everywhere, by_video, by_video, by_video)
    function = jax.jit(scan, in_shardings=shardings, out_shardings=by_video)
    return Program(function, arguments, [int(config.rwr.budget)], rows * frames)


PROGRAMS = {"train": train_program, "video": video_program}


def described(name: str, config: Config, rows: int, topology: str) -> dict[str, Any]:
    """The first fields of a record."""
    return {
        "program": name,
        "topology": topology,
        "dtype": config.model.dtype,
        "rows": rows,
        "budget": config.model.forward.max_steps if name == "train" else int(config.rwr.budget),
    }


def whole(
    name: str, config: Config, rows: int, topology: str, with_cost: bool
) -> Iterator[dict[str, Any]]:
    """Compiles a program for all devices of a topology, and yields the compiler's figures."""
    chips = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    program = PROGRAMS[name](config, rows, make_mesh(len(chips), chips))
    record = described(name, config, rows, topology)
    executable, memory = memory_of(program.function.lower(*program.arguments))
    if with_cost and executable:
        jaxpr, trips = one_device(name, config, rows, chips)
        parts = parts_of(name, cost_of(executable), jaxpr, trips, chips[0])
        record |= estimates(parts, topology, len(chips), memory["collectives"], program.images)
    yield record | memory


def bodies(name: str, config: Config, rows: int, topology: str) -> Iterator[dict[str, Any]]:
    """The same for the bodies of its loops, each compiled separately for one device."""
    chips = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    jaxpr, trips = one_device(name, config, rows, chips)
    for number, loop in enumerate(loops(jaxpr.jaxpr), 1):
        record = described(name, config, rows, topology) | {"program": f"{name}, loop {number}"}
        executable, memory = memory_of(lowered_body(loop, chips[0]))
        if loop.length is None:
            next(trips)
        if executable:
            once = cost_of(executable)
            parts = parts_of(record["program"], once, loop.body, trips, chips[0])
            record |= estimates(parts, topology, 1, [], rows)
        yield record | memory


def lowered(name: str, config: Config, rows: int) -> str:
    """Lowers a program for GPUs and TPUs, and lists its calls of libraries and the host."""
    program = PROGRAMS[name](config, rows, make_mesh(1, jax.devices()[:1]))
    exported = jax.export.export(program.function, platforms=["cuda", "tpu"])(*program.arguments)
    calls = sorted(set(re.findall(r"custom_call @([\w.]+)", exported.mlir_module())))
    effects = [*exported.ordered_effects, *exported.unordered_effects]
    return f"lowered for cuda and tpu; calls {calls or 'none'}, host callbacks {effects or 'none'}"


def one_device(name, config, rows, chips) -> tuple[ClosedJaxpr, Iterator[int]]:
    """A program for one device, and the iterations of its open loops."""
    program = PROGRAMS[name](config, rows, make_mesh(1, chips[:1]))
    return program.function.trace(*program.arguments).jaxpr, iter(program.trips)


def memory_of(lowered) -> tuple[Any, dict[str, Any]]:
    """Compiles; returns the executable, None if it does not fit, and its memory."""
    start = time.perf_counter()
    try:
        executable = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None, {"fits": False, "refusal": str(error).splitlines()[0]}
    memory = executable.memory_analysis()
    return executable, {
        "fits": True,
        "compile_seconds": round(time.perf_counter() - start),
        "temporary_bytes": memory.temp_size_in_bytes,
        "argument_bytes": memory.argument_size_in_bytes,
        "new_output_bytes": memory.output_size_in_bytes - memory.alias_size_in_bytes,
        "peak_bytes": memory.peak_memory_in_bytes,
        "collectives": collectives(executable.as_text()),
        "once": cost_of(executable)._asdict(),
        "cycles_in_loops": cycles(executable.as_text())[1],
    }


class Loop(NamedTuple):
    """A loop of a jaxpr."""

    body: ClosedJaxpr
    num_constants: int  # arguments of its body before the carried ones
    num_carried: int
    length: int | None  # None if it is open


def loops(jaxpr) -> Iterator[Loop]:
    """The outermost loops, including those in calls."""
    for equation in jaxpr.eqns:
        given = equation.params
        if equation.primitive.name == "while":
            constants, body = given["body_nconsts"], given["body_jaxpr"]
            yield Loop(body, constants, len(body.in_avals) - constants, None)
        elif equation.primitive.name == "scan":
            yield Loop(given["jaxpr"], given["num_consts"], given["num_carry"], given["length"])
        elif given.get("branches_platforms"):  # all but the last are for other platforms
            yield from loops(given["branches"][-1].jaxpr)
        else:
            for inner in jaxprs_in_params(given):
                yield from loops(inner)


def parts_of(name, once: Cost, jaxpr: ClosedJaxpr, trips: Iterator[int], chip) -> list[Part]:
    """A program without its loops, and the bodies of its loops.

    Args:
        name: of the program.
        once: its cost with the body of every loop counted once, as the compiler counts.
        jaxpr: the program for one device.
        trips: iterations of its open loops.
        chip: that device.
    """
    own, inner = list(once), []
    for number, loop in enumerate(loops(jaxpr.jaxpr), 1):
        times = next(trips) if loop.length is None else loop.length
        body = cost_of(lowered_body(loop, chip).compile())
        own = [rest - part for rest, part in zip(own, body, strict=True)]
        parts = parts_of(f"{name}, loop {number}", body, loop.body, trips, chip)
        inner += [part._replace(times=times * part.times) for part in parts]
    return [Part(name, 1, Cost(*own)), *inner]


def lowered_body(loop: Loop, chip):
    """A loop's body as a separate program, which may overwrite the values it carries."""
    layout = Format(Layout.AUTO, jax.sharding.SingleDeviceSharding(chip))
    first = loop.num_constants
    body = jax.jit(
        jaxpr_as_fun(loop.body),
        in_shardings=layout,
        out_shardings=layout,
        donate_argnums=tuple(range(first, first + loop.num_carried)),
    )
    return body.lower(*loop.body.in_avals)


def cost_of(executable) -> Cost:
    """The compiler's counts."""
    cost = executable.cost_analysis()
    return Cost(cost["flops"], cost["bytes accessed"], sum(cycles(executable.as_text())))


def estimates(
    parts: list[Part], topology: str, devices: int, exchanged: list[dict[str, Any]], images: int
) -> dict[str, Any]:
    """Costs of a program for one device, and estimates of its speed."""
    chip = CHIPS[topology.partition(":")[0]]
    total = Cost(*(sum(part.times * part.cost[i] for part in parts) for i in range(3)))
    bound = sum(
        part.times * max(part.cost.flops / chip.flops, part.cost.bytes / chip.bandwidth)
        for part in parts
    )
    # A summed byte leaves a chip twice, except for the chip's own share.
    exchange = 2 * (devices - 1) / devices * _all_reduced(exchanged) / chip.interconnect
    expected = total.cycles * chip.flops_per_cycle / chip.flops
    return {
        "parts": [{"name": p.name, "times": p.times} | p.cost._asdict() for p in parts],
        "flops": total.flops,
        "bytes": total.bytes,
        "flops_seconds": total.flops / chip.flops,
        "bytes_seconds": total.bytes / chip.bandwidth,
        "bound_seconds": bound,
        "cycles_seconds": expected,
        "all_reduce_seconds": exchange,
        "bound_images_per_second": images / (bound + exchange),
        "cycles_images_per_second": images / (expected + exchange),
        "cycles_share_of_peak": total.flops / chip.flops / (expected + exchange),
    }


_COLLECTIVE = re.compile(
    r"= (?P<shape>\(.*?\)|\S+) (?P<kind>all-reduce|all-gather|reduce-scatter|all-to-all|"
    r"collective-permute|collective-broadcast)(?:-start)?\("
)
_ARRAY = re.compile(r"\b(pred|[suf]\d+|bf16)\[([\d,]*)\]")


def instructions(text: str) -> Iterator[tuple[bool, str]]:
    """The lines of a compiled program, each with whether it is part of a loop."""
    loops = set(re.findall(r"(?:body|condition)=%([\w.-]+)", text))
    where = ""
    for line in text.splitlines():
        if header := re.match(r"(?:ENTRY )?%([\w.-]+) \(.*\{$", line):
            where = header.group(1)
        yield where in loops, line


def cycles(text: str) -> list[int]:
    """Expected cycles of a program's fusions: outside loops, and in loop bodies counted once."""
    total = [0, 0]
    for looped, line in instructions(text):
        total[looped] += sum(map(int, re.findall(r'"estimated_cycles":"(\d+)"', line)))
    return total


def collectives(text: str) -> list[dict[str, Any]]:
    """The data that a compiled program exchanges between devices, largest first.

    Args:
        text: the program. Asynchronous operations are counted at their start, whose tuple also
            holds the operands, so they count at most double.
    """
    counts, sizes = Counter(), Counter()
    for looped, line in instructions(text):
        if found := _COLLECTIVE.search(line):
            key = found["kind"], looped
            counts[key] += 1
            for dtype, shape in _ARRAY.findall(found["shape"]):
                number = 1
                for side in filter(None, shape.split(",")):
                    number *= int(side)
                sizes[key] += number * (
                    1 if dtype == "pred" else int(re.sub(r"\D", "", dtype)) // 8
                )
    return [
        {"kind": kind, "in_loop": in_loop, "count": counts[kind, in_loop], "bytes": size}
        for (kind, in_loop), size in sizes.most_common()
    ]


def memory_table(records: list[dict[str, Any]]) -> str:
    """Memory per device, as Markdown; the compiler's message if it is too much."""
    rows = []
    for record in records:
        row = _head(record) | dict.fromkeys(("temporaries (GB)", "arguments (GB)"), "-")
        row["all-reduced (MB)"] = "-"
        if record["fits"]:
            row |= {
                "temporaries (GB)": f"{record['temporary_bytes'] / 1e9:.2f}",
                "arguments (GB)": f"{record['argument_bytes'] / 1e9:.2f}",
                "all-reduced (MB)": f"{_all_reduced(record['collectives']) / 1e6:.1f}",
            }
        row["compiler"] = f"{record['compile_seconds']} s" if record["fits"] else record["refusal"]
        rows.append(row)
    return tables.markdown_table(rows)


def cost_table(records: list[dict[str, Any]]) -> str:
    """Cost and estimated speed, as Markdown."""
    return tables.markdown_table(
        _head(record)
        | {
            "TFLOP": record["flops"] / 1e12,
            "GB": record["bytes"] / 1e9,
            "bound (ms)": 1e3 * record["bound_seconds"],
            "cycles (ms)": 1e3 * record["cycles_seconds"],
            "all-reduce (ms)": 1e3 * record["all_reduce_seconds"],
            "images/s, bound": record["bound_images_per_second"],
            "images/s, cycles": record["cycles_images_per_second"],
            "of peak (%)": 100 * record["cycles_share_of_peak"],
        }
        for record in records
        if "flops" in record
    )


def _head(record):
    return {name: str(record[name]) for name in ("program", "topology", "dtype", "rows", "budget")}


def _all_reduced(exchanged):
    return sum(c["bytes"] for c in exchanged if c["kind"] == "all-reduce")


if __name__ == "__main__":
    main()
