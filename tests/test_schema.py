"""A mirrored face is a face again: the permutations fit real mean shapes."""

import dataclasses
import doctest
import json
import pathlib

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from ldeq_jax.face import schema

# Mean shapes of real faces (Procrustes), the outer eye corners at (-0.5, 0) and (0.5, 0).
SHAPES = json.loads((pathlib.Path(__file__).parent / "goldens" / "mean_shapes.json").read_text())
SCHEMAS = [schema.WFLW_98, schema.IBUG_68, schema.FGNET_68]
every_schema = pytest.mark.parametrize("layout", SCHEMAS, ids=lambda layout: layout.name)


def distances(shape, permutation):
    """From each landmark to each one of the mirrored face, laid over it as well as can be."""
    mirrored = (shape * [-1, 1])[list(permutation)]
    # An affine fit also takes away the mean turn of the head.
    columns = np.column_stack([mirrored, np.ones(len(mirrored))])
    fitted = columns @ np.linalg.lstsq(columns, shape, rcond=None)[0]
    return np.linalg.norm(shape[:, None] - fitted, axis=-1)


def fits(shape, permutation):
    """Whether no other pairing brings the two faces closer than that of the permutation."""
    _, partner = linear_sum_assignment(distances(shape, permutation))
    return (partner == np.arange(len(shape))).all()


@every_schema
def test_mirroring_twice_changes_nothing(layout):
    flip = np.array(layout.flip_permutation)
    np.testing.assert_array_equal(flip[flip], np.arange(layout.num_landmarks))


@every_schema
def test_the_mirrored_mean_face_is_the_mean_face(layout):
    shape = np.array(SHAPES[layout.name])
    assert shape.shape == (layout.num_landmarks, 2)
    assert fits(shape, layout.flip_permutation)
    assert distances(shape, layout.flip_permutation).diagonal().max() < 0.15


@every_schema
def test_the_mean_face_finds_any_wrong_pair(layout):
    shape, flip = np.array(SHAPES[layout.name]), layout.flip_permutation
    for left, right in enumerate(flip):
        if left < right:
            wrong = list(flip)
            wrong[left], wrong[right] = left, right
            assert not fits(shape, wrong), (left, right)


@every_schema
def test_eye_corners_are_the_outermost_points_of_the_eyes(layout):
    shape, (left, right) = np.array(SHAPES[layout.name]), layout.eye_corners
    np.testing.assert_allclose(shape[[left, right]], [[-0.5, 0], [0.5, 0]], atol=1e-3)
    eyes = [c.indices for c in layout.contours if {left, right} & set(c.indices)]
    assert len(eyes) == 2
    assert min(eyes[0], key=lambda k: shape[k, 0]) == left
    assert max(eyes[1], key=lambda k: shape[k, 0]) == right


@every_schema
def test_mirrored_contours_are_contours(layout):
    def lines(contours):
        return {frozenset(zip(c, c[1:], strict=False)) for c in contours}

    def undirected(contours):
        ends = [(*c.indices, *c.indices[:1]) if c.closed else c.indices for c in contours]
        return {frozenset(frozenset(pair) for pair in line) for line in lines(ends)}

    mirrored = [
        schema.Contour(tuple(layout.flip_permutation[k] for k in c.indices), c.closed)
        for c in layout.contours
    ]
    assert undirected(mirrored) == undirected(layout.contours)


@every_schema
def test_schemas_are_found_by_name(layout):
    assert schema.get_schema(layout.name) is layout


def test_an_unknown_name_lists_the_known():
    with pytest.raises(ValueError, match="wflw_98, ibug_68, fgnet_68"):
        schema.get_schema("wflw98")


def test_a_schema_from_a_file_is_the_one_written(tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(dataclasses.asdict(schema.IBUG_68)))
    assert schema.get_schema(str(file)) == schema.IBUG_68
    assert schema.get_schema(schema.IBUG_68) is schema.IBUG_68


def test_pairs_stand_for_the_permutation():
    fields = dataclasses.asdict(schema.IBUG_68)
    flip = fields.pop("flip_permutation")
    fields["pairs"] = [[left, right] for left, right in enumerate(flip) if left < right]
    assert schema.from_fields(json.loads(json.dumps(fields))) == schema.IBUG_68


@pytest.mark.parametrize("text", ["{", "[]", '{"name": "toy"}', '{"flip_permutation": 3}'])
def test_a_file_that_describes_no_schema_is_named(tmp_path, text):
    file = tmp_path / "mine.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"mine\.json describes no landmark schema"):
        schema.get_schema(str(file))
    with pytest.raises(ValueError, match=r"none\.json"):
        schema.get_schema(str(tmp_path / "none.json"))


def make(**changes):
    fields = {"name": "toy", "num_landmarks": 3, "flip_permutation": (1, 0, 2)}
    return schema.LandmarkSchema(**{**fields, "eye_corners": (0, 1), **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flip_permutation": (1, 0)}, "each of 0 ... 2 once"),
        ({"flip_permutation": (1, 0, 3)}, "each of 0 ... 2 once"),
        ({"flip_permutation": (1, 1, 2)}, "each of 0 ... 2 once"),
        ({"flip_permutation": (1, 2, 0)}, "mirroring twice"),
        ({"eye_corners": (0, 3)}, r"landmarks \[3\]"),
        ({"eye_corners": (0, 2)}, "mirror image"),
        ({"contours": (schema.Contour((0, -1)),)}, r"landmarks \[-1\]"),
    ],
)
def test_a_schema_that_cannot_be_is_refused(changes, message):
    make()
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_schemas_differ_by_what_their_landmarks_mean():
    toy = make(num_landmarks=4, flip_permutation=(1, 0, 3, 2))
    drawn = make(name="other", num_landmarks=4, flip_permutation=(1, 0, 3, 2), eye_corners=(1, 0))
    assert schema.differences(toy, drawn) == []
    assert schema.differences(toy, make()) == ["4 against 3 landmarks"]
    unpaired = make(num_landmarks=4, flip_permutation=(1, 0, 2, 3))
    assert schema.differences(toy, unpaired) == ["other mirror images of landmarks 2, 3"]
    eyes = dataclasses.replace(toy, eye_corners=(2, 3))
    assert schema.differences(toy, eyes) == ["eye corners (0, 1) against (2, 3)"]
    (found,) = schema.differences(schema.IBUG_68, schema.FGNET_68)[:1]
    assert found.startswith("other mirror images of landmarks ")


def test_the_example_in_the_docs():
    assert not doctest.testmod(schema).failed


def test_the_landmarks_of_ibug_in_wflw_keep_their_meaning():
    points = schema.indices_of("wflw_98", schema.IBUG_68)
    assert points == schema.indices_of(schema.WFLW_98, schema.IBUG_68)
    assert len(set(points)) == 68
    flip = schema.WFLW_98.flip_permutation
    mirrored = [points[k] for k in schema.IBUG_68.flip_permutation]
    assert [flip[point] for point in points] == mirrored
    assert {points[k] for k in schema.IBUG_68.eye_corners} == set(schema.WFLW_98.eye_corners)
    ours, theirs = (np.array(SHAPES[name]) for name in ("ibug_68", "wflw_98"))
    nearest = np.linalg.norm(ours[:, None] - theirs, axis=-1).argmin(axis=1)
    assert (nearest == points)[17:].mean() > 0.6, "mean faces of two collections"
    for have, want in [(schema.IBUG_68, schema.IBUG_68), ("fgnet_68", schema.IBUG_68)]:
        assert schema.indices_of(have, want) is None
