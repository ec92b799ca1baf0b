"""Amplitude and lag are those that were put in."""

import numpy as np
import pytest
from scipy.signal import lfilter

from ldeq_jax.face import fidelity
from ldeq_jax.face.schema import FGNET_68, IBUG_68, WFLW_98

TIMES = np.arange(200) / 25.0
MASK = np.ones(200, bool)


def talk(times):
    """A smooth signal like that of a mouth, (T, 1)."""
    return (0.05 * np.sin(2.1 * 2 * np.pi * times) + 0.03 * np.sin(9 * times + 1))[:, None]


@pytest.mark.parametrize(("amplitude", "lag"), [(1, 0), (0.8, 0.04), (1.1, -0.02), (0.5, 0.1)])
def test_a_scaled_and_late_copy(amplitude, lag):
    found = fidelity.response(amplitude * talk(TIMES - lag) + 3, talk(TIMES), TIMES, MASK)
    assert found.amplitude == pytest.approx(amplitude, rel=0.005)
    assert found.lag == pytest.approx(lag, abs=0.002)


def test_the_lag_is_finer_than_the_delays_that_are_tried():
    lags = [0.0412, 0.0431, 0.0457]
    found = [fidelity.response(talk(TIMES - lag), talk(TIMES), TIMES, MASK).lag for lag in lags]
    np.testing.assert_allclose(found, lags, atol=3e-4)


def test_noise_is_no_amplitude():
    noise = 0.02 * np.random.default_rng(0).normal(size=(200, 1))
    clean = fidelity.response(talk(TIMES), talk(TIMES), TIMES, MASK)
    noisy = fidelity.response(talk(TIMES) + noise, talk(TIMES), TIMES, MASK)
    assert noisy.amplitude == pytest.approx(clean.amplitude, rel=0.05)
    assert abs(noisy.lag) < 0.006


def test_an_exponential_average_damps_and_lags_as_its_transfer_function_says():
    weight, hertz = 0.4, 1.5
    wave = 0.05 * np.sin(2 * np.pi * hertz * TIMES)[:, None]
    z = np.exp(-2j * np.pi * hertz / 25)
    gain = weight / (1 - (1 - weight) * z)
    smoothed = lfilter([weight], [1, weight - 1], wave, axis=0)
    found = fidelity.response(smoothed[50:], wave[50:], TIMES[50:], MASK[50:])
    assert found.amplitude == pytest.approx(abs(gain), rel=0.01)
    assert found.lag == pytest.approx(-np.angle(gain) / (2 * np.pi * hertz), abs=0.002)


def test_frames_that_do_not_count_are_left_out():
    signal, mask = talk(TIMES - 0.05), MASK.copy()
    signal[40:60], mask[40:60] = 7.0, False
    signal[50] = np.nan
    found = fidelity.response(signal, talk(TIMES), TIMES, mask)
    assert found.lag == pytest.approx(0.05, abs=0.004)


def test_several_signals_are_measured_at_once_and_none_gains_by_a_missing_frame():
    several = np.stack([0.7 * talk(TIMES - 0.03), talk(TIMES), talk(TIMES)])
    several[1, 30] = np.nan
    found = fidelity.response(several, talk(TIMES), TIMES, MASK)
    alone = fidelity.response(several[0], talk(TIMES), TIMES, MASK)
    assert np.isnan([found.amplitude[1], found.lag[1]]).all()
    np.testing.assert_allclose(found.amplitude[[0, 2]], [alone.amplitude, 1], rtol=1e-4)
    np.testing.assert_allclose(found.lag[[0, 2]], [alone.lag, 0], atol=1e-4)
    smooth = np.square(talk(TIMES) - talk(TIMES).mean()).mean()
    assert 0.7 * smooth < found.motion == alone.motion < smooth


def test_noise_of_labels_cancels_in_the_ratio_of_two_methods():
    labels = talk(TIMES) + 0.03 * np.random.default_rng(1).normal(size=(200, 1))
    both = fidelity.response(np.stack([talk(TIMES), 0.8 * talk(TIMES)]), labels, TIMES, MASK)
    assert both.amplitude[0] < 0.95
    assert both.amplitude[1] / both.amplitude[0] == pytest.approx(0.8, rel=1e-3)


def test_noise_does_not_open_a_closed_mouth():
    rng = np.random.default_rng(3)
    face = np.repeat(rng.uniform(0, 100, (1, 68, 2)), 2000, axis=0)
    for above, below in fidelity._GAPS["ibug_68"]["mouth"]:
        face[:, below] = face[:, above]
    noisy = face + rng.normal(0, 3, face.shape)
    opening = fidelity.signals(noisy, IBUG_68, reference=face)["mouth"]
    assert abs(opening.mean()) < 3 * opening.std() / np.sqrt(len(opening))


def test_a_face_at_rest_has_no_response():
    still = np.full((200, 1), 0.3)
    few = [talk(TIMES)[:5], talk(TIMES)[:5], TIMES[:5], MASK[:5]]
    for found in (fidelity.response(talk(TIMES), still, TIMES, MASK), fidelity.response(*few)):
        assert np.isnan(found[:2]).all() and found.motion == 0


@pytest.mark.parametrize("schema", [IBUG_68, WFLW_98, FGNET_68], ids=lambda s: s.name)
def test_signals_see_what_opens(schema):
    rng = np.random.default_rng(1)
    face = np.repeat(rng.uniform(0, 100, (1, schema.num_landmarks, 2)), 4, axis=0)
    found = fidelity.signals(face, schema)
    assert {name: s.shape for name, s in found.items()} == {
        "mouth": (4, 1),
        "eyes": (4, 1),
        "head": (4, 2),
    }
    for pairs in fidelity._GAPS[schema.name].values():
        mirrored = {frozenset(schema.flip_permutation[i] for i in pair) for pair in pairs}
        assert mirrored == {frozenset(pair) for pair in pairs}, "a gap's mirror image is a gap"


def test_openings_are_free_of_similarities_and_use_only_what_counts():
    rng = np.random.default_rng(2)
    face = rng.uniform(0, 100, (30, 68, 2))
    growth = np.exp(rng.normal(0, 0.3, 30) + 1j * rng.normal(0, 0.3, 30))[:, None]
    moved = growth * (face @ [1, 1j]) + rng.normal(0, 50, (30, 1))
    moved = np.stack([moved.real, moved.imag], axis=-1)
    for name in ("mouth", "eyes"):
        expected = fidelity.signals(face, IBUG_68)[name]
        np.testing.assert_allclose(fidelity.signals(moved, IBUG_68)[name], expected)
    counted = [62, 66, 61, 36, 45]  # one pair of lips, none of lids
    face[:, sorted(set(range(68)) - set(counted))] = np.nan
    labels = rng.uniform(0, 100, (30, 68, 2))
    found = fidelity.signals(face, IBUG_68, reference=labels, counted=counted)
    assert sorted(found) == ["head", "mouth"]
    across = (labels[:, 45] - labels[:, 36]) @ [1, 1j]
    gap = (((face[:, 66] - face[:, 62]) @ [1, 1j]) / (1j * across / abs(across))).real
    radius = np.sqrt(labels.var(axis=1).sum(axis=-1))
    np.testing.assert_allclose(found["mouth"][:, 0], gap / radius)
    np.testing.assert_allclose(found["head"], face[:, counted].mean(axis=1) / radius.mean())


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="shape"):
        fidelity.response(talk(TIMES), talk(TIMES)[:-1], TIMES, MASK)
