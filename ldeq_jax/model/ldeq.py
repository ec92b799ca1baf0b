"""LDEQ: stem, equilibrium of the map, landmarks read from it (Micaelli et al. 2023, sec. 3).

The network on a batch of normalised crops. Recurrence over the frames of a video is in
`ldeq_jax.model.rwr`, reading and cropping of pictures in `ldeq_jax.inference`.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, cast

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from ldeq_jax.deq.diagnostics import jacobian_penalty
from ldeq_jax.deq.equilibrium import Differentiation, Gradient, check_phantom, fixed_point
from ldeq_jax.deq.rows import Map
from ldeq_jax.deq.solver import SolveInfo, SolverConfig
from ldeq_jax.errors import UserError
from ldeq_jax.model import heatmap
from ldeq_jax.model.hourglass import HourglassMap, Stem
from ldeq_jax.model.layers import Norm

Theta = tuple[Any, jax.Array]
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_DEVIATION = (0.229, 0.224, 0.225)
_RELEASED = SolverConfig(method="anderson", ridge=1e-4, ridge_scale="absolute")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes of an LDEQ and how its equilibrium is found; by default the released WFLW model's.

    Attributes:
        num_landmarks: K; 0 in a run's config means as many as the schema has.
        image_size: side of the square crop in pixels, divisible by `4 * 2**depth`.
        injection_width: channels of the injection x.
        base_width: channels of the hourglass at its finest level.
        width_increment: channels added at each coarser level.
        depth: number of times the hourglass halves the resolution.
        residual_kernel: kernel size of its residual units.
        groups: groups of the group norms.
        temperature: sharpness beta of the heatmaps.
        learn_temperature: train it.
        readout_offset: what a heatmap's first column and row stand for, in heatmap pixels: 0 as
            released, or 0.375, the centre of the 4 x 4 pixels of the crop that it covers. A model
            must be used with the value that it was trained with.
        stem_norm: "batch" as released, or "group".
        dtype: precision policy. "float32"; "bfloat16": convolutions and products, while parameters,
            statistics of norms, logits, solver and readout stay in float32; or "float64".
        forward: solver of the equilibrium.
        backward: solver of the adjoint equation, for the implicit gradient.
        gradient: "implicit", "one_step", "phantom" or "unrolled"; see `deq.fixed_point`.
        phantom_steps: damped steps of the "phantom" gradient.
        phantom_mixing: their damping, in (0, 1].
        differentiation: "vjp" for reverse mode alone, as in training; or "jvp", so that `jax.jvp`
            and Hessian-vector products go through the equilibrium too.
        remat: recompute the map's inner activations in the backward pass rather than store them.
            It saves "unrolled" most of its memory, at the cost of time; "implicit" stores those of
            one evaluation and gains nothing.
    """

    num_landmarks: int = 98
    image_size: int = 256
    injection_width: int = 264
    base_width: int = 264
    width_increment: int = 24
    depth: int = 4
    residual_kernel: int = 5
    groups: int = 8
    temperature: float = 0.3
    learn_temperature: bool = False
    readout_offset: float = 0.0
    stem_norm: Norm = "batch"
    dtype: str = "float32"
    forward: SolverConfig = _RELEASED
    backward: SolverConfig = _RELEASED
    gradient: Gradient = "implicit"
    phantom_steps: int = 5
    phantom_mixing: float = 0.5
    differentiation: Differentiation = "vjp"
    remat: bool = False

    @property
    def heatmap_size(self) -> int:
        """Side of the heatmaps, a quarter of the image's."""
        return self.image_size // 4

    def __post_init__(self) -> None:
        check_phantom(self.phantom_steps, self.phantom_mixing)
        if self.image_size % (4 * 2**self.depth):
            raise UserError(
                f"image_size {self.image_size} is not divisible by {4 * 2**self.depth}, "
                f"which depth {self.depth} needs"
            )
        if not 0 <= self.readout_offset < 1:
            raise UserError(f"readout_offset must be in [0, 1), not {self.readout_offset}")
        for name in ("base_width", "width_increment"):
            if getattr(self, name) % self.groups:
                raise UserError(
                    f"{name} {getattr(self, name)} is not divisible by {self.groups} groups"
                )


