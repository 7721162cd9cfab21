"""Everything that eigenscope raises on purpose.

::

    EigenscopeError
    ├── InputError              what was handed in can't be used; the command line exits with 2
    │   ├── CheckpointError     a checkpoint that can't be opened or read
    │   └── RunFileError        a run file that can't be opened, read or created
    └── MeasurementError        the input is sound, but the numbers can't be believed
        └── ProductCheckError   the operator's products failed their self-check

Each message is one line: the thing, what is wrong with it, and the next step.
"""


class EigenscopeError(Exception):
    """The root of every error that eigenscope raises."""


class InputError(EigenscopeError, ValueError):
    """What was handed in can't be used."""


class CheckpointError(InputError):
    """A checkpoint can't be opened or read.

    Part of the message comes from files that nobody vouches for: it is kept to one printable line.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message)[:1000])


class RunFileError(InputError):
    """A run file can't be opened, read or created."""


class MeasurementError(EigenscopeError, RuntimeError):
    """The input is sound, but the numbers can't be believed."""


class ProductCheckError(MeasurementError):
    """The operator's products are not symmetric or disagree with finite differences."""


def printable(text: str) -> str:
    """Text from a file, fit for a terminal: on one line, without control characters."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)


def first_line(error: BaseException) -> str:
    """What an error of another library says, cut to one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
