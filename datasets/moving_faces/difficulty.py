"""How hard the clips are: the ranges of camera, light, sensor and face tracker."""

from __future__ import annotations

import dataclasses

from moving_faces.acting import HeadMotion

FPS = 25.0
FRAME_SIZE = 256  # side of a frame, pixels


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difficulty:
    """Ranges from which each clip's camera, light, sensor and tracker are drawn.

    Attributes:
        face: smallest and largest face (larger side of the landmark extent), parts of the frame.
        pan: largest distance of the face from the middle of the frame along each axis, parts of the
            frame; less where it would leave the frame.
        turn: largest rotation of the camera about its axis, degrees.
        move: shortest and longest move, frames.
        rest: longest rest between two moves, frames.
        tremor: amplitude of the constant tremor, pixels; and of rotation, half degrees.
        exposure: shortest and longest time that the shutter is open, parts of a frame's time.
        gain: largest drift of the brightness, as a natural logarithm.
        colour: the same for each colour channel relative to the others.
        gamma: the same for the exponent of the tone curve.
        shade: largest depth of a shadow whose edge moves over the picture, part of the light.
        photons: least and most photons (more precisely, electrons) in white: fewer give more noise.
        read_noise: standard deviation of the sensor's own noise, part of white.
        jpeg_quality: lowest and highest quality of the JPEG compression that imitates strong
            video compression; None for none.
        occluders: probabilities of 0, 1, 2, ... objects that pass in front of the face.
        box_jitter: standard deviation of the box's centre and size, parts of the face size.
        head: how the head turns and speaks; None for a face that is as flat as its picture.
        num_frames: length of a clip.
    """

    face: tuple[float, float]
    pan: float
    turn: float
    move: tuple[float, float]
    rest: float
    tremor: float
    exposure: tuple[float, float]
    gain: float
    colour: float
    gamma: float
    shade: float
    photons: tuple[float, float]
    read_noise: float
    jpeg_quality: tuple[int, int] | None
    occluders: tuple[float, ...]
    box_jitter: float
    head: HeadMotion | None = None
    num_frames: int = 60


EASY = Difficulty(
    face=(0.48, 0.56),
    pan=0.05,
    turn=5.0,
    move=(20, 40),
    rest=20,
    tremor=0.3,
    exposure=(0.1, 0.3),
    gain=0.08,
    colour=0.02,
    gamma=0.05,
    shade=0.1,
    photons=(6000, 12000),
    read_noise=0.001,
    jpeg_quality=None,
    occluders=(1.0,),
    box_jitter=0.01,
)
HARD = Difficulty(
    face=(0.45, 0.6),
    pan=0.2,
    turn=20.0,
    move=(8, 25),
    rest=15,
    tremor=1.0,
    exposure=(0.4, 0.9),
    gain=0.5,
    colour=0.1,
    gamma=0.2,
    shade=0.7,
    photons=(250, 1500),
    read_noise=0.006,
    jpeg_quality=(25, 70),
    occluders=(0.4, 0.45, 0.15),
    box_jitter=0.03,
)
SPEAKING = Difficulty(
    face=(0.45, 0.55),
    pan=0.08,
    turn=6.0,
    move=(12, 30),
    rest=20,
    tremor=0.6,
    exposure=(0.2, 0.6),
    gain=0.2,
    colour=0.05,
    gamma=0.1,
    shade=0.4,
    photons=(600, 3000),
    read_noise=0.004,
    jpeg_quality=(40, 80),
    occluders=(0.8, 0.2),
    box_jitter=0.02,
    head=HeadMotion(
        yaw=25.0,
        pitch=10.0,
        roll=8.0,
        move=(10, 25),
        rest=10,
        speech=1.0,
        gestures=1.0,
        blinks=(1, 3),
    ),
)
# For training: what happens to crops and pixels is drawn there, again in each epoch.
TAKES = Difficulty(
    face=(0.48, 0.52),
    pan=0.0,
    turn=0.0,
    move=(20, 40),
    rest=20,
    tremor=0.0,
    exposure=(0.0, 0.0),
    gain=0.0,
    colour=0.0,
    gamma=0.0,
    shade=0.0,
    photons=(1e6, 1e6),
    read_noise=0.0,
    jpeg_quality=None,
    occluders=(1.0,),
    box_jitter=0.0,
    head=HeadMotion(
        yaw=45.0,
        pitch=16.0,
        roll=8.0,
        move=(8, 25),
        rest=6,
        speech=1.3,
        gestures=1.0,
        blinks=(0, 1),
    ),
    num_frames=12,
)
