"""What recurrence is compared with on tracked films: `Filtered`, and each frame `Alone`."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from ldeq_jax.config import Config
from ldeq_jax.face.crops import box_of_landmarks
from ldeq_jax.face.online import Online, State
from ldeq_jax.inference.follower import Follower, FollowerState
from ldeq_jax.inference.tracker import Face, TrackedFrame


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """What is known of a face since it was found.

    Attributes:
        size: of the face in the first frame, pixels; points are filtered in this unit.
        time: of the last frame.
        state: of the filter.
    """

    size: float
    time: float
    state: State


class Filtered:
    """Filters the landmarks of each face of a tracked film; after a lost face it begins again.

    Args:
        online: the filter.
    """

    def __init__(self, online: Online):
        self._online = online

    def step(
        self, frame: TrackedFrame, runs: Mapping[int, Run] | None = None
    ) -> tuple[TrackedFrame, dict[int, Run]]:
        """Filters the faces of the next frame.

        Args:
            frame: what a tracker found, best without recurrence.
            runs: what the step on the frame before returned; None for a first frame.

        Returns:
            The frame with filtered landmarks, and what is known of its faces for the next.
        """
        faces, known = [], {}
        for face in frame.faces:
            if face.status != "lost":
                face, known[face.id] = self._face(face, frame.time, (runs or {}).get(face.id))
            faces.append(face)
        return dataclasses.replace(frame, faces=tuple(faces)), known

    def _face(self, face: Face, time: float, run: Run | None) -> tuple[Face, Run]:
        if run is None:
            sides = face.box[2:] - face.box[:2]
            run = Run(size=max(1.0, float(np.sqrt(np.prod(sides)))), time=time, state=None)
        points, state = self._online.step(face.points / run.size, time - run.time, run.state)
        landmarks = dataclasses.replace(face.landmarks, points=run.size * points)
        return (
            dataclasses.replace(face, landmarks=landmarks),
            Run(size=run.size, time=time, state=state),
        )


class Alone:
    """Solves each face of a tracked film by itself, in crops around its own last landmarks.

    Args:
        config: of the model.
        variables: of the model.
    """

    def __init__(self, config: Config, variables: dict[str, Any]):
        self._follower = Follower(config, variables, None)
        self._crop = config.data.crop

    def step(
        self, frame: TrackedFrame, states: Mapping[int, FollowerState] | None = None
    ) -> tuple[dict[int, np.ndarray], dict[int, FollowerState]]:
        """Solves the faces of the next frame.

        Args:
            frame: what a tracker found; a face begins, and is found again, around its landmarks.
            states: what the step on the frame before returned; None for a first frame.

        Returns:
            By the ids of the faces that the tracker follows, landmarks (K, 2) in frame pixels, NaN
            where this finds none; and the states for the next frame.
        """
        faces = [face for face in frame.faces if face.status != "lost"]
        known = [(states or {}).get(face.id) for face in faces]
        boxes = [
            box_of_landmarks(face.points, self._crop)
            if state is None or state.box is None
            else None
            for face, state in zip(faces, known, strict=True)
        ]
        found = self._follower.steps(frame.image, known, boxes)
        points = {face.id: one.points for face, (one, _) in zip(faces, found, strict=True)}
        return points, {face.id: state for face, (_, state) in zip(faces, found, strict=True)}
