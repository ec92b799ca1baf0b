"""The page of `ldeq review` in a browser: keys, files, what it remembers, what it loads."""

import json
import shutil
import time

import pytest
from commands import ldeq
from test_browser_reports import browser  # noqa: F401  (a fixture)
from test_label_review import apply, model, rows_of, template  # noqa: F401  (fixtures)

pytestmark = pytest.mark.slow

PATIENCE = 20_000  # milliseconds; a busy machine is slow


@pytest.fixture
def reviewed(template, tmp_path):  # noqa: F811
    """A set with its page; the film's name is hostile."""
    out = shutil.copytree(template, tmp_path / "my set")
    ldeq("review", out)
    return out


@pytest.fixture
def tab(browser, reviewed):  # noqa: F811
    """Opens the page in a browser that knows nothing of it; `again` opens it in the same."""
    contexts = []

    def open_page(again=None, **options):
        if again is None:
            size = {"width": 1280, "height": 800}
            options = {"viewport": size, "offline": True} | options
            context = browser.new_context(**options)
            context.set_default_timeout(PATIENCE)
            contexts.append(context)
        page = contexts[-1].new_page()
        page.reports, page.requests = [], []
        page.on("console", lambda message: page.reports.append(message.text))
        page.on("pageerror", lambda error: page.reports.append(str(error)))
        page.on("request", lambda request: page.requests.append(request.url))
        page.goto((reviewed / "review.html").as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()


def name(page):
    return page.locator("#name").text_content()


def count(page):
    return page.locator("#count").text_content()


def said(page):
    return page.locator("#said").text_content()


def listed(page):
    return page.locator("#list button b").all_text_contents()


def until(page, expression):
    """Waits until an expression is true; the page forbids what `wait_for_function` does."""
    end = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(20)


def press(page, *keys):
    for key in keys:
        page.keyboard.press(key)


def test_keys_choose_and_go_on_and_undo(tab, reviewed):
    page, rows = tab(), rows_of(reviewed)
    ids = list(rows)
    assert listed(page) == ids and name(page) == ids[0]
    press(page, "d")
    assert name(page) == ids[1] and f"{ids[0]}: dropped" in said(page)
    press(page, "e", "ArrowRight", "h")
    assert name(page) == ids[4]
    assert "4 of 5 looked at · 3 decided by hand, not saved" in count(page)
    press(page, "ArrowLeft")
    pressed = page.locator("[data-choice][aria-pressed=true]")
    assert pressed.get_attribute("data-choice") == "hard" and name(page) == ids[3]
    press(page, "u", "u")
    assert name(page) == ids[1] and "1 decided by hand" in count(page)
    press(page, "Control+z", "u")
    assert "0 decided by hand" in count(page) and "Nothing to undo" in said(page)
    # The choice of all windows tells how many are where.
    press(page, *(["ArrowLeft"] * 5), *("d" * 5))
    assert "now 0 easy, 0 hard, 5 dropped" in count(page)
    press(page, "n", *(["ArrowLeft"] * 4), "h")
    assert name(page) == ids[1]
    outcome = rows[ids[4]]["list"] or "dropped"
    expected = {"easy": 0, "hard": 1, "dropped": 3}
    expected[outcome] += 1
    assert "now {easy} easy, {hard} hard, {dropped} dropped".format(**expected) in count(page)


def test_a_kept_window_goes_where_the_set_will_have_it(tab, reviewed):
    page, rows = tab(), rows_of(reviewed)
    press(page, "3")
    dropped = [id for id, row in rows.items() if row["decision"] == "drop"]
    assert listed(page) == dropped and name(page) == dropped[0]
    assert rows[dropped[0]]["reason"] in page.locator("#verdict").text_content()
    press(page, "k")
    [becomes] = [word for word in ("easy", "hard") if word in said(page)]
    apply(reviewed, {dropped[0]: "keep"})
    assert rows_of(reviewed)[dropped[0]]["list"] == becomes


def test_filters_show_what_they_say(tab, reviewed):
    page, rows = tab(), rows_of(reviewed)
    kinds = {"4": "easy", "5": "hard", "3": ""}
    for key, kind in kinds.items():
        press(page, key)
        assert listed(page) == [id for id, row in rows.items() if row["list"] == kind]
    press(page, "2")
    assert listed(page) == [id for id, row in rows.items() if row["decision"] == "keep"]
    ids = list(rows)
    press(page, "1", *(["ArrowLeft"] * 5), "d", "ArrowRight")
    assert name(page) == ids[2]
    for key, some in {"6": ids[1:], "7": ids[2:], "8": ids[:1]}.items():
        press(page, key)
        assert listed(page) == some
    page.locator("#filter").select_option("all")
    press(page, "g")
    assert page.locator("#list [aria-current] b").text_content() == name(page)
    while "You have looked at all" not in said(page):
        press(page, "g")
    assert "5 of 5 looked at" in count(page)
    press(page, "7")
    assert "No window is like that" in page.locator("#list").text_content()


def test_a_saved_file_is_what_apply_takes(tab, reviewed):
    page, rows = tab(), rows_of(reviewed)
    ids = list(rows)
    press(page, "d", "ArrowRight", "e", "h")
    with page.expect_download() as waiting:
        press(page, "s")
    assert waiting.value.suggested_filename == "choices.csv"
    path = reviewed.parent / "choices.csv"
    waiting.value.save_as(path)
    words = dict(zip(ids, ("drop", "none", "easy", "hard"), strict=False))
    lines = [f"{id},{word},{rows[id]['digest']}" for id, word in words.items()]
    assert path.read_text() == "\n".join(["id,choice,digest", *lines, ""])
    assert "not saved" not in count(page)
    ldeq("label", f"--output={reviewed}", f"--apply={path}")
    after = rows_of(reviewed)
    assert [after[id]["choice"] for id in ids] == ["drop", "", "easy", "hard", ""]
    assert [after[id]["list"] for id in ids[2:4]] == ["easy", "hard"] and not after[ids[0]]["list"]
    # The page that is made again has them from the start, in any browser, and in this one.
    ldeq("review", reviewed)
    for opened in (tab(again=page), tab()):
        assert "4 of 5 looked at · 3 decided by hand · now" in count(opened)
    # What is applied later counts more than what this browser still knows.
    press(opened, "k")
    assert "decided by hand, not saved" in count(opened)
    apply(reviewed, {ids[0]: "hard", ids[1]: "easy"})
    ldeq("review", reviewed)
    page = tab(again=opened)
    assert "2 of 5 looked at · 2 decided by hand" in count(page)
    page.locator("#list button").first.click()
    pressed = page.locator("[data-choice][aria-pressed=true]")
    assert name(page) == ids[0] and pressed.get_attribute("data-choice") == "hard"


def test_a_choice_takes_the_place_of_one_that_waits_for_a_former_film(tab, reviewed):
    first, second, *_ = rows_of(reviewed)
    record = json.loads((reviewed / "settings.json").read_text())
    record["choices"] += [f"{first},hard,aaaaaaaa", f"{second},hard,aaaaaaaa"]
    (reviewed / "settings.json").write_text(json.dumps(record))
    ldeq("review", reviewed)
    page = tab()
    press(page, "d")
    with page.expect_download() as download:
        press(page, "s")
    path = reviewed.parent / "choices.csv"
    download.value.save_as(path)
    lines = [f"{first},drop,{rows_of(reviewed)[first]['digest']}", f"{second},hard,aaaaaaaa"]
    assert path.read_text().splitlines() == ["id,choice,digest", *lines]
    ldeq("label", f"--output={reviewed}", f"--apply={path}")
    assert [row["choice"] for row in rows_of(reviewed).values()][:2] == ["drop", ""]


def test_a_file_can_be_loaded_and_strange_lines_are_told(tab, reviewed):
    page, rows = tab(), rows_of(reviewed)
    ids = list(rows)
    path = reviewed.parent / "earlier.csv"
    path.write_text(f"\ufeffID;Choice\r\n{ids[1]};DROP\r\n{ids[2]};\r\n", encoding="utf-8")
    page.set_input_files("#file", path)
    until(page, "document.querySelector('#said').textContent.startsWith('Loaded 1 ')")
    assert "1 of 5 looked at · 1 decided by hand · now" in count(page)
    path.write_text(
        f"id,choice,digest\n{ids[0]},easy,{rows[ids[0]]['digest']}\nnobody,drop,\n"
        f"{ids[3]},drop,abcdefgh\n{ids[4]},dorp,\n",
        encoding="utf-16",
    )
    page.set_input_files("#file", path)
    until(page, "document.querySelector('#said').textContent.startsWith('Loaded 1 ')")
    until(page, "document.querySelector('#said').textContent.includes('nobody')")
    assert "3 are for windows that are not on this page, or cannot be read" in said(page)
    assert "2 decided by hand, not saved" in count(page)
    press(page, "u")
    assert "1 decided by hand" in count(page)
    path.write_text("no choices at all")
    page.set_input_files("#file", path)
    until(page, "document.querySelector('#said').textContent.includes('is no file of')")
    assert "1 decided by hand" in count(page)


def test_choices_are_there_after_the_page_was_closed(tab, reviewed):
    page = tab()
    press(page, "d", "ArrowRight", "e")
    before = count(page), name(page)
    page.reload()
    assert (count(page), name(page)) == before
    page.close()
    page = tab(again=page)
    assert (count(page), name(page)) == before
    other = tab(again=page)
    press(other, "h")
    until(page, "document.querySelector('#count').textContent.includes('3 decided')")


def test_a_browser_that_keeps_nothing_says_so(tab):
    page = tab()
    page.add_init_script(
        "Object.defineProperty(window, 'localStorage', {get() { throw new Error('no'); }})"
    )
    page.reload()
    assert "This browser keeps nothing" in said(page)
    press(page, "d", "e")
    assert "2 decided by hand" in count(page) and not page.reports


def test_leaving_with_unsaved_choices_asks(tab, reviewed):
    page = tab()
    asked = []

    def answer(dialog):
        asked.append(dialog.type)
        dialog.accept()

    page.on("dialog", answer)
    page.locator("#name").click()
    press(page, "ArrowRight", "ArrowRight")
    page.reload()
    assert not asked  # nothing was chosen
    press(page, "d")
    page.reload()
    assert asked == ["beforeunload"]
    page.locator("#name").click()
    with page.expect_download():
        press(page, "Control+s")
    page.reload()
    assert asked == ["beforeunload"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 800, 1280, 1920])