@flax.struct.dataclass
class Prediction:
    """Landmarks of a batch of crops, and the equilibrium that they were read from.

    Attributes:
        landmarks: (B, K, 2) x then y, normalised crop coordinates in [0, (h - 1) / h], plus the
            readout offset.
        spread: (B, K) standard deviation of each heatmap in the same unit: its uncertainty.
        state: (B, h, w, K) equilibrium heatmaps z*, at least float32.
        info: SolveInfo, every field (B,).
    """

    landmarks: jax.Array
    spread: jax.Array
    state: jax.Array
    info: SolveInfo


def normalise_image(image: jax.Array) -> jax.Array:
    """RGB image to the model's input: scaled to [0, 1], ImageNet mean and deviation removed.

    Args:
        image: (..., H, W, 3) RGB; uint8 in 0..255, or floating in [0, 1].

    Returns:
        (..., H, W, 3), float32 for uint8 input, else the input's type.

    Raises:
        TypeError: another type. The range of floating images is not checked, as values are traced;
            `ldeq_jax.inference.pictures` checks it.
    """
    if image.dtype == jnp.uint8:
        image = image.astype(jnp.float32) / 255
    elif not jnp.issubdtype(image.dtype, jnp.floating):
        raise TypeError(f"images must be uint8 (0..255) or floating (0..1), not {image.dtype}")
    per_channel = (1,) * (image.ndim - 1) + (3,)
    mean = jnp.asarray(IMAGE_MEAN, image.dtype).reshape(per_channel)
    return (image - mean) / jnp.asarray(IMAGE_DEVIATION, image.dtype).reshape(per_channel)


