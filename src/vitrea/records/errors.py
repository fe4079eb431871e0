"""The errors a user can cause."""


class InputError(Exception):
    """Something the user gave cannot be used: one sentence naming the file and the field, and how to mend it.

    Every face shows the sentence without a traceback; the command line exits with code 2.
    """


class JobError(Exception):
    """A job did what was asked and has to report that the outcome is bad: one sentence, exit code 1, no traceback."""
