"""A mutant that loops, dies or hogs does no harm and is answered for."""

import os
import time

import pytest

from verify.mutation.isolation import IsolationError, judged


def double(number):
    if number == 3:
        os._exit(1)
    if number == 5:
        time.sleep(60)
    if number == 7:
        while True:
            pass
    return 2 * number


@pytest.mark.parametrize("alone", [True, False])
def test_no_answer_is_none_and_the_others_are_answered(alone):
    found = list(judged(double, [1, 2, 3, 4, 5, 6, 7, 8], 0.3, alone=alone))
    assert found == [2, 4, None, 8, None, 12, None, 16]


def test_memory_is_limited():
    assert list(judged(lambda _: len(bytearray(1 << 40)), [0], 10.0)) == [None]


def test_what_a_mutant_changes_is_forgotten():
    held = []
    assert list(judged(held.append, [1, 2], 10.0)) == [None, None]
    assert held == []


def test_a_broken_harness_is_no_verdict():
    with pytest.raises(IsolationError, match="ZeroDivisionError"):
        list(judged(lambda x: 1 / x, [0], 10.0))
