#!/bin/sh
# flwr 1.42.0: the SuperLink counts a message as delivered from the moment that a node's PullMessages request is handled, not
# from its ConfirmMessageReceived. The next request finds nothing. So where the connection breaks between the two, or the
# SuperLink is killed before its answer has left, nobody has the message, nobody sends it again before it expires, and whoever
# waits for its reply sees a node that is online and says nothing.
#
# Output seen:
#   first question: 1 message, second question: 0 messages, confirmed: never
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check flwr==1.42.0
"$work/env/bin/python" - > "$work/seen.txt" 2> "$work/log.txt" <<'PYTHON'
from flwr.app import Message, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.server.superlink.linkstate.linkstate_factory import LinkStateFactory
from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME, NOOP_FEDERATION_ID, TaskType
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.federation import NoOpFederationManager

objects = ObjectStoreFactory()
state = LinkStateFactory(FLWR_IN_MEMORY_DB_NAME, NoOpFederationManager(), objects).state()
node = state.create_node("owner", "owner", b"public key", 30)
state.activate_node(node, 30)
run = state.create_run(None, None, None, {}, NOOP_FEDERATION_ID, None, None, TaskType.SERVER_APP)
TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = run, SUPERLINK_NODE_ID, 1
message = Message(RecordDict(), node, "train", ttl=600)
message.metadata.__dict__["_message_id"] = message.object_id
assert state.store_message_ins(message)
first, second = (len(state.get_message_ins(node_id=node, limit=1)) for _ in range(2))
print(f"first question: {first} message, second question: {second} messages, confirmed: never")
PYTHON
cat "$work/seen.txt"
echo "first question: 1 message, second question: 0 messages, confirmed: never" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt" || { tail -5 "$work/log.txt"; exit 1; }
