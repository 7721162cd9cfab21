"""Everything that eigenscope raises on purpose.

::

    EigenscopeError
    ├── InputError              what was handed in can't be used; the command line exits with 2
    │   └── RunFileError        a run file that can't be opened, read or created
    └── MeasurementError        the input is sound, but the numbers can't be believed
        └── ProductCheckError   the operator's products failed their self-check

Each message is one line: the thing, what is wrong with it, and the next step.
"""


class EigenscopeError(Exception):
    """The root of every error that eigenscope raises."""


class InputError(EigenscopeError, ValueError):
    """What was handed in can't be used."""


class RunFileError(InputError):
    """A run file can't be opened, read or created."""


class MeasurementError(EigenscopeError, RuntimeError):
    """The input is sound, but the numbers can't be believed."""


class ProductCheckError(MeasurementError):
    """The operator's products are not symmetric or disagree with finite differences."""


def first_line(error: BaseException) -> str:
    """What an error of another library says, cut to one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
