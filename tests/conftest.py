"""What all tests share: threads that sleep rather than spin, set before torch is imported."""

from __future__ import annotations

import os

from minet_core.runtime.cpu_threading import cpu_threading_environment

for name, value in cpu_threading_environment().items():
    os.environ.setdefault(name, value)
