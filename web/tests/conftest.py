"""A server of the built page, and a browser."""

import contextlib
import functools
import http.server
import os
import pathlib
import shutil
import threading
import time

import cv2
import pytest
from playwright.sync_api import sync_playwright

ROOT = pathlib.Path(__file__).parents[2]
DIST = ROOT / "web" / "dist"
HEAD = ROOT / "examples" / "wflw_v" / "videos" / "intel_head_pose_male.mp4"
PEOPLE = ROOT / "examples" / "intel_three_people_walking.mp4"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
ARGUMENTS = ("--no-sandbox", "--disable-gpu")
FAKE_CAMERA = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")
PATIENCE = 300_000  # milliseconds; a busy machine is slow


class _Handler(http.server.SimpleHTTPRequestHandler):
    isolated = False

    def log_message(self, *_):
        pass

    def end_headers(self):
        if self.isolated:
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()


class _IsolatedHandler(_Handler):
    isolated = True


@contextlib.contextmanager
def served(*, isolated=False):
    """A server of web/dist; gives its address. An isolated page may use threads."""
    if not (DIST / "standalone.html").exists():
        pytest.exit("web/dist is not there: run make web", returncode=2)
    handler = functools.partial(_IsolatedHandler if isolated else _Handler, directory=DIST)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def address():
    """Of the page on a server."""
    with served() as address:
        yield address


@pytest.fixture(scope="session")
def isolated_address():
    """The same on a server that isolates it."""
    with served(isolated=True) as address:
        yield address


@pytest.fixture(scope="session")
def launch():
    """Starts a browser with some more arguments."""
    named = os.environ.get("CHROMIUM")
    path = named or next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.exit("no Chromium: apt-get install chromium, or CHROMIUM=path", returncode=2)
    with sync_playwright() as playwright:
        yield lambda *arguments: playwright.chromium.launch(
            executable_path=path, args=[*ARGUMENTS, *arguments]
        )


@pytest.fixture(scope="session")
def camera_film(tmp_path_factory):
    """The head film as what a camera sends: JPEG pictures one after another."""
    path = tmp_path_factory.mktemp("camera") / "head.mjpeg"
    film = cv2.VideoCapture(str(HEAD))
    with path.open("wb") as file:
        while True:
            good, frame = film.read()
            if not good:
                break
            file.write(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())
    return path


@pytest.fixture(scope="session")
def browser(launch, camera_film):
    """A browser whose camera shows the head film."""
    browser = launch(*FAKE_CAMERA, f"--use-file-for-fake-video-capture={camera_film}")
    yield browser
    browser.close()


@pytest.fixture
def watched(browser):
    """Makes pages of which errors are kept: a function that opens one, as `Page`."""
    pages = []

    def opened(url, *, browser=browser, before="", expected=(), **options):
        context = browser.new_context(accept_downloads=True, **options)
        page = Page(context, expected)
        pages.append(page)
        if before:
            context.add_init_script(before)
        page.page.goto(url)
        return page

    yield opened
    for page in pages:
        page.page.context.close()
        assert not page.errors


class Page:
    """A page, and what its visitor does.

    Attributes:
        page: playwright's.
        errors: what the console and the browser complained of, but for `expected` parts of it.
        requests: addresses that were asked for.
    """

    def __init__(self, context, expected=()):
        self.page = context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.errors, self.requests = [], []

        def complain(text):
            if not any(part in text for part in expected):
                self.errors.append(text)

        self.page.on("console", lambda m: complain(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: complain(str(error)))
        self.page.on("requestfailed", lambda r: complain(f"failed: {r.url}"))
        self.page.on("request", lambda r: self.requests.append(r.url))

    def wait(self, state):
        """Waits until the page says it is so: ready, running, paused, done, broken."""
        self.page.wait_for_selector(f"body[data-state={state}]")

    def wait_until_loaded(self):
        """Waits until all files are there."""
        self.page.wait_for_selector("body[data-loaded=all]")

    def number(self, name):
        """A number that the page shows."""
        return float(self.page.inner_text(f"#{name}").split()[0])

    def set(self, *, show=None, strength=None, model=None, hurry=None):
        """Changes settings."""
        if show:
            self.page.check(f"input[name=show][value={show}]")
        if strength:
            self.page.check(f"input[name=strength][value='{strength}']")
        if model:
            self.page.select_option("#model", model)
        if hurry is not None:
            self.page.set_checked("#hurry", hurry)

    def film(self, path, **settings):
        """Shows a film or picture to its end, as fast as possible; gives its table as text."""
        self.page.wait_for_selector("body[data-state=running], body[data-state=done]")
        if self.page.get_attribute("body", "data-state") == "running":
            self.page.click("#pause")
        self.set(hurry=True, **settings)
        self.open(path)
        self.wait("done")
        return self.table()

    def open(self, path):
        """Opens a file, and waits until the page has noticed."""
        self.page.evaluate("document.getElementById('source').textContent = ''")
        self.page.set_input_files("#file", path)
        name = pathlib.Path(path).name
        self.until(
            lambda: self.page.text_content("#source") == name or self.page.is_visible("#trouble")
        )

    def until(self, holds):
        """Waits until something holds."""
        end = time.monotonic() + PATIENCE / 1000
        while not holds():
            assert time.monotonic() < end, "it does not come"
            self.page.wait_for_timeout(50)

    def until_frame(self, count):
        """Waits until so many frames were shown."""
        self.until(
            lambda: self.page.inner_text("#frames").isdigit() and self.number("frames") >= count
        )

    def table(self):
        """What the visitor downloads."""
        with self.page.expect_download() as download:
            self.page.click("#download")
        return pathlib.Path(download.value.path()).read_text("utf-8")
