#!/bin/sh
# flwr 1.42.0: a message is moved as objects, each with calls of its own at every hop: the message, its RecordDict, every
# record, every Array and every chunk of one. The values of a ConfigRecord are inside the record, bytes
# too. So the same bytes, small, are three objects as a value of a ConfigRecord and six as an ArrayRecord beside a
# ConfigRecord; an ArrayRecord of n arrays is 2 n objects more than one without.
#
# Output seen:
#   bytes in a ConfigRecord: 3 objects
#   an array of them beside a ConfigRecord: 6 objects
#   ten arrays beside a ConfigRecord: 24 objects
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check flwr==1.42.0
"$work/env/bin/python" - > "$work/seen.txt" 2> "$work/log.txt" <<'PYTHON'
import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.task_identity import TaskIdentity

TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, SUPERLINK_NODE_ID, 1


def n_objects(records):
    return len(get_all_nested_objects(Message(RecordDict(records), 2, "train")))


def arrays(number):
    return ArrayRecord({str(i): Array(np.full(1000, i, np.uint8)) for i in range(number)})


print("bytes in a ConfigRecord:", n_objects({"c": ConfigRecord({"round": 1, "b": bytes(1000)})}), "objects")
beside = {"c": ConfigRecord({"round": 1})}
print("an array of them beside a ConfigRecord:", n_objects({"a": arrays(1), **beside}), "objects")
print("ten arrays beside a ConfigRecord:", n_objects({"a": arrays(10), **beside}), "objects")
PYTHON
cat "$work/seen.txt"
cat > "$work/expected.txt" <<'EXPECTED'
bytes in a ConfigRecord: 3 objects
an array of them beside a ConfigRecord: 6 objects
ten arrays beside a ConfigRecord: 24 objects
EXPECTED
cmp "$work/seen.txt" "$work/expected.txt" || { tail -5 "$work/log.txt"; exit 1; }
