"""The log of a program that runs for months: time, level, name and message of each record, as text or as JSON.

    2026-03-01T09:30:00Z WARNING server.processes.server_processes: superlink ended with status -9; ...
    {"time": "2026-03-01T09:30:00.123Z", "level": "warning", "logger": "server...", "message": "superlink ended ..."}

`set_up_logging` is called once, by the command; the programs that it starts read the same two choices from their
environment. Records go to the standard error. Our own rooms log from the chosen level on, other libraries their
warnings alone: some of them log each request with its address.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from minet_core.errors import InvalidSetting

LEVEL_VARIABLE = "FEDMINET_LOG_LEVEL"
FORMAT_VARIABLE = "FEDMINET_LOG_FORMAT"
DEFAULT_LEVEL, DEFAULT_FORMAT = "info", "text"

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

ROOMS = ("client", "server", "minet_core", "sites", "fedminet")
"""The loggers that are ours, by their first name."""


class TextFormatter(logging.Formatter):
    """A line for a person; what a message has beyond its first line is indented, so that it begins no record."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%Y-%m-%dT%H:%M:%SZ")

    def format(self, record: logging.LogRecord) -> str:
        """The record, with its traceback where it has one.

        Parameters
        ----------
        record
            As `logging` made it.

        Returns
        -------
        str
            Its first line as it is, others indented.
        """
        return "\n  ".join(super().format(record).splitlines())


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and exception where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The record; its time is UTC, to the millisecond.

        Parameters
        ----------
        record
            As `logging` made it.

        Returns
        -------
        str
            One JSON object, without a line's end.
        """
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        content = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            content["exception"] = self.formatException(record.exc_info)
        return json.dumps(content)


FORMATS: dict[str, Callable[[], logging.Formatter]] = {"text": TextFormatter, "json": JsonFormatter}


class LogHandler(logging.StreamHandler[Any]):
    """Writes to what is the standard error at that moment: Flower and pytest put another in its place."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        """The standard error."""
        return sys.stderr


def set_up_logging(*, level: str = DEFAULT_LEVEL, form: str = DEFAULT_FORMAT) -> None:
    """Log to the standard error from `level` on, in this process and in those that it starts.

    Parameters
    ----------
    level
        One of LEVELS.
    form
        One of FORMATS.

    Raises
    ------
    InvalidSetting
        FM-C102, for a level or a form that is none.
    """
    for name, chosen, known in (("level", level, LEVELS), ("format", form, FORMATS)):
        if chosen not in known:
            raise InvalidSetting(f"no such log {name}", got=chosen, expected=", ".join(known))
    handler = LogHandler()
    handler.setFormatter(FORMATS[form]())
    root = logging.getLogger()
    for former in [one for one in root.handlers if isinstance(one, LogHandler)]:
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(max(LEVELS[level], logging.WARNING))
    for room in ROOMS:
        logging.getLogger(room).setLevel(LEVELS[level])
    logging.captureWarnings(True)
    os.environ[LEVEL_VARIABLE], os.environ[FORMAT_VARIABLE] = level, form


def set_up_from_environment() -> None:
    """Log as the program that started this one does, or by the defaults. Raises InvalidSetting (FM-C102)."""
    set_up_logging(
        level=os.environ.get(LEVEL_VARIABLE, DEFAULT_LEVEL),
        form=os.environ.get(FORMAT_VARIABLE, DEFAULT_FORMAT),
    )


def is_set_up() -> bool:
    """Whether this process logs by `set_up_logging`.

    Returns
    -------
    bool
        False where nobody called it, or its handler was taken away.
    """
    return any(isinstance(one, LogHandler) for one in logging.getLogger().handlers)


def chosen_formatter() -> logging.Formatter:
    """The formatter of the environment's choice, for a library that keeps handlers of its own.

    Returns
    -------
    logging.Formatter
        A new one of `FORMATS`.
    """
    return FORMATS[os.environ.get(FORMAT_VARIABLE, DEFAULT_FORMAT)]()


def take_over(library: str) -> None:
    """Let the records of a library that brings its own handlers come to ours alone: each once, in one form.

    Parameters
    ----------
    library
        The first name of its loggers.
    """
    logger = logging.getLogger(library)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.propagate = True
    logger.setLevel(min(LEVELS[os.environ.get(LEVEL_VARIABLE, DEFAULT_LEVEL)], logging.INFO))
