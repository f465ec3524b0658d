"""The one base class of the package's errors."""


class CorrLossError(ValueError):
    """Something that the user can mend: bad input, a broken file, a machine that lacks something.

    The message says what was expected, what was found, where (file, key, image id) and what to do. The
    commands print it without a traceback; any other exception is a defect of the package and keeps its own.
    """
