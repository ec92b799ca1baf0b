"""A row of devices, and how arrays are divided among them or replicated on them."""

import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from ldeq_jax.errors import UserError


def make_mesh(batch_size: int, devices: Sequence[jax.Device] | None = None) -> jax.sharding.Mesh:
    """Devices in one row, over which batches are divided.

    Args:
        batch_size: rows of a batch, of all hosts together.
        devices: which ones; all devices of all hosts if None.

    Raises:
        UserError: the batch cannot be divided by the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    if batch_size % len(devices):
        raise UserError(
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
    """Makes each CPU core a device, as XLA runs a convolution on one core; not for GPU and TPU.

    Call it before anything is computed.

    Args:
        batch_size: rows of a batch; as many cores are used as divide it evenly. 0 for all cores.
    """
    known = hasattr(os, "sched_getaffinity")  # on Linux: the cores that this process may use
    cores = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    count = max(n for n in range(1, cores + 1) if batch_size % n == 0)
    jax.config.update("jax_num_cpu_devices", count)
