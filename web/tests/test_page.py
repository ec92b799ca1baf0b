"""The page as its visitors meet it: with and without a camera, on a phone, from disk."""

import re

import cv2
import numpy as np
import pytest
from conftest import DIST, HEAD, PATIENCE, PEOPLE, ROOT

AXE = ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js"
PORTRAIT = ROOT / "examples" / "portrait_1.jpg"
SOUND = ROOT / "tests" / "videos" / "sound.m4a"


def test_a_visitor_sees_landmarks_at_once_and_less_flicker(watched, address):
    page = watched(address)
    page.wait("running")
    page.until_frame(21)
    with_recurrence, alone = page.number("flicker-rwr"), page.number("flicker-alone")
    print(f"\nflicker {with_recurrence} and {alone} %")
    assert 0 < with_recurrence < 0.85 * alone
    assert "% less with recurrence" in page.page.inner_text("#flicker-gain")
    assert "Intel IoT DevKit" in page.page.inner_text("#source")


@pytest.mark.parametrize("film", [HEAD, PEOPLE], ids=lambda film: film.stem)
def test_recurrence_flickers_less_and_the_stronger_the_less(film, watched, address):
    page = watched(address)
    page.film(film, model="faces-68-tiny", show="alone")
    found = {"alone": page.number("flicker-alone")}
    for strength in ("0.5", "1", "2"):
        page.set(show="rwr", strength=strength)
        page.page.click("#pause")  # plays it again
        page.wait("running")
        page.wait("done")
        found[strength] = page.number("flicker-rwr")
    print(f"\n{film.stem}: {found}")
    assert found["alone"] > found["0.5"] >= found["1"] >= found["2"]


def test_nothing_is_asked_of_the_network_once_the_page_is_loaded(watched, address):
    page = watched(address)
    page.wait_until_loaded()
    page.wait("running")
    assert all(url.startswith((address, "blob:", "data:")) for url in page.requests)
    count = len(page.requests)
    page.page.context.set_offline(True)
    page.film(PEOPLE, model="faces-68", show="both")
    page.page.select_option("#sample", "people")
    page.wait("running")
    page.until_frame(3)
    later = [url for url in page.requests[count:] if not url.startswith(("blob:", "data:"))]
    assert not later and page.page.inner_text("#used") == "faces-68"


def test_the_browser_itself_keeps_the_page_from_other_servers(watched, address):
    page = watched(address, expected=("Content Security Policy", "failed: https://example.org"))
    page.wait("running")
    refused = page.page.evaluate("fetch('https://example.org').then(() => false, () => true)")
    assert refused


def test_the_camera(watched, address):
    page = watched(address)
    page.wait("running")
    page.page.click("#camera")
    page.page.wait_for_selector("#camera:text-is('Camera off')")
    page.until_frame(13)
    assert "1 face" in page.page.inner_text("#status")
    assert page.number("rate") > 0 and page.number("latency") > 0
    rows = page.table().splitlines()
    times = [float(row.split(",")[1]) for row in rows[1:]]
    assert times[0] == 0 and times == sorted(times)
    page.page.click("#pause")
    page.wait("paused")
    page.page.wait_for_timeout(1000)  # the frame that is in work is shown still
    count = page.number("frames")
    page.page.wait_for_timeout(700)
    assert page.number("frames") == count
    page.page.keyboard.press("c")
    page.wait("done")
    assert page.page.inner_text("#status") == "The camera is off."


def test_there_is_no_camera(launch, watched, address):
    browser = launch()
    page = watched(address, browser=browser, permissions=["camera"])
    page.wait("running")
    page.page.click("#camera")
    page.page.wait_for_selector("#trouble:not([hidden])")
    assert "No camera was found" in page.page.inner_text("#trouble")
    page.page.select_option("#sample", "head")  # all else still works
    page.wait("running")
    assert page.page.is_hidden("#trouble")
    page.page.context.close()
    browser.close()


def test_the_camera_is_refused(launch, watched, address):
    browser = launch("--use-fake-device-for-media-stream", "--deny-permission-prompts")
    page = watched(address, browser=browser)
    page.wait("running")
    page.page.click("#camera")
    page.page.wait_for_selector("#trouble:not([hidden])")
    assert "The camera was not allowed" in page.page.inner_text("#trouble")
    page.page.context.close()
    browser.close()