def test_only_what_is_seen_is_loaded_and_nothing_goes_wrong(tab, reviewed, width, scheme):
    page = tab(viewport={"width": width, "height": 800}, color_scheme=scheme)
    until(page, "document.querySelector('#clip').readyState > 1")
    until(page, "document.querySelector('#sheet').naturalWidth === 1440")
    beside = (reviewed / "review").as_uri() + "/"
    ids = list(rows_of(reviewed))
    loaded = {url for url in page.requests if url != (reviewed / "review.html").as_uri()}
    loaded -= {url for url in loaded if url.startswith("data:")}
    assert all(url.startswith(beside) for url in loaded)
    assert [url for url in loaded if url.endswith(".mp4")] == [
        url for url in loaded if url.startswith(f"{beside}{ids[0]}-") and url.endswith(".mp4")
    ]
    assert not [url for url in loaded if ids[3] in url]
    root = "document.documentElement"
    assert page.evaluate(f"{root}.scrollWidth <= {root}.clientWidth")
    press(page, *"dekhnuvwxz,.123456781?")
    page.locator("#help").wait_for(state="visible")
    press(page, "Escape")
    assert page.evaluate(f"{root}.scrollWidth <= {root}.clientWidth")
    assert not page.reports


def test_the_clip_plays_and_is_stepped_through(tab, reviewed):
    page = tab()
    clip = "document.querySelector('#clip')"
    until(page, f"{clip}.currentTime > 0 && !{clip}.paused")
    press(page, " ")
    assert page.evaluate(f"{clip}.paused")
    press(page, "ArrowRight")
    until(page, f"{clip}.readyState > 1")
    assert page.evaluate(f"{clip}.paused"), "the next clip plays though this one was paused"
    press(page, ".")
    until(page, f"!{clip}.seeking")
    first = page.evaluate(f"{clip}.currentTime")
    press(page, ".")
    until(page, f"{clip}.currentTime > {first} + .01")
    assert page.evaluate(f"{clip}.currentTime") - first == pytest.approx(1 / 12.5, abs=0.01)
    press(page, "w")
    frames = "JSON.parse(document.getElementById('data').textContent).windows"
    worst = page.evaluate(f"{frames}[1].worstFrame")
    until(page, f"Math.abs({clip}.currentTime - {(worst + 0.5) / 12.5}) < .01")
    now = page.locator("#curve .now")
    until(page, f"document.querySelector('#curve .now').getAttribute('x1') == {worst + 0.5}")
    assert now.count() == 1
    press(page, "v", " ")
    assert page.evaluate(f"{clip}.playbackRate") == 0.25
    # The left half of the film is the face as it is, the right half has the labels.
    assert page.evaluate(f"getComputedStyle({clip}).objectPosition").startswith("100%")
    press(page, "x")
    assert page.evaluate(f"getComputedStyle({clip}).objectPosition").startswith("0%")


