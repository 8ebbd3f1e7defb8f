"""Lessons: load, build, predict, check, hint, solution, progress.

In a notebook, ``q = lesson("01_a_process_that_dies")`` gives the lesson's questions. Whoever writes a lesson
reads ``check`` for the words and ``lesson`` for the text's markers.
"""

from superlearner.teaching.check import (
    Exercise,
    Mistake,
    Observation,
    Outcome,
    Prediction,
    Raised,
    Step,
    Verdict,
    compare,
    judge,
)
from superlearner.teaching.exercise import NoQuestion, Questions, lesson
from superlearner.teaching.lesson import InvalidLesson, Lesson, LessonNotFound
from superlearner.teaching.progress import Progress

__all__ = [
    "Exercise",
    "InvalidLesson",
    "Lesson",
    "LessonNotFound",
    "Mistake",
    "NoQuestion",
    "Observation",
    "Outcome",
    "Prediction",
    "Progress",
    "Questions",
    "Raised",
    "Step",
    "Verdict",
    "compare",
    "judge",
    "lesson",
]
