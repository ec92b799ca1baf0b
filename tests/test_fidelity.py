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
    signal[100] = np.nan
    found = fidelity.response(signal, talk(TIMES), TIMES, mask)
    assert found.lag == pytest.approx(0.05, abs=0.004)


def test_a_face_at_rest_has_no_response():
    still = np.full((200, 1), 0.3)
    assert np.isnan(fidelity.response(talk(TIMES), still, TIMES, MASK)).all()
    assert np.isnan(fidelity.response(talk(TIMES)[:5], talk(TIMES)[:5], TIMES[:5], MASK[:5])).all()


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


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="shape"):
        fidelity.response(talk(TIMES), talk(TIMES)[:-1], TIMES, MASK)
