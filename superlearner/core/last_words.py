"""What a process that has ended wrote last."""

from __future__ import annotations

#: What Python writes before the stacks of all threads when a signal such as SIGSEGV ends it.
_FATAL = "Fatal Python error: "


def last_words(output: str) -> str:
    r"""Return the line that tells most of a process's end: the last that is not blank, or Python's own word on a crash.

    >>> last_words("one\ntwo\n\n")
    'two'
    >>> last_words("one\nFatal Python error: Aborted\n\nExtension modules: 3")
    'Fatal Python error: Aborted'
    """
    output = output.rstrip()
    fatal = output.rfind(_FATAL)
    return output[output.rfind("\n") + 1 if fatal < 0 else fatal :].partition("\n")[0].strip()
