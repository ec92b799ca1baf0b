"""Pictures of drawn heads with twelve labelled points, as if you had labelled them yourself.

    python examples/drawn_heads.py --output=own/heads

The data of docs/own_points.md. Heads of different people are drawn in three dimensions
(`ldeq_jax.head`), with an expression, a gaze, light and a background, and saved as
images/PERSON_NUMBER.jpg; the points are in landmarks.csv, their meaning is in points.json, and
film.mp4 shows a head of yet another person that turns and speaks. The same arguments give the same
pictures. Everything is drawn from a mesh under the MIT licence: do with the pictures what you want.
"""

import argparse
import csv
import json
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from ldeq_jax.head.paint import inverse_map
from ldeq_jax.head.shape import EYE, MOUTH, SKIN, Pose, load_head
from ldeq_jax.media.pictures import write_picture
from ldeq_jax.media.writer import write_video

SIDE, FILM_SIDE, FPS = 160, 240, 25  # pixels, pixels, frames per second
# The points: vertices of the mesh, from left to right in a picture within each line.
BROWS, EYES, EARS, NOSE, MOUTH_CORNERS, CHIN = [19, 24], [36, 45], [0, 16], [30], [48, 54], [8]
PUPILS = range(36, 42), range(42, 48)  # the middle of an eye, moved by the gaze
POINTS = {  # the file points.json
    "name": "twelve",
    "num_landmarks": 12,
    "pairs": [[0, 1], [2, 3], [4, 5], [6, 7], [9, 10]],
    "eye_corners": [2, 3],
    "contours": [
        [[0, 1], False],
        [[2, 4], False],
        [[5, 3], False],
        [[6, 11, 7], False],
        [[9, 10], False],
    ],
}
SKINS = [(250, 215, 190), (238, 190, 158), (222, 168, 125), (172, 118, 84), (110, 74, 54)]
HAIRS = [(34, 28, 26), (78, 52, 36), (140, 98, 58), (204, 170, 112), (132, 128, 126)]
IRISES = [(74, 48, 32), (76, 106, 140), (84, 110, 76), (100, 96, 92)]
ZOOM, LEFT, TOP = 16, -9.0, 14.0  # of the texture: pixels per unit of the mesh, its corner


class Person:
    """Shape and colours of a head."""

    def __init__(self, rng):
        head = load_head()
        self.identity = 0.8 * rng.standard_normal(len(head.identity))
        self.skin, self.hair, self.iris = (
            np.array(colors[rng.integers(len(colors))]) * rng.uniform(0.85, 1.05)
            for colors in (SKINS, HAIRS, IRISES)
        )
        self.skull = rng.uniform([8.8, 9.5], [9.8, 11.5])  # half axes, units of the mesh
        self.texture = self._paint(head, rng)

    def _paint(self, head, rng):
        """Colours over the x and y of the mean face at rest: skin, hair line, brows, lips."""

        def at(numbers):
            xy = head.neutral[head.landmarks[list(numbers)], :2]
            return np.round(ZOOM * (xy * [1, -1] - [LEFT, -TOP])).astype(np.int32)

        texture = np.empty((int(24 * ZOOM), int(-2 * LEFT * ZOOM), 3), np.float32)
        texture[:] = self.skin
        lips = self.skin * [0.85, 0.58, 0.58] * rng.uniform(0.8, 1.1)
        cv2.fillPoly(texture, [at(range(48, 60))], lips.tolist())
        for end in (31, 35):
            nostril = (at([end]) + at([33]))[0] // 2
            cv2.ellipse(
                texture, nostril.tolist(), (9, 5), 0, 0, 360, (self.skin * 0.4).tolist(), -1
            )
        for corners in (range(36, 42), range(42, 48)):
            cv2.polylines(texture, [at(corners)], True, (self.skin * 0.45).tolist(), 4)
        brow = 0.3 * self.skin + 0.7 * self.hair * 0.8
        for line in (range(17, 22), range(22, 27)):
            cv2.polylines(texture, [at(line)], False, brow.tolist(), int(rng.integers(8, 18)))
        texture = cv2.GaussianBlur(texture, (0, 0), 2.5)
        line = np.cumsum(rng.normal(0, 3, texture.shape[1])) + rng.uniform(2, 5) * ZOOM
        line += 0.5 * ZOOM * (np.linspace(-1, 1, len(line)) ** 2) * rng.uniform(4, 9)
        texture[np.arange(len(texture))[:, None] < line - line.mean() + 4 * ZOOM] = self.hair
        grain = cv2.GaussianBlur(rng.standard_normal(texture.shape[:2]), (0, 0), 3)
        return texture * (1 + 0.3 * grain[..., None])


