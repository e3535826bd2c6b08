"""What a YAML text says in a way that a person reads as something else: refused, since nothing would tell of it.

PyYAML reads YAML 1.1, where 010 is 8 and 1:30 is 90, and of a key that is there twice it takes the last value. In
YAML 1.2 (2009, sections 10.2 and 3.2.1.1) 010 is 10, 1:30 is text, and keys are unique.
"""

from __future__ import annotations

import re

import yaml
from yaml.constructor import ConstructorError

_NUMBER_TAGS = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}
_OCTAL = re.compile(r"[-+]?0[0-9_]+$")
_MERGE_TAG = "tag:yaml.org,2002:merge"


def refuse_two_readings(root: yaml.Node) -> None:
    """Refuse keys that are there twice, and numbers that are other ones in YAML 1.2.

    Parameters
    ----------
    root
        Of a composed document; a node that aliases share is looked at once.

    Raises
    ------
    yaml.constructor.ConstructorError
        With the place of the key or the number.
    """
    seen, waiting = {id(root)}, [root]
    while waiting:
        node = waiting.pop()
        held: list[yaml.Node] = []
        if isinstance(node, yaml.ScalarNode):
            _refuse_number(node)
        elif isinstance(node, yaml.MappingNode):
            _refuse_repeated(node)
            held = [one for pair in node.value for one in pair]
        elif isinstance(node, yaml.SequenceNode):
            held = node.value
        for one in held:
            if id(one) not in seen:
                seen.add(id(one))
                waiting.append(one)


def _refuse_number(node: yaml.ScalarNode) -> None:
    if node.tag not in _NUMBER_TAGS:
        return
    if _OCTAL.match(node.value):
        how = "write it without the zero in front, or a name in quotes"
    elif ":" in node.value:
        how = "write the number itself, or a text in quotes"
    else:
        return
    raise ConstructorError(None, None, f"{node.value} is read as another number: {how}", node.start_mark)


def _refuse_repeated(node: yaml.MappingNode) -> None:
    known: set[tuple[str, str]] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE_TAG:
            continue
        if (key.tag, key.value) in known:
            said = f"the key {key.value} is there twice: leave one of the two"
            raise ConstructorError(None, None, said, key.start_mark)
        known.add((key.tag, key.value))
