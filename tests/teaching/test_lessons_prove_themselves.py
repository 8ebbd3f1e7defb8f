"""Every lesson of the repository: starters are not tried, solutions pass, mistakes earn their own hints.

The exercises run in a real `superlearner.otp.Runtime`; what it records is what a sandbox records.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from superlearner.teaching.check import judge
from superlearner.teaching.lesson import find_lessons
from superlearner.teaching.prove import cases

LESSONS = Path(__file__).parents[2] / "lessons"
CASES = [
    pytest.param(case, id=f"{lesson.name}-{case.exercise.id}-{case.name}")
    for lesson in find_lessons(LESSONS)
    for case in cases(lesson)
]


@pytest.mark.parametrize("case", CASES)
def test_it_gets_the_verdict_that_its_author_meant(case):
    assert case.complaint(judge(case.exercise, case.observe())) is None
