"""Devices in one row, and where arrays lie on them."""

import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np


def make_mesh(batch_size: int, devices: Sequence[jax.Device] | None = None) -> jax.sharding.Mesh:
    """Devices in one row, over which batches are divided: all of all hosts if none are given.

    Raises:
        ValueError: the devices do not divide the batch.
    """
    devices = jax.devices() if devices is None else devices
    if batch_size % len(devices):
        raise ValueError(
            f"a batch of {batch_size} cannot be divided over {len(devices)} devices: "
            f"set --config.data.batch_size to a multiple of {len(devices)}"
        )
    auto = (jax.sharding.AxisType.Auto,)
    return jax.make_mesh((len(devices),), ("batch",), axis_types=auto, devices=devices)


def replicated(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
    """The same array on every device."""
    return jax.NamedSharding(mesh, jax.P())


def batch_sharding(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
    """Arrays whose first axis is divided over the devices."""
    return jax.NamedSharding(mesh, jax.P("batch"))


def to_devices(mesh: jax.sharding.Mesh, batch: Any) -> Any:
    """This host's rows of a batch, as part of the global batch that lies on all devices."""
    sharding = batch_sharding(mesh)
    return jax.tree.map(
        lambda a: jax.make_array_from_process_local_data(sharding, np.asarray(a)), batch
    )


def use_all_cores(batch_size: int = 0) -> None:
    """Makes one CPU device a core, as XLA runs a convolution on one; no effect on GPU and TPU.

    Call it before anything is computed.

    Args:
        batch_size: rows that the devices must divide; if not all cores do, fewer are used. 0 for
            any number.
    """
    every = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    count = max(n for n in range(1, every + 1) if batch_size % n == 0)
    jax.config.update("jax_num_cpu_devices", count)
