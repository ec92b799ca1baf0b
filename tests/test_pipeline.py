import threading
import time

import pytest

from ldeq_jax.media.pipeline import Behind, ahead


def threads():
    return [thread for thread in threading.enumerate() if thread.is_alive()]


def test_items_come_in_their_order_and_all_of_them():
    assert list(ahead(iter(range(100)))) == list(range(100))
    assert list(ahead([])) == []


def test_items_are_made_in_another_thread_that_waits_at_its_depth():
    made, where = [], []

    def make():
        for item in range(50):
            made.append(item)
            where.append(threading.current_thread())
            yield item

    items = ahead(make(), depth=3)
    assert next(items) == 0
    deadline = time.monotonic() + 5
    while len(made) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert len(made) == 5  # one was taken, three wait, and one is at hand
    assert threading.current_thread() not in where
    items.close()


def test_an_error_comes_in_its_place():
    def make():
        yield from (1, 2)
        raise ZeroDivisionError("third")

    items = ahead(make())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ZeroDivisionError, match="third"):
        next(items)
    assert list(items) == []


@pytest.mark.parametrize("read", [0, 1, 7])
def test_a_reading_that_is_given_up_ends_its_thread_and_closes_what_it_reads(read):
    closed, before = threading.Event(), len(threads())

    def make():
        try:
            yield from range(1000)
        finally:
            closed.set()

    items = ahead(make())
    for _ in range(read):
        next(items)
    items.close()
    if read:  # a generator that was never begun reads nothing
        assert closed.wait(5)
    assert len(threads()) == before


def test_calls_are_made_in_their_order_and_waited_for():
    done = []
    with Behind(depth=2) as behind:
        for number in range(20):
            behind.do(done.append, number)
        behind.wait()
        assert done == list(range(20))
        behind.do(done.append, 20)
    assert done[-1] == 20


def test_after_a_call_that_fails_no_other_is_made():
    done = []

    def fail():
        raise OSError("the disk is full")

    with Behind() as behind:
        behind.do(done.append, 1)
        behind.do(fail)
        behind.do(done.append, 2)
        with pytest.raises(OSError, match="full"):
            behind.wait()
    assert done == [1]