def test_an_old_browser_has_no_way_to_ask_for_a_camera(watched, address):
    page = watched(address, before="delete Navigator.prototype.mediaDevices")
    page.wait("running")
    page.page.click("#camera")
    page.page.wait_for_selector("#trouble:not([hidden])")
    assert "only to pages from https" in page.page.inner_text("#trouble")


def test_a_browser_without_simd_is_told_so(launch, watched, address):
    # V8 has no SIMD in WebAssembly where the processor lacks SSE4.1.
    browser = launch("--js-flags=--no-enable-sse4-1")
    page = watched(address, browser=browser)
    page.wait("broken")
    assert "lacks WebAssembly with SIMD" in page.page.inner_text("#trouble")
    assert page.page.is_disabled("#camera")
    page.page.context.close()
    browser.close()


@pytest.fixture
def broken(tmp_path):
    """Files that are no films, by what the page says of them."""
    data = HEAD.read_bytes()
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "text.mp4").write_text("no film")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "page.jpg").write_text("<html>")
    (tmp_path / "sound.mp4").write_bytes(SOUND.read_bytes())
    (tmp_path / "short.mp4").write_bytes(data[: len(data) // 3])
    old = cv2.VideoWriter(str(tmp_path / "old.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 64))
    for level in range(5):
        old.write(np.full((64, 64, 3), 50 * level, np.uint8))
    old.release()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("noise.mp4", "no film or picture that this browser can read"),
        ("text.mp4", "no film or picture that this browser can read"),
        ("empty.mp4", "no film or picture that this browser can read"),
        ("page.jpg", "no film or picture that this browser can read"),
        ("sound.mp4", "holds sound but no picture"),
        ("short.mp4", r"cut short: 1\.\d of 5\.0 seconds"),
        ("old.mp4", "cannot decode"),
    ],
)
def test_a_film_of_no_use_is_explained(name, words, broken, watched, address):
    page = watched(address)
    page.wait("running")
    page.page.set_input_files("#file", broken / name)
    page.page.wait_for_selector("#trouble:not([hidden])")
    text = page.page.inner_text("#trouble")
    assert re.search(words, text) and name in text
    page.page.select_option("#sample", "head")
    page.wait("running")


def test_a_film_that_breaks_off_keeps_what_was_found(watched, address, tmp_path):
    data = bytearray(HEAD.read_bytes())
    middle = len(data) * 3 // 5
    data[middle : middle + 20000] = bytes(20000)
    (tmp_path / "damaged.mp4").write_bytes(data)
    page = watched(address)
    page.film(tmp_path / "damaged.mp4", model="faces-68-tiny", show="rwr")
    rows = page.table().splitlines()
    assert f"damaged after frame {len(rows) - 1}." in page.page.inner_text("#trouble")


def test_without_webcodecs_a_film_is_played_and_skipped_frames_are_counted(watched, address):
    page = watched(address, before="delete window.VideoDecoder")
    text = page.film(HEAD, model="faces-68-tiny", show="rwr")
    rows = text.splitlines()[1:]
    counted = len(rows) + int(page.page.inner_text("#skipped"))
    print(f"\n{len(rows)} frames, {page.page.inner_text('#skipped')} skipped")
    assert 40 < len(rows) <= 62 and abs(counted - 62) <= 1
    times = [float(row.split(",")[1]) for row in rows]
    assert times == sorted(times) and times[-1] == pytest.approx(61 / 12.5, abs=0.2)


def test_a_picture(watched, address):
    page = watched(address)
    rows = page.film(PORTRAIT, show="both").splitlines()
    assert len(rows) == 2 and rows[1].startswith("0,0.000000,0,detected,")
    assert "A picture" in page.page.inner_text("#status")


def test_it_is_said_where_no_face_was_found(watched, address, tmp_path):
    stone = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    film = cv2.VideoWriter(
        str(tmp_path / "film.webm"), cv2.VideoWriter.fourcc(*"VP80"), 10, (160, 120)
    )
    for _ in range(4):
        film.write(stone)
    film.release()
    cv2.imwrite(str(tmp_path / "picture.png"), stone)
    page = watched(address)
    for name, words in (
        ("film.webm", "No face was found in this film: 4 frames, none skipped."),
        ("picture.png", "No face was found in this picture."),
    ):
        rows = page.film(tmp_path / name, model="faces-68-tiny", show="rwr").splitlines()
        assert all(",none," in row for row in rows[1:]) and page.page.inner_text("#status") == words


def test_a_film_can_be_dropped(watched, address):
    page = watched(address)
    page.wait("running")
    data = list(PORTRAIT.read_bytes())
    transfer = page.page.evaluate_handle(
        """bytes => {
          const transfer = new DataTransfer();
          const file = new File([new Uint8Array(bytes)], "dropped.jpg", { type: "image/jpeg" });
          transfer.items.add(file);
          return transfer;
        }""",
        data,
    )
    page.page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    page.page.wait_for_selector("#source:text-is('dropped.jpg')")
    page.wait("done")


def test_the_page_that_is_one_file_works_from_disk(watched):
    page = watched((DIST / "standalone.html").as_uri())
    text = page.film(HEAD, model="faces-68", show="both")
    assert len(text.splitlines()) == 63
    page.page.click("#camera")
    page.page.wait_for_selector("#camera:text-is('Camera off')")
    page.until_frame(4)
    assert [url for url in page.requests if not url.startswith(("blob:", "data:"))] == [
        (DIST / "standalone.html").as_uri()
    ]


def test_the_camera_from_disk_says_what_to_do(launch, watched):
    browser = launch("--use-fake-device-for-media-stream", "--deny-permission-prompts")
    page = watched((DIST / "standalone.html").as_uri(), browser=browser)
    page.wait("running")
    page.page.click("#camera")
    page.page.wait_for_selector("#trouble:not([hidden])")
    assert "serve the folder instead" in page.page.inner_text("#trouble")
    page.page.context.close()
    browser.close()


def test_threads_are_used_where_the_server_isolates_the_page(watched, isolated_address):
    page = watched(isolated_address)
    text = page.film(HEAD, model="faces-68-tiny", show="rwr")
    assert len(text.splitlines()) == 63
    assert page.page.evaluate("crossOriginIsolated")
    assert int(page.page.evaluate("document.body.dataset.threads")) > 1


@pytest.mark.parametrize("width", [320, 390, 768])
def test_nothing_is_wider_than_a_phone(width, watched, address):
    page = watched(address, viewport={"width": width, "height": 740})
    page.wait("running")
    page.until_frame(2)
    for summary in page.page.query_selector_all("summary"):
        summary.click()
    assert page.page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible(scheme, watched, address):
    page = watched(address, color_scheme=scheme)
    page.wait("running")
    page.page.click("#pause")
    for summary in page.page.query_selector_all("summary"):
        summary.click()
    page.page.evaluate(AXE.read_text("utf-8"))
    found = page.page.evaluate("axe.run()")
    assert [(v["id"], [n["html"] for n in v["nodes"]]) for v in found["violations"]] == []


def test_the_page_is_used_with_a_keyboard(watched, address):
    page = watched(address)
    page.wait("running")
    page.until_frame(2)  # there is a table to download
    keys = page.page.keyboard
    reached = []
    for _ in range(16):
        keys.press("Tab")
        reached.append(page.page.evaluate("document.activeElement.id"))
    assert {"pause", "camera", "open", "sample", "model", "close-up", "download"} <= set(reached)
    keys.press("Escape")
    page.page.evaluate("document.activeElement.blur()")
    keys.press("Space")
    page.wait("paused")
    keys.press("r")
    assert page.page.is_checked("input[value=rwr]")
    keys.press("3")
    assert page.page.is_checked("input[value='2']")
    closed = page.page.is_checked("#close-up")
    keys.press("z")
    assert page.page.is_checked("#close-up") != closed
    keys.press("Space")
    page.wait("running")
    keys.press("s")
    assert page.page.input_value("#sample") == "people"
    page.page.click("summary")
    page.page.uncheck("#keys")
    keys.press("a")
    assert page.page.is_checked("input[value=rwr]")


def test_who_wants_no_motion_starts_it(watched, address):
    page = watched(address, reduced_motion="reduce")
    page.wait_until_loaded()
    assert page.page.evaluate("document.body.dataset.state") == "ready"
    page.page.select_option("#sample", "head")
    page.page.wait_for_selector("body[data-state=running]", timeout=PATIENCE)
