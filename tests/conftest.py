"""What all tests share: threads that sleep rather than spin, set before torch is imported."""

from __future__ import annotations

import os
import signal

from minet_core.runtime.cpu_threading import cpu_threading_environment

for name, value in cpu_threading_environment().items():
    os.environ.setdefault(name, value)

# A test run started in the background inherits ignored signals, and so would every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
