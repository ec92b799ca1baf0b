"""What an actor does in a clip: turns of the head, speech, gestures and blinks."""

from __future__ import annotations

import dataclasses

import numpy as np

from ldeq_jax.head.shape import Head
from moving_faces.paths import Moves, Wander, random_moves, random_wander

# Standard deviations of expression weights in speech, mean of left and right (SAiD, Park and Cho
# 2023, github.com/yunik1004/SAiD, Apache-2.0). `mouthClose` only undoes what `jawOpen` does.
SPEECH = {
    "jawForward": 0.124,
    "jawLeft": 0.039,
    "jawRight": 0.058,
    "jawOpen": 0.097,
    "mouthFunnel": 0.030,
    "mouthPucker": 0.096,
    "mouthLeft": 0.022,
    "mouthRight": 0.023,
    "mouthSmile": 0.033,
    "mouthFrown": 0.061,
    "mouthDimple": 0.023,
    "mouthStretch": 0.066,
    "mouthRollLower": 0.038,
    "mouthShrugLower": 0.078,
    "mouthPress": 0.076,
    "mouthLowerDown": 0.200,
    "mouthUpperUp": 0.084,
    "cheekSquint": 0.029,
    "noseSneer": 0.046,
}
OPENING = {"jawOpen", "mouthLowerDown", "mouthUpperUp", "mouthStretch"}
CLOSING = {"mouthPress", "mouthRollLower", "mouthShrugLower"}
TOGETHER = 0.7  # share of the common rhythm in the variance of opening and closing
SYLLABLES = (9, 30)  # periods of what is then squared, so down to half of that; frames
GESTURES = (
    {"mouthSmile": 0.8, "cheekSquint": 0.6, "eyeSquint": 0.3},
    {"browInnerUp": 0.8, "browOuterUp": 0.8, "eyeWide": 0.4},
    {"browDown": 0.8, "noseSneer": 0.3, "mouthFrown": 0.3},
    {"jawOpen": 0.45, "mouthLowerDown": 0.3, "mouthUpperUp": 0.2},
    {"mouthPucker": 0.7, "mouthFunnel": 0.3},
)
LARGEST = {"jawOpen": 0.35}  # limits of an expression's change, reached smoothly
BLINK = (3.0, 1.0, 5.0)  # frames to close, closed, to open


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadMotion:
    """Ranges from which an actor's performance is drawn.

    Attributes:
        yaw: largest turn to either side, relative to the still, degrees.
        pitch: largest turn up or down.
        roll: largest tilt.
        move: shortest and longest turn, frames.
        rest: longest rest between two turns, frames.
        speech: amplitude of speech; 1 is that of natural speech.
        gestures: largest share of a gesture (a smile, raised brows, an open mouth, ...).
        blinks: least and most blinks in a clip.
    """

    yaw: float
    pitch: float
    roll: float
    move: tuple[float, float]
    rest: float
    speech: float
    gestures: float
    blinks: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Performance:
    """A performance, as smooth functions of time in frames.

    Attributes:
        turn: moves of the rotation vector, radians; as `ldeq_jax.head.sheet.Sheet.moved`.
        rhythm: what opening and closing have in common.
        speech: one channel per name in `SPEECH`.
        amplitude: of the speech.
        gestures: one channel per gesture, from 0 to 1.
        openness: one channel; how much is kept of what opens the mouth in the still, 0 to 1.
        blinks: one channel; 1 is closed.
    """

    turn: Moves
    rhythm: Wander
    speech: Wander
    amplitude: float
    gestures: Moves
    openness: Moves
    blinks: Moves

    def expression(self, head: Head, still: np.ndarray, times: np.ndarray) -> np.ndarray:
        """(N, E) changes of the expression weights at (N,) times.

        Args:
            head: the face model.
            still: (E,) weights of the still.
            times: (N,) frames.
        """
        speech = np.stack([head.weights(**{name: value}) for name, value in SPEECH.items()])
        gestures = np.stack([head.weights(**gesture) for gesture in GESTURES])
        # Of variance 1 and never negative, for signals of variance 1.
        activity = (self._signals(times) + 1) ** 2 / np.sqrt(6)
        changes = self.amplitude * activity @ speech + self.gestures(times) @ gestures
        for name, limit in LARGEST.items():
            column = head.weights(**{name: 1.0}) > 0
            changes[:, column] = limit * np.tanh(changes[:, column] / limit)
        own = still * (head.weights(**dict.fromkeys(OPENING, 1.0)) > 0)
        changes -= (1 - self.openness(times)) * own
        blinks = self.blinks(times)
        eyes = head.weights(eyeSquint=1.0, eyeWide=1.0, cheekSquint=1.0)
        return changes * (1 - blinks * eyes) + blinks * head.weights(eyeBlink=1.0)

    def _signals(self, times: np.ndarray) -> np.ndarray:
        """(N, S) what drives each name of `SPEECH`, of variance 1."""
        signs = np.array([(name in OPENING) - (name in CLOSING) for name in SPEECH])
        share = TOGETHER * np.abs(signs)
        common = np.sqrt(share) * signs * self.rhythm(times)
        return common + np.sqrt(1 - share) * self.speech(times)


def random_performance(
    rng: np.random.Generator, motion: HeadMotion, num_frames: int
) -> Performance:
    """A performance that fills a clip."""
    limit = np.radians([motion.pitch, motion.yaw, motion.roll])
    schedule = {"duration": motion.move, "rest": motion.rest}
    turn = random_moves(rng, num_frames, -limit, limit, channels=3, **schedule)
    unit = np.sqrt(6)  # amplitude of a wander of variance 1
    rhythm = random_wander(rng, unit, SYLLABLES)
    speech = random_wander(rng, unit, SYLLABLES, channels=len(SPEECH))
    gestures = random_moves(rng, num_frames, -1.0, 1.0, channels=len(GESTURES), **schedule)
    # Half of the time a gesture is absent.
    shares = motion.gestures * np.maximum(gestures.poses, 0) ** 2
    return Performance(
        turn=turn,
        rhythm=rhythm,
        speech=speech,
        amplitude=motion.speech,
        gestures=dataclasses.replace(gestures, poses=shares),
        openness=random_moves(rng, num_frames, 0.2, 1.0, **schedule),
        blinks=_random_blinks(rng, motion.blinks, num_frames),
    )


def _random_blinks(rng: np.random.Generator, counts: tuple[int, int], num_frames: int) -> Moves:
    """Blinks at random times that do not overlap."""
    number = rng.integers(*counts, endpoint=True)
    closing, closed, opening = BLINK
    slot = num_frames / max(number, 1)
    begin = slot * np.arange(number) + rng.uniform(0, slot - sum(BLINK), number)
    starts = np.stack([begin, begin + closing + closed], axis=1).ravel()
    durations = np.tile([closing, opening], number)
    return Moves(starts, durations, np.resize([0.0, 1.0], (2 * number + 1, 1)))