class LDEQ(nn.Module):
    """Landmark deep equilibrium model."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self,
        image: jax.Array,
        *,
        train: bool = False,
        z0: jax.Array | None = None,
        budget: jax.Array | int | None = None,
        trace: bool = False,
        jacobian_key: jax.Array | None = None,
    ) -> Prediction:
        """Finds the landmarks of a batch of crops.

        Args:
            image: (B, H, W, 3) as made by `normalise_image`, H = W = config.image_size.
            train: use and update batch statistics (of a BatchNorm stem).
            z0: (B, h, w, K) initial state; zeros when None.
            budget: () or (B,) traced iteration budget, clipped to config.forward.max_steps.
            trace: keep the residual of every iteration in `info`.
            jacobian_key: random key; when given, an estimate of `||df/dz||_F^2` per state element
                at the solution is sown as (B,) into the collection "losses".

        Returns:
            Prediction.

        Raises:
            ValueError: the image has another size or layout.
        """
        c = self.config
        if image.ndim != 4 or image.shape[1:] != (c.image_size, c.image_size, 3):
            raise ValueError(
                f"images must be (B, {c.image_size}, {c.image_size}, 3), not {image.shape}"
            )
        dtype = jnp.dtype(c.dtype)
        x = _stem(c, name="stem")(image, train)

        shape = (image.shape[0], c.heatmap_size, c.heatmap_size, c.num_landmarks)
        if z0 is None:
            z0 = jnp.zeros(shape, jnp.promote_types(dtype, jnp.float32))
        map_module = hourglass_map(c)
        # The map's parameters are one tree, applied functionally: the solver defines the derivative
        # of f(theta, z) itself, so f must not close over the module's scope.
        params = self.param("map", lambda rng: map_module.init(rng, z0, x)["params"])
        theta = params, map_module.apply({"params": params}, x, method="inject")
        f = equation(c)
        f = jax.checkpoint(f) if c.remat else f

        z, info = fixed_point(
            f,
            theta,
            z0,
            forward=c.forward,
            backward=c.backward,
            gradient=c.gradient,
            differentiation=c.differentiation,
            phantom_steps=c.phantom_steps,
            phantom_mixing=c.phantom_mixing,
            budget=budget,
            trace=trace,
        )
        if jacobian_key is not None:
            penalty = jacobian_penalty(f, theta, jax.lax.stop_gradient(z), jacobian_key)
            self.sow("losses", "jacobian", penalty / z[0].size)
        landmarks, spread = heatmap.soft_argmax(z, c.readout_offset)
        return Prediction(landmarks=landmarks, spread=spread, state=z, info=info)


def variable_shapes(config: ModelConfig) -> dict[str, Any]:
    """The variables of a model as shapes and types, without computing any.

    Floating numbers are of the model's precision, at least float32.
    """
    shapes = _traced_shapes(config)
    dtype = jnp.promote_types(config.dtype, jnp.float32)
    shapes = {"params": shapes["params"], "batch_stats": shapes.get("batch_stats", {})}
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, dtype), shapes)


@functools.cache
def _traced_shapes(config: ModelConfig):
    """The variables of a model as shapes.

    Those that `LDEQ.init` makes, without its solver, as tracing takes most of the time of a start.
    """
    shape = (1, config.heatmap_size, config.heatmap_size, config.num_landmarks)

    def init(image, z0):
        rng = jax.random.key(0)
        x, stem = _stem(config, parent=None).init_with_output(rng, image)
        stem["params"] = {
            "stem": stem["params"],
            "map": hourglass_map(config).init(rng, z0, x)["params"],
        }
        if "batch_stats" in stem:
            stem["batch_stats"] = {"stem": stem["batch_stats"]}
        return stem

    image = jax.ShapeDtypeStruct((1, config.image_size, config.image_size, 3), config.dtype)
    z0 = jax.ShapeDtypeStruct(shape, jnp.promote_types(config.dtype, jnp.float32))
    return jax.eval_shape(init, image, z0)


def select_landmarks(
    config: ModelConfig, variables: dict[str, Any], numbers: Sequence[int]
) -> dict[str, Any]:
    """The variables of a model that finds some of the landmarks of another, in any order.

    The map gets the selected heatmaps alone, so the equilibrium is another one; the first iteration
    from heatmaps of 0 is the same.

    Args:
        config: of the model that is given.
        variables: of the model that is given.
        numbers: K' of its landmarks, some perhaps more than once.
    """
    entry, head = variables["params"]["map"]["entry"], variables["params"]["map"]["head"]
    chosen = np.asarray(numbers)
    kernel = np.asarray(entry["conv"]["kernel"])
    kernel = np.concatenate([kernel[chosen], kernel[config.num_landmarks :]])
    entry = entry | {"conv": entry["conv"] | {"kernel": kernel}}
    head = {name: np.asarray(value)[..., chosen] for name, value in head.items()}
    map_params = variables["params"]["map"] | {"entry": entry, "head": head}
    return variables | {"params": variables["params"] | {"map": map_params}}


def inject(config: ModelConfig, variables: dict[str, Any], image: jax.Array) -> Theta:
    """Precomputes theta, the parameters of `equation`, for a batch of images.

    Args:
        config: the model's.
        variables: of `LDEQ.apply`.
        image: (B, H, W, 3) as made by `normalise_image`.

    Returns:
        The map's parameters, and (B, h, w, base_width), the part of the map that depends on the
        image alone.
    """
    of_stem = {collection: tree["stem"] for collection, tree in variables.items() if "stem" in tree}
    x = _stem(config, parent=None).apply(of_stem, image, False)
    params = variables["params"]["map"]
    injected = hourglass_map(config).apply({"params": params}, x, method="inject")
    return params, cast(jax.Array, injected)


@functools.cache
def equation(config: ModelConfig) -> Map:
    """The map as `deq.fixed_point` takes it: `f(theta, z)`, with theta from `inject`."""
    map_module = hourglass_map(config)

    # A solver calls it at several places of a program: so it is traced once for all.
    @functools.partial(jax.jit, inline=True)
    def f(theta, z):
        return map_module.apply({"params": theta[0]}, z, theta[1], method="refine")

    return f


def _stem(config, **where):
    dtype = jnp.dtype(config.dtype)
    return Stem(config.injection_width, config.stem_norm, config.groups, dtype, **where)


def hourglass_map(config: ModelConfig) -> HourglassMap:
    """The map f of a model: `hourglass_map(config).apply({"params": params["map"]}, z, x)`."""
    return HourglassMap(
        num_landmarks=config.num_landmarks,
        injection_width=config.injection_width,
        width=config.base_width,
        width_increment=config.width_increment,
        depth=config.depth,
        residual_kernel=config.residual_kernel,
        groups=config.groups,
        temperature=config.temperature,
        learn_temperature=config.learn_temperature,
        dtype=jnp.dtype(config.dtype),
        parent=None,
    )
