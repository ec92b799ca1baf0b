"""Draws how steady landmarks are on a film, from the numbers that `ldeq predict --compare` wrote.

    ldeq predict --compare --output=clip.mp4 --box=x1,y1,x2,y2 film.mp4
    python benchmarks/steadiness.py clip.npz docs/images/steadiness.png

The motion of the head is removed: each frame's landmarks are fitted to those of the middle frame by
position, size and rotation. What is left is expression and flicker. Lengths are in percent of the
face's size, the square root of the area of the landmarks' bounding box.
"""

import argparse
from pathlib import Path

import numpy as np

from ldeq_jax.errors import show_in_one_line

if __name__ == "__main__":
    show_in_one_line()

from ldeq_jax.report.style import clean_axes, palette, subplots

NAMES = {"alone_landmarks": "each frame alone", "landmarks": "with recurrence"}


def in_the_face(landmarks: np.ndarray) -> np.ndarray:
    """(T, K, 2) landmarks fitted to the middle frame, in percent of the face's size.

    Args:
        landmarks: (T, K, 2) in frame pixels.
    """
    reference = landmarks[len(landmarks) // 2]
    size = np.sqrt(np.prod(np.ptp(reference, axis=0)))
    points = landmarks - landmarks.mean(axis=1, keepdims=True)
    goal = reference - reference.mean(axis=0)
    # As complex numbers, a similarity is one factor.
    moved, fixed = points[..., 0] + 1j * points[..., 1], goal[:, 0] + 1j * goal[:, 1]
    factor = (moved.conj() * fixed).sum(axis=1) / (abs(moved) ** 2).sum(axis=1)
    fitted = factor[:, None] * moved
    return 100 / size * np.stack([fitted.real, fitted.imag], axis=-1)


def draw(path: Path, seconds: np.ndarray, tracks: dict[str, np.ndarray], landmark: int) -> None:
    """One landmark's height over time, and how far landmarks move from frame to frame.

    Args:
        path: picture to write.
        seconds: (T,) times of the frames.
        tracks: (T, K, 2) landmarks of each method, as `in_the_face` gives them.
        landmark: the one whose height is drawn.
    """
    figure, [[height], [step]] = subplots(2, 1, (7.2, 1.9))
    for colour, (name, track) in zip(palette(2)[::-1], tracks.items(), strict=True):
        height.plot(seconds, -track[:, landmark, 1], color=colour, linewidth=1.3, label=name)
        moved = np.linalg.norm(np.diff(track, axis=0), axis=-1).mean(axis=-1)
        step.plot(seconds[1:], moved, color=colour, linewidth=1.3)
        print(f"{name}: {moved.mean():.3f} % of the face's size from frame to frame")
    for axes in (height, step):
        clean_axes(axes)
        axes.set_xlim(seconds[0], seconds[-1])
    height.set_ylabel(f"Height of landmark {landmark}\n(% of the face)")
    height.legend(frameon=False, fontsize=8, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    step.set_ylabel("Step from frame to\nframe (% of the face)")
    step.set_ylim(bottom=0)
    step.set_xlabel("Time (s)")
    figure.savefig(path, dpi=150)


def main() -> None:
    """Reads the numbers and draws."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("numbers", type=Path, help=".npz of `ldeq predict --compare`")
    parser.add_argument("output", type=Path, help="picture to write")
    parser.add_argument("--landmark", type=int, default=19, help="19 is a brow of ibug_68")
    options = parser.parse_args()
    with np.load(options.numbers) as numbers:
        seen = numbers["ok"] & numbers["alone_ok"]
        tracks = {shown: in_the_face(numbers[name][seen]) for name, shown in NAMES.items()}
        draw(options.output, numbers["time"][seen], tracks, options.landmark)


if __name__ == "__main__":
    main()