def random_view(rng, side):
    """Pose, expression weights, gaze and light of a still."""
    head = load_head()
    angles = rng.uniform(-1, 1, 3) * [22, 38, 18]
    expression = rng.uniform(0, 0.5, len(head.expression)) * (
        rng.random(len(head.expression)) < 0.2
    )
    expression += head.weights(jawOpen=rng.uniform(0, 0.6) * (rng.random() < 0.4))
    expression += head.weights(mouthSmile=rng.uniform(0, 0.8) * (rng.random() < 0.4))
    scale = side / rng.uniform(28, 36)
    shift = side / 2 + side * rng.uniform(-0.04, 0.04, 2) + [0, 2 * scale]
    return angles, expression, scale, shift, rng.uniform(-1, 1, 2)


def draw(person, view, light, background):
    """The picture of a head and its points.

    Args:
        person: whose head.
        view: as of `random_view`, in pixels of the background.
        light: (3,) direction that it comes from, x to the right, y up, z towards the viewer.
        background: (S, S, 3) what is behind.

    Returns:
        (S, S, 3) float32 picture in 0..255, and (12, 2) points in its pixels.
    """
    head = load_head()
    angles, expression, scale, shift, gaze = view
    pose = Pose(Rotation.from_euler("xyz", angles, degrees=True).as_matrix(), scale, shift)
    mesh = head.vertices(person.identity, np.clip(expression, 0, 1))
    seen = pose.project(mesh)
    corners = seen[head.triangles]
    faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    faces *= [-1, 1, -1]  # y up again
    normals = np.zeros_like(seen)
    for corner in head.triangles[head.kind == SKIN].T:
        np.add.at(normals, corner, faces[head.kind == SKIN])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9

    # Openings lie deeper than the skin around them.
    depth = corners[..., 2].mean(axis=1) - scale * (head.kind != SKIN)
    order = np.argsort(depth)
    order = order[(faces[order, 2] > 0) | (head.kind[order] != SKIN)]
    size = background.shape[1::-1]
    known = np.concatenate([normals, head.neutral[:, :2]], axis=1)
    values, numbers = inverse_map(known, seen[:, :2], head.triangles[order], size)
    kind = np.append(head.kind[order], -1)[numbers]

    picture = background.astype(np.float32)
    _draw_behind(picture, person, pose)
    x, y = np.moveaxis(ZOOM * (values[..., 3:] * [1, -1] - [LEFT, -TOP]), -1, 0)
    skin = cv2.remap(person.texture, np.float32(x), np.float32(y), cv2.INTER_LINEAR)
    shade = 0.45 + 0.65 * np.maximum(values[..., :3] @ light, 0)
    picture[kind == SKIN] = (skin * shade[..., None])[kind == SKIN]
    picture[kind == MOUTH] = (70, 28, 30)
    picture[kind == EYE] = (225, 220, 215)
    pupils = np.empty((2, 2))
    for side, rim in enumerate(PUPILS):
        turned = mesh[head.landmarks[rim]].mean(axis=0) + [0.55 * gaze[0], 0.25 * gaze[1], 0.25]
        pupils[side] = pose.project(turned)[:2]
        _draw_iris(picture, pupils[side], scale, person.iris, kind == EYE)
    numbers = head.landmarks[[*BROWS, *EYES, *EARS, *NOSE, *MOUTH_CORNERS, *CHIN]]
    points = seen[numbers, :2]
    return picture, np.concatenate([points[:4], pupils, points[4:]])


def _draw_behind(picture, person, pose):
    """Neck, hair and ears."""

    def at(*place):
        return pose.project(np.array(place, float))[:2]

    def ellipse(middle, axes, color):
        angle = np.degrees(np.arctan2(*(at(1, 0, 0) - at(0, 0, 0))[::-1]))
        axes = np.round(pose.scale * np.array(axes)).astype(int).tolist()
        cv2.ellipse(picture, np.round(middle).astype(int).tolist(), axes, angle, 0, 360, color, -1)

    neck = np.array([at(-4.5, -2, 0), at(4.5, -2, 0), at(6, -20, -2), at(-6, -20, -2)])
    cv2.fillPoly(picture, [np.round(neck).astype(np.int32)], (person.skin * 0.5).tolist())
    ellipse(at(0, 6, -2), person.skull, (person.hair * 0.8).tolist())
    for side in (-1, 1):
        ellipse(at(7.8 * side, 2, 1), (1.2, 2.5), (person.skin * 0.6).tolist())


