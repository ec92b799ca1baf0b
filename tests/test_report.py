"""Laws of the pictures and tables: geometry, what is drawn where, files that can be read again."""

import json

import cv2
import numpy as np
import pytest

from ldeq_jax.face.schema import Contour, LandmarkSchema
from ldeq_jax.report import draw, face_plots, tables, training_plots

# Two eyes, joined by a line, and a nose that no contour touches.
SCHEMA = LandmarkSchema(
    name="three",
    num_landmarks=3,
    flip_permutation=(1, 0, 2),
    eye_corners=(0, 1),
    contours=(Contour((0, 1)),),
)
POINTS = np.array([[6.0, 8.0], [22.0, 8.0], [14.0, 18.0]])


def grey(height=24, width=30):
    """A plain picture."""
    return np.full((height, width, 3), 90, np.uint8)


def drawn(image, plain):
    """Mask of the pixels that differ from a plain picture."""
    return (image != plain).any(axis=-1)


@pytest.mark.parametrize("scale", [1, 2, 5])
def test_a_point_is_drawn_where_its_pixel_went(scale):
    plain = draw.draw_landmarks(grey(), np.full((3, 2), np.nan), SCHEMA, scale=scale)
    assert plain.shape == (24 * scale, 30 * scale, 3) and (plain == 90).all()
    alone = np.full((3, 2), np.nan)
    alone[2] = POINTS[2]
    rows, columns = np.nonzero(drawn(draw.draw_landmarks(grey(), alone, SCHEMA, None, scale), 90))
    centre = (POINTS[2] + 0.5) * scale - 0.5
    np.testing.assert_allclose([columns.mean(), rows.mean()], centre, atol=0.51)
    assert np.ptp(columns) <= 2 * scale + 2


def test_contours_join_their_points_and_no_others():
    picture = drawn(draw.draw_landmarks(grey(), POINTS, SCHEMA), 90)
    assert picture[8, 6:23].all()
    assert not picture[13, :].any()


def test_the_prediction_covers_the_reference_and_the_image_is_left_alone():
    image = grey()
    both = draw.draw_landmarks(image, POINTS, SCHEMA, target=POINTS + [0.0, 4.0])
    assert (image == 90).all()
    assert tuple(both[18, 14]) == draw.PREDICTED_RGB
    assert tuple(both[22, 14]) == draw.TARGET_RGB
    same = draw.draw_landmarks(image, POINTS, SCHEMA, target=POINTS)
    assert tuple(same[18, 14]) == draw.PREDICTED_RGB


def test_points_outside_the_image_and_nan_are_harmless():
    wild = np.array([[np.nan, 3.0], [-1e30, 1e30], [500.0, -20.0]])
    assert (draw.draw_landmarks(grey(), wild, SCHEMA) == 90).all()


def test_points_of_another_schema_are_refused():
    with pytest.raises(ValueError, match="three has 3 landmarks"):
        draw.draw_landmarks(grey(), np.zeros((68, 2)), SCHEMA)


def test_contact_sheet_has_a_rimmed_tile_for_each_image():
    images, points = [grey()] * 5, [POINTS] * 5
    sheet = draw.contact_sheet(images, points, SCHEMA, columns=3, scale=2)
    height, width = 2 * 24 + 2, 2 * 30 + 2
    assert sheet.shape == (2 * height, 3 * width, 3) and sheet.dtype == np.uint8
    tile = draw.draw_landmarks(images[0], points[0], SCHEMA, scale=2)
    np.testing.assert_array_equal(sheet[height + 1 : -1, width + 1 : 2 * width - 1], tile)
    assert (sheet[height:, 2 * width :] == 255).all()
    assert (sheet[height - 1] == 255).all() and (sheet[:, width] == 255).all()


def test_contact_sheet_is_no_wider_than_its_images():
    sheet = draw.contact_sheet([grey()] * 2, [POINTS] * 2, SCHEMA, columns=8, scale=1)
    assert sheet.shape == (26, 2 * 32, 3)
    with pytest.raises(ValueError, match="cannot tile 0 images"):
        draw.contact_sheet([], [], SCHEMA)


def test_the_gallery_asks_for_the_faces_it_shows_alone(tmp_path):
    class Images(list):
        asked = []

        def __getitem__(self, index):
            self.asked.append(int(index))
            return super().__getitem__(index)

    images = Images([grey(24 + i, 30) for i in range(12)])
    errors = np.array([0.05, 0.01, 0.2, 0.03, np.nan, 0.04, 0.06, 0.02, 0.3, 0.07, 0.08, 0.09])
    faces = [POINTS] * 12
    path = tmp_path / "gallery.png"
    face_plots.face_gallery(images, faces, faces, errors, SCHEMA, path, count=2)
    assert images.asked == [1, 7, 0, 6, 2, 8]
    assert cv2.imread(str(path)).shape[2] == 3
    with pytest.raises(ValueError, match="no face with a finite NME"):
        face_plots.face_gallery(images, faces, faces, np.full(12, np.nan), SCHEMA, path)


def test_cumulative_error_plot_can_be_read(tmp_path):
    path = tmp_path / "errors.png"
    face_plots.cumulative_error_plot({"ours": np.linspace(0, 0.2, 30), "empty": np.zeros(0)}, path)
    assert cv2.imread(str(path)).std() > 0


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def test_a_log_falls_into_series_and_later_lines_count(tmp_path):
    log = write(
        tmp_path / "log.jsonl",
        {"step": 2, "train/loss": 9.0, "lr": 0.1},
        {"step": 1, "train/loss": 4.0, "train/images_per_second": 7},
        {"step": 2, "train/loss": 3.0, "eval/test/nme": 8.5, "train/residual": float("nan")},
    )
    assert training_plots._read_series(log) == {
        "loss": {"train": {1: 4.0, 2: 3.0}},
        "nme": {"eval/test": {2: 8.5}},
        "lr": {"": {2: 0.1}},
    }
    training_plots.training_curves(log, tmp_path / "curves.png")
    assert cv2.imread(str(tmp_path / "curves.png")).std() > 0


def test_a_broken_log_is_named_with_its_line(tmp_path):
    log = write(tmp_path / "log.jsonl", {"step": 1, "train/loss": 1.0}, {"train/loss": 1.0})
    with pytest.raises(ValueError, match=r"log\.jsonl, line 2: .*step"):
        training_plots.training_curves(log, tmp_path / "curves.png")
    log.write_text('{"step": 1, "train/lo', encoding="utf-8")
    with pytest.raises(ValueError, match="line 1"):
        training_plots.training_curves(log, tmp_path / "curves.png")
    write(log, {"step": 1, "speed": 1.0})
    with pytest.raises(ValueError, match="no record with any of loss"):
        training_plots.training_curves(log, tmp_path / "curves.png")


def test_markdown_table():
    rows = [
        {"subset": "full", "faces": 2500, "NME %": 3.947, "AUC10": "0.621"},
        {"subset": "pose", "faces": 326, "NME %": np.float64(6.859), "AUC10": "0.4"},
    ]
    assert tables.markdown_table(rows) == (
        "| subset | faces | NME % | AUC10 |\n"
        "| ------ | ----: | ----: | ----- |\n"
        "| full   |  2500 |  3.95 | 0.621 |\n"
        "| pose   |   326 |  6.86 | 0.4   |\n"
    )
    assert tables.markdown_table([]) == ""
    with pytest.raises(ValueError, match="row 1 of the table"):
        tables.markdown_table([{"a": 1}, {"b": 1}])
