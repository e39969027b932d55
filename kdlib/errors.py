"""kdlib's own exceptions. Every message names the value, the place and the remedy.

`KdlibError` catches all of them. Those that are about an argument are `ValueError`s too.
"""

import difflib
import importlib
import warnings
from collections.abc import Collection, Iterable
from types import ModuleType


class KdlibError(Exception):
    """Base of all errors that kdlib raises on purpose."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of a traceback: the message says value, place and remedy."""
        return [f"{type(self).__name__}: {self}"]


class InvalidInput(KdlibError, ValueError):
    """An argument, a table or a label that cannot be worked with."""


class ProfileError(InvalidInput):
    """A profile (YAML), or a name looked up in one, that is wrong."""


class DataError(KdlibError):
    """A data set that is missing, incomplete or damaged."""


class StoreError(KdlibError):
    """A run's folder that is damaged, or cannot be written."""


class Damaged(StoreError):
    """A run's folder whose content is not what was written, or does not fit its teacher's; other runs can go on."""


class NotTrained(KdlibError):
    """Predictions were asked for that no run on disk provides."""


class TrainingFailed(KdlibError):
    """A run that stopped because its loss was not finite."""


class UndefinedMetric(KdlibError, ValueError):
    """A rate with an empty denominator, or a comparison of fewer than two groups."""


class KdlibWarning(UserWarning):
    """The result is computed, but should be read with care: the message says why."""


def caution(text: str, *, stacklevel: int = 3) -> None:
    """Warn with a KdlibWarning; stacklevel as in `warnings.warn`, counted from whoever calls this."""
    warnings.warn(text, KdlibWarning, stacklevel=stacklevel + 1)


def unknown(
    what: str, value: object, valid: Iterable[object], *, place: str = "", error: type[KdlibError] = InvalidInput
) -> KdlibError:
    """The error for a name that is not among `valid`: lists them, the nearest first."""
    names = sorted(str(name) for name in valid)
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    where = f" in {place}" if place else ""
    return error(f"unknown {what} {value!r}{where}.{hint} Valid: {', '.join(names) or 'none'}.")


def require_known(
    what: str, value: object, valid: Collection[object], *, place: str = "", error: type[KdlibError] = InvalidInput
) -> None:
    """Raise the error of `unknown` unless value is among valid, whatever it is: a list or an array never is."""
    try:
        known = value in valid
    except (TypeError, ValueError):
        known = False
    if not known:
        raise unknown(what, value, valid, place=place, error=error)


def library(name: str, *, of: str) -> ModuleType:
    """A library that not everybody has installed, imported. of: what pip installs. Raises DataError without it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DataError(f"{name} is missing, or does not load: pip install '{of}'. ({error})") from error
