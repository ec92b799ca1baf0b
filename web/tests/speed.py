"""How fast the page is in this machine's Chromium, as a table.

    python web/tests/speed.py

The page must be built (`make web`). Each film is shown to its end as fast as it goes; milliseconds
are those that the page shows, the median of the last 30 frames.
"""

import contextlib
import time
from shutil import which

from conftest import ARGUMENTS, BROWSERS, HEAD, PEOPLE, Page, served
from playwright.sync_api import sync_playwright


def main():
    """Prints the table."""
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(served())
        isolated = stack.enter_context(served(isolated=True))
        playwright = stack.enter_context(sync_playwright())
        path = next(filter(None, map(which, BROWSERS)))
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        print("| threads | model | film | show | frames a second | ms a frame |")
        print("|---|---|---|---|---|---|")
        for address in (plain, isolated):
            page = Page(browser.new_context(accept_downloads=True))
            begun = time.monotonic()
            page.page.goto(address)
            page.wait("running")
            until_running = time.monotonic() - begun
            page.wait_until_loaded()
            until_loaded = time.monotonic() - begun
            threads = page.page.evaluate("document.body.dataset.threads")
            for model in ("faces-68-tiny", "faces-68"):
                for film in (HEAD, PEOPLE):
                    for show in ("rwr", "alone", "both"):
                        page.film(film, model=model, show=show)
                        rate, spent = page.number("rate"), page.number("computing")
                        cells = (threads, model, film.stem, show, f"{rate:.0f}", f"{spent:.0f}")
                        print(f"| {' | '.join(cells)} |", flush=True)
            print(f"\na film after {until_running:.1f} s, all there after {until_loaded:.1f} s\n")
        browser.close()


if __name__ == "__main__":
    main()