def _draw_iris(picture, pupil, scale, color, opening):
    """Iris and pupil, where the eye is open."""
    y, x = np.mgrid[: len(picture), : picture.shape[1]]
    distance = np.hypot(x - pupil[0], y - pupil[1])
    picture[opening & (distance < 0.62 * scale)] = color
    picture[opening & (distance < 0.28 * scale)] = (15, 12, 12)


def random_background(rng, side):
    """(side, side, 3) blurred ellipses."""
    picture = np.empty((side, side, 3), np.float32)
    picture[:] = rng.uniform(40, 210, 3)
    for _ in range(12):
        middle, axes = rng.integers(0, side, 2), rng.integers(side // 20, side // 3, 2)
        color = (rng.uniform(30, 220) + rng.uniform(-40, 40, 3)).tolist()
        cv2.ellipse(picture, middle.tolist(), axes.tolist(), rng.uniform(0, 180), 0, 360, color, -1)
    return cv2.GaussianBlur(picture, (0, 0), side * rng.uniform(0.003, 0.05))


def random_light(rng):
    """(3,) unit vector, from the front half."""
    light = rng.uniform([-0.8, -0.4, 0.6], [0.8, 0.8, 1])
    return light / np.linalg.norm(light)


def still(person, rng):
    """A picture, uint8 (SIDE, SIDE, 3), drawn twice as large, and its points (12, 2)."""
    picture, points = draw(
        person, random_view(rng, 2 * SIDE), random_light(rng), random_background(rng, 2 * SIDE)
    )
    return _finish(picture, rng, rng.uniform(1, 6)), _half(points)


def film(rng, num_frames):
    """Frames, uint8 (FILM_SIDE, FILM_SIDE, 3), of a head that turns and speaks; with its points."""
    head, side = load_head(), 2 * FILM_SIDE
    person, light, background = Person(rng), random_light(rng), random_background(rng, side)
    for time in np.arange(num_frames) / FPS:
        wave = np.sin(2 * np.pi * time * np.array([0.3, 0.4, 0.25, 1.7, 0.5]))
        spoken = head.weights(
            jawOpen=0.25 + 0.25 * wave[3], mouthSmile=0.3 + 0.3 * wave[0], eyeBlink=wave[3] > 0.98
        )
        shift = side / 2 + side * 0.05 * wave[[2, 4]]
        view = wave[:3] * [8, 25, 8], spoken, side / 40, shift, wave[[4, 0]]
        picture, points = draw(person, view, light, background)
        yield _finish(picture, rng, 3), _half(points)


def _finish(picture, rng, noise):
    """Half the size, with noise, as uint8."""
    picture = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    picture += rng.normal(0, noise, picture.shape)
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)


def _half(points):
    """Points in a picture of half the size."""
    return (points - 0.5) / 2


def main(argv=None):
    parser = argparse.ArgumentParser(
        prog="python examples/drawn_heads.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to write into")
    parser.add_argument("--people", type=int, default=100, help="people (default: 100)")
    parser.add_argument("--views", type=int, default=3, help="pictures of each (default: 3)")
    parser.add_argument("--frames", type=int, default=75, help="frames of the film (default: 75)")
    options = parser.parse_args(argv)
    (options.output / "images").mkdir(parents=True, exist_ok=True)
    (options.output / "points.json").write_text(json.dumps(POINTS))
    rows = [["name", *(f"{axis}{k}" for k in range(12) for axis in "xy")]]
    for number in range(options.people):
        person = Person(np.random.default_rng([0, number]))
        for view in range(options.views):
            picture, points = still(person, np.random.default_rng([1, number, view]))
            rows.append([f"{number:03}_{view}.jpg", *points.round(2).ravel()])
            write_picture(options.output / "images" / rows[-1][0], picture)
    with open(options.output / "landmarks.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    frames = (frame for frame, _ in film(np.random.default_rng(2), options.frames))
    write_video(options.output / "film.mp4", frames, FPS)
    print(f"{len(rows) - 1} pictures, their points and a film are in {options.output}")


if __name__ == "__main__":
    main()
