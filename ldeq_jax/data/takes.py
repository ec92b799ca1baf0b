"""Takes: short videos of the faces of a data set of stills, which turn their heads and speak.

`ldeq build moving_faces/takes` films stills by a fitted 3D face, with exact labels. A clip for
training may be cut from a take instead of from the still, see `ClipConfig.takes`: stills alone
cannot show a model how expressions change.
"""

import itertools
import re

import numpy as np

from ldeq_jax.data.sources import VideoSource
from ldeq_jax.errors import UserError

FASTEST = 2  # largest number of frames of the take from one frame of the clip to the next


class Takes:
    """The takes of the faces of a split, by the faces' names.

    Args:
        name: data set of the takes.
        split: split of the faces, such as "train[:90%]"; takes of its whole splits are known.
        data_dir: folder of the data sets.
        num_frames: T, frames of a clip.

    Raises:
        UserFileNotFoundError: the data set has not been built.
        UserError: it has no such split, or its takes are shorter than the clips.
    """

    def __init__(self, name: str, split: str, data_dir: str, num_frames: int):
        whole = "+".join(dict.fromkeys(re.sub(r"\[.*?\]", "", split).split("+")))
        self.source = VideoSource(name, whole, data_dir)
        self.num_frames = num_frames
        shortest = int(self.source.lengths.min())
        if shortest < num_frames:
            raise UserError(
                f"clip.num_frames is {num_frames}, but takes of {self.source.where} have "
                f"{shortest} frames"
            )
        self._numbers = {name: number for number, name in enumerate(self.source.names)}

    def __contains__(self, name: str) -> bool:
        """Whether the face of this name has a take."""
        return name in self._numbers

    def cut(
        self, name: str, rng: np.random.Generator
    ) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        """A random part of a take, at its speed or faster, forwards or backwards.

        Args:
            name: of the face.
            rng: the only source of randomness.

        Returns:
            T frames, (H, W, 3) uint8 RGB; their (T, K, 2) landmarks and (T, 4) boxes, pixels.

        Raises:
            UserError: the video cannot be read.
        """
        number = self._numbers[name]
        length = int(self.source.lengths[number])
        fastest = min(FASTEST, (length - 1) // (self.num_frames - 1))
        speed = int(rng.integers(1, fastest + 1))
        reach = speed * (self.num_frames - 1)
        first = int(rng.integers(0, length - reach))
        chosen = np.arange(first, first + reach + 1, speed)
        if rng.random() < 0.5:
            chosen = chosen[::-1]
        last = int(chosen.max())
        frames = list(itertools.islice(self.source.frames(number), last + 1))
        found = [frame for at in chosen if (frame := frames[at]) is not None]
        if len(found) < len(chosen):
            raise UserError(
                f"{self.source.where}, {name}: some of its frames cannot be decoded; build the "
                "data set again"
            )
        labels = self.source.annotation(number)
        return found, labels["landmarks"][chosen], labels["boxes"][chosen]
