"""Names of Flower's that are not its public API, for the rooms that need one: nobody else imports them."""

from __future__ import annotations

from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode, SType
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.error import FlowerError
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.run import Run, RunNotRunningException
from flwr.supercore.task_identity import TaskIdentity

__all__ = [
    "SUPERLINK_NODE_ID",
    "ErrorCode",
    "FlowerError",
    "NodeInfo",
    "Run",
    "RunNotRunningException",
    "SType",
    "TaskIdentity",
    "get_all_nested_objects",
    "inflate_object_from_contents",
]
