"""What is computed while others go on, and how views go over to it."""

from __future__ import annotations

from itertools import pairwise
from threading import Event
from threading import enumerate as threads

import pytest

from lvsm_pytorch.viewer.background import BackgroundCache
from lvsm_pytorch.viewer.fade import InputFade, InputSet

WAIT = 60.


def computed(cache, key, client = 'a'):
    done = Event()
    cache.request(client, key, done.set)
    assert done.wait(WAIT)
    return cache.get(key)


def test_requests_return_at_once_and_call_back():
    begin, done = Event(), Event()
    cache: BackgroundCache[int, int] = BackgroundCache(lambda key: begin.wait(WAIT) and 2 * key, max_values = 3)
    cache.request('a', 1, done.set)
    assert cache.get(1) is None
    assert not done.is_set()
    begin.set()
    assert done.wait(WAIT)
    assert cache.get(1) == 2


def test_values_are_computed_once_and_kept_within_a_bound():
    calls = []
    cache = BackgroundCache(lambda key: calls.append(key) or key, max_values = 2)
    for key in (1, 2, 1, 3, 1):    # 1 is used again and again, so 2 goes
        assert computed(cache, key) == key
    assert calls == [1, 2, 3]
    assert cache.get(2) is None
    assert len(cache.values) == 2


def test_of_the_requests_of_one_client_only_the_last_that_is_not_begun_counts():
    begun, go_on, calls = Event(), Event(), []
    cache = BackgroundCache(lambda key: (calls.append(key), begun.set(), go_on.wait(WAIT)), max_values = 9)
    cache.request('a', 1, lambda: None)
    assert begun.wait(WAIT)
    for key in (2, 3, 4):
        cache.request('a', key, lambda: None)
    done = Event()
    cache.request('b', 5, done.set)
    go_on.set()
    assert done.wait(WAIT)
    assert calls == [1, 4, 5]


def test_an_error_is_raised_once_and_then_tried_again():
    failures = [ValueError('no memory')]

    def compute(key):
        if failures:
            raise failures.pop()
        return key

    cache = BackgroundCache(compute, max_values = 2)
    with pytest.raises(ValueError, match = 'no memory'):
        computed(cache, 7)
    assert cache.get(7) is None
    assert computed(cache, 7) == 7


def test_its_thread_ends_with_its_work():
    cache = BackgroundCache(lambda key: key, max_values = 2)
    for key in range(5):    # also right after one has ended
        assert computed(cache, key) == key
    thread = cache.thread
    if thread is not None:
        thread.join(WAIT)
    assert cache.thread is None
    assert 'background' not in [each.name for each in threads()]
    cache.stop(1.)
    cache.request('a', 9, lambda: None)
    assert cache.thread is None


A, B, C = (InputSet((number,), False) for number in range(3))


def steps(fade, wanted, ready, seconds = 0.1, begin = 10.):
    """What views are rendered from: (key, weight) of each, one every so many seconds."""
    return [[(part.key, part.weight) for part in fade.step(key, key if key in ready else None, begin + seconds * number)] for number, key in enumerate(wanted)]


def test_the_old_set_stays_until_the_next_is_encoded_and_then_they_fade():
    fade = InputFade()
    assert steps(fade, [A], ready = []) == [[]]
    assert steps(fade, [A, B, B], ready = [A]) == [[(A, 1.)]] * 3
    found = steps(fade, [B] * 8, ready = [A, B], begin = 10.3)
    assert found[-1] == [(B, 1.)]
    assert not fade.is_fading
    weights = [dict(each).get(B, 0.) for each in found]
    assert all(sum(dict(each).values()) == pytest.approx(1) for each in found)
    assert all(0 <= later - earlier <= InputFade.MAX_STEP + 1e-6 for earlier, later in pairwise([0., *weights]))
    assert sum(0 < weight < 1 for weight in weights) >= 2


def test_slow_views_fade_in_some_steps_all_the_same():
    fade = InputFade()
    steps(fade, [A], ready = [A])
    found = steps(fade, [B] * 4, ready = [B], seconds = 60., begin = 500.)
    assert [dict(each).get(A, 0.) for each in found] == pytest.approx([0.66, 0.32, 0., 0.])


def test_a_view_of_one_set_is_of_the_wanted_one():
    fade = InputFade()    # else the viewer rests, and the wanted set would wait for the next move of the camera
    steps(fade, [A], ready = [A, B, C])
    wanted = [B, C, C, C, C, C, C, C, C]
    found = steps(fade, wanted, ready = [A, B, C])
    assert found[-1] == [(C, 1.)]
    assert all(len(each) == 2 or each[0][0] == key for key, each in zip(wanted, found, strict = True))


def test_no_view_is_of_more_than_two_sets():
    fade = InputFade()
    steps(fade, [A], ready = [A, B, C])
    found = steps(fade, [B, C, A, C, C, C, C, C, C, C, C, C, C, C], ready = [A, B, C])
    assert max(map(len, found)) == 2
    assert found[-1] == [(C, 1.)]
    keys = [{key for key, _ in each} for each in found]
    assert {B, C} in keys
