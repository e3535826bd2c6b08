"""That a site's processes really have the shorter times; what follows from them is in tests/e2e."""

from __future__ import annotations

import subprocess
import sys

import pytest
from flwr.common import constant

from client.flower import timeouts
from client.flower.timeouts import HEARTBEAT_S, patch_timeouts
from minet_core.errors import HostError

TIMES = """
from client.flower.timeouts import patch_timeouts
patch_timeouts()
from flwr.supercore import heartbeat
from flwr.supercore.corestate import in_memory_corestate
from flwr.supercore.retry import http_retry
from flwr.supernode import fleet_http_connection
print(heartbeat.HEARTBEAT_DEFAULT_INTERVAL, in_memory_corestate.HEARTBEAT_DEFAULT_INTERVAL,
      fleet_http_connection.HEARTBEAT_DEFAULT_INTERVAL,
      http_retry.make_simple_http_retry_invoker().wait_gen_factory and http_retry.MAX_RETRY_DELAY)
"""


def test_the_times_are_set_where_flower_reads_them() -> None:
    """In a process of its own: they are set for good."""
    done = subprocess.run([sys.executable, "-c", TIMES], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["10", "10", "10", "2"]


def test_a_sign_of_life_that_failed_is_tried_again_within_two_seconds() -> None:
    """Else a node is taken for gone for up to 20 s after its server is back, and a round goes on without its site."""
    code = (
        "from client.flower.timeouts import patch_timeouts; patch_timeouts()\n"
        "from flwr.supercore.heartbeat import HeartbeatSender\n"
        "sender = HeartbeatSender(lambda: False); pauses = []\n"
        "class Ended(Exception): pass\n"
        "def wait(seconds):\n"
        "    pauses.append(seconds)\n"
        "    if len(pauses) == 20: raise Ended\n"
        "sender._retry_invoker.wait_function = wait\n"
        "try: sender._retry_invoker.invoke(sender._heartbeat)\n"
        "except Ended: print(len(pauses), 0 <= min(pauses), max(pauses) <= 2)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["20", "True", "True"]


def test_an_idle_node_looks_for_messages_more_often() -> None:
    code = (
        "from client.flower.timeouts import shorten_idle_pause; shorten_idle_pause()\n"
        "import time; from flwr.supernode import start_client_internal as loop\n"
        "pauses, now = [], [100.0]; time.sleep = pauses.append; time.monotonic = lambda: now[0]\n"
        "def looked(seconds): now[0] += seconds; loop.time.sleep(3)\n"
        "looked(0); loop.time.sleep(0.5); loop.time.sleep(7)\n"
        "looked(2.0); looked(2.0); looked(0.5); looked(1.2); print(*pauses)\n"
        "print(time.sleep is not loop.time.sleep)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # The first look after a reply began at a moment that is not known; the second and the last were held.
    after_a_reply = ["0.25", "0.02", "0.25", "0.02"]
    assert done.stdout.split() == ["0.25", "0.05", "7", *after_a_reply, "True"]


def test_a_node_sends_its_task_s_reply_without_half_a_second_s_wait() -> None:
    """In Flower's own loop: the reply is there at the third look."""
    code = (
        "from client.flower.timeouts import shorten_idle_pause; shorten_idle_pause()\n"
        "import time; from flwr.supernode import start_client_internal as loop\n"
        "pauses = []; time.sleep = pauses.append\n"
        "class State:\n"
        "    looks = 0\n"
        "    def get_messages_legacy(self, is_reply):\n"
        "        self.looks += 1\n"
        "        if self.looks == 3: raise KeyboardInterrupt\n"
        "try: loop._push_messages(State(), None, None, None)\n"
        "except KeyboardInterrupt: print(*pauses)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0.05", "0.05"]


def test_a_request_that_was_sent_by_half_is_given_up() -> None:
    code = (
        "from client.flower import timeouts; timeouts.REQUEST_PARTS_S = 1\n"
        "timeouts.abort_incomplete_requests()\n"
        "from flwr.supercore.inflatable import inflatable_utils as flower\n"
        "from flwr.supernode import start_client_internal as loop\n"
        "def never(part): raise flower.ObjectUnavailableError(part)\n"
        "import time; began = time.monotonic()\n"
        "try: loop.pull_objects(['part'], never)\n"
        "except flower.ObjectPullError: print(1 < time.monotonic() - began < 100)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]


def test_the_server_accepts_the_interval_and_the_sender_keeps_it() -> None:
    assert constant.HEARTBEAT_MIN_INTERVAL <= HEARTBEAT_S <= constant.HEARTBEAT_MAX_INTERVAL
    longest = (HEARTBEAT_S - constant.HEARTBEAT_CALL_TIMEOUT) * (constant.HEARTBEAT_BASE_MULTIPLIER + 0.1)
    assert longest < HEARTBEAT_S


def test_a_flower_without_such_a_time_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeouts, "INTERVALS", (("flwr.supercore.heartbeat", "NO_SUCH_TIME", 1),))
    with pytest.raises(HostError, match="NO_SUCH_TIME"):
        patch_timeouts()
