"""A command that logs sets the log up for its whole process; in the tests that process goes on with other tests."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from minet_core.runtime.logs import FORMAT_VARIABLE, LEVEL_VARIABLE, ROOMS, LogHandler


@contextmanager
def no_log_left() -> Iterator[None]:
    """Undo on the way out what `set_up_logging` did meanwhile: handler, levels, environment."""
    root = logging.getLogger()
    loggers = [root, *map(logging.getLogger, ROOMS)]
    levels = [one.level for one in loggers]
    handlers = [one for one in root.handlers if isinstance(one, LogHandler)]
    environment = {name: os.environ.get(name) for name in (LEVEL_VARIABLE, FORMAT_VARIABLE)}
    try:
        yield
    finally:
        for added in [one for one in root.handlers if isinstance(one, LogHandler) and one not in handlers]:
            root.removeHandler(added)
            logging.captureWarnings(False)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for name, value in environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