def test_all_is_reached_with_the_keyboard_and_has_a_name(tab, reviewed):
    page = tab()
    nameless = """[...document.querySelectorAll('button, select, input, video, img, nav, dialog')]
        .filter((one) => !one.textContent.trim() && !one.ariaLabel && !one.alt
            && !one.getAttribute('aria-labelledby') && !one.closest('label'))
        .map((one) => one.outerHTML)"""
    assert page.evaluate(nameless) == []
    press(page, "Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the window"
    seen = []
    for _ in range(40):
        press(page, "Tab")
        seen.append(
            page.evaluate("document.activeElement.id || document.activeElement.dataset.choice")
        )
    order = ["filter", "order", "advance", "save", "load", "explain", "previous", "next", "unseen"]
    order += ["keep", "drop", "easy", "hard", "none"]
    assert [one for one in seen if one in order][: len(order)] == order
    # A button that has the focus does what it says, not what a key does elsewhere.
    page.locator("[data-choice=drop]").focus()
    press(page, " ")
    assert "1 decided by hand" in count(page)
    assert page.evaluate("document.activeElement.dataset.choice") == "drop"
    # In the list of filters letters look for an entry.
    page.locator("#filter").focus()
    press(page, "k")
    assert "1 decided by hand" in count(page)
    page.locator("#name").click()
    press(page, "?")
    assert page.locator("#help").is_visible()
    press(page, "d")
    assert "1 decided by hand" in count(page)
    press(page, "Escape")
    assert not page.locator("#help").is_visible()
    assert page.locator("#said").get_attribute("role") == "status"


def test_without_going_on_a_choice_stays_where_it_is(tab, reviewed):
    page, ids = tab(), list(rows_of(reviewed))
    page.locator("#advance").uncheck()
    page.locator("#name").click()
    press(page, "d", "e")
    assert name(page) == ids[0] and "1 decided by hand" in count(page)
    assert "You say easy, so it is easy." in page.locator("#verdict").text_content()
    page.on("dialog", lambda dialog: dialog.accept())
    page.reload()
    assert name(page) == ids[0] and "1 decided by hand" in count(page)
    assert not page.locator("#advance").is_checked()
    page.locator("#list button").nth(3).click()
    assert name(page) == ids[3] and "1 of 5 looked at" in count(page)


def test_windows_can_be_put_in_order(tab, reviewed):
    page, rows = tab(), rows_of(reviewed)
    page.locator("#order").select_option("disagreement")
    expected = sorted(rows, key=lambda id: -float(rows[id]["disagreement"]))
    assert listed(page) == expected


def test_names_of_films_are_only_text(browser, reviewed, tab):  # noqa: F811
    hostile = "<img src=x onerror=alert(1)>"
    path = reviewed / "review.html"
    shown = hostile.replace("<", "\\u003c").replace(">", "\\u003e")
    text = path.read_text()
    assert "slow one.avi" in text
    path.write_text(text.replace("slow one.avi", shown))
    page = tab()
    assert hostile in page.locator("#figures").text_content()
    assert page.locator("#figures img").count() == 0 and not page.reports
