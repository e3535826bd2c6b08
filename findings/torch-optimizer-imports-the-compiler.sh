#!/bin/sh
# torch 2.13.0: `import torch` leaves torch's compiler out, and the first optimizer that a process makes imports its front end,
# torch._dynamo: hundreds of modules (sympy among them), about a second of a processor and some 70 MB. Nothing is compiled. A
# process that trains a few steps and ends, such as the task of a federated round, pays for it every time; one that forks from a
# host which imported torch pays too, unless the host imported torch._dynamo before the fork.
#
# Output seen:
#   after import torch: torch._dynamo no, sympy no
#   after torch.optim.SGD: torch._dynamo yes, sympy yes, over 500 more modules yes
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$work/env/bin/python" - > "$work/seen.txt" <<'PYTHON'
import sys

import torch


def said(name: str) -> str:
    return f"{name} {'yes' if name in sys.modules else 'no'}"


print(f"after import torch: {said('torch._dynamo')}, {said('sympy')}")
before = len(sys.modules)
torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
more = "yes" if len(sys.modules) - before > 500 else "no"
print(f"after torch.optim.SGD: {said('torch._dynamo')}, {said('sympy')}, over 500 more modules {more}")
PYTHON
cat "$work/seen.txt"
cat > "$work/expected.txt" <<'TXT'
after import torch: torch._dynamo no, sympy no
after torch.optim.SGD: torch._dynamo yes, sympy yes, over 500 more modules yes
TXT
cmp "$work/seen.txt" "$work/expected.txt"
