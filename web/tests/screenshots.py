"""Takes the picture of the page that the README shows.

    python web/tests/screenshots.py docs/images/web.jpg

The page must be built (`make web`). The film is the one of `examples/wflw_v`, CC BY 4.0.
"""

import argparse
import pathlib
from shutil import which

import cv2
import numpy as np
from conftest import BROWSERS, Page, served
from playwright.sync_api import sync_playwright

FRAME = 24  # of the film that is shown
TURNS = 1  # of the film before


def main(argv=None):
    """Takes it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=pathlib.Path)
    output = parser.parse_args(argv).output
    with served() as address, sync_playwright() as playwright:
        path = next(filter(None, map(which, BROWSERS)))
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        context = browser.new_context(
            viewport={"width": 1100, "height": 890}, device_scale_factor=1.5
        )
        page = Page(context)
        page.page.goto(address)
        page.wait("running")
        for _ in range(TURNS):
            page.until_frame(61)
            page.until(lambda: int(page.page.text_content("#frames")) < 30)
        page.until_frame(FRAME)
        data = page.page.screenshot()
        browser.close()
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    cv2.imwrite(str(output), image, [cv2.IMWRITE_JPEG_QUALITY, 85])
    print(f"{output}: {output.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
