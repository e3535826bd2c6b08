"""Damage with a structure: bytes, trees of plain values, YAML text, NIfTI headers, gzip members, tensors' headers.

Every function takes a generator and gives the same damage for the same state of it. Nothing here is aimed at software
outside: the damage is drawn, and what it does to a reader of ours is what is asked.
"""

from __future__ import annotations

import copy
import datetime
import gzip
import json
import random
import struct
import zlib
from typing import Any

import nibabel
import numpy as np
import yaml

WORDS = (b"\xff" * 8, bytes(8), b"\xff" * 7 + b"\x7f", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"\xff\xff")
WHOLE = 0.03
"""Share that is left as it is, and must be accepted: else it is not the damage that is refused."""
HEADS = 8192
"""Most damage falls here, where headers are."""
MOST = 1 << 23
"""Characters of a page; what is larger is no small input, and costs the one who makes it more than the reader."""

ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    -(2**31) - 1,
    2**53 + 1,
    2**63,
    2**64,
    10**400,
    0.0,
    -0.0,
    1e-320,
    1e308,
    -1e308,
    float("inf"),
    float("-inf"),
    float("nan"),
    0.1 + 0.2,
    "",
    " ",
    "0",
    "1e400",
    "nan",
    "\0",
    "\ud800",
    "é" * 3,
    "../../x",
    "/",
    "a" * 70_000,
    "9" * 5000,
    [],
    {},
    [[]],
    [None],
    {"": None},
    {"a": {"b": []}},
    [0] * 5000,
    [[0, 1], [2, 3]],
)
ODD_YAML: tuple[Any, ...] = (
    *(value for value in ODD if value != "\ud800"),
    datetime.date(2001, 1, 1),
    datetime.datetime(1, 1, 1),
    b"bytes",
)

SNIPPETS = (
    "x: &x [*x]\n",
    "x: &x {y: *x}\n",
    "x: !!python/object/apply:os.getcwd []\n",
    "x: !!timestamp 2001-99-99\n",
    "x: 2001-99-99\n",
    "x: 2001-01-01T99:99:99Z\n",
    f"x: {'9' * 5000}\n",
    "x: !!int abc\n",
    "x: !!float abc\n",
    "x: !!bool 3\n",
    "x: !!binary '*'\n",
    "x: !!set {a, b}\n",
    "x: !!omap [a]\n",
    "x: !!pairs [a]\n",
    "? [a, b]\n: c\n",
    "? {a: b}\n: c\n",
    "<<: 3\n",
    "<<: [1, 2]\n",
    "<<: *unknown\n",
    "1: 2\n",
    "null: 2\n",
    "2001-01-01: 2\n",
    "x: 0b\n",
    "x: 0x\n",
    "x: 1:99:99\n",
    "x: -_\n",
    "x: .inf\n",
    "x: .nan\n",
    "%YAML 9.9\n---\n",
    "---\n",
    "...\n",
    "\tx: y\n",
    "x: |\n",
    "x: '\n",
    'x: "\\ud800"\n',
    "x: {y: [\n",
    f"x: {'[' * 300}{']' * 300}\n",
    f"x: {'[' * 20_000}\n",
    f"x: {'{a: ' * 400}{'}' * 400}\n",
    "- x\n",
    "&a x: *a\n",
)


def mutated_bytes(content: bytes, generator: random.Random) -> bytes:
    """A copy with 1 to 16 changes, most of them among the headers at the beginning."""
    if generator.random() < WHOLE:
        return content
    changed = bytearray(content or b"\0")
    for _ in range(generator.choice((1, 1, 1, 2, 4, 16))):
        place = generator.randrange((min(len(changed), HEADS), len(changed))[generator.random() > 0.7])
        kind = generator.random()
        if kind < 0.3:
            changed[place] ^= 1 << generator.randrange(8)
        elif kind < 0.5:
            changed[place] = generator.choice((0, 1, 0x20, 0x2D, 0x39, 0x7F, 0x80, 0xFF))
        elif kind < 0.7:
            word = generator.choice(WORDS)
            changed[place : place + len(word)] = word
        elif kind < 0.85:  # a splice from elsewhere
            other = generator.randrange(len(changed))
            n_bytes = generator.choice((1, 4, 16, 64, 512))
            changed[place : place + n_bytes] = changed[other : other + n_bytes]
        elif kind < 0.93:
            changed[place:place] = generator.randbytes(generator.choice((1, 4, 100)))
        else:
            del changed[place : place + generator.choice((1, 4, 100))]
        changed = changed or bytearray(b"\0")
    return bytes(changed[: generator.randrange(len(changed))] if generator.random() < 0.05 else changed)


def mutated_tree(content: Any, generator: random.Random, *, odd: tuple[Any, ...] = ODD) -> Any:
    """A copy of plain values with 1 to 4 values or keys changed in kind, range, number or name."""
    root = [copy.deepcopy(content)]
    if generator.random() < WHOLE:
        return root[0]
    for _ in range(generator.choice((1, 1, 1, 2, 4))):
        holder, key = generator.choice(list(_places(root)))
        former, kind = holder[key], generator.random()
        if kind < 0.6:
            holder[key] = copy.deepcopy(generator.choice(odd))
        elif kind < 0.7 and holder is not root:
            del holder[key]
        elif kind < 0.8 and isinstance(holder, dict):
            holder[str(key)[:-1] + generator.choice("xyz_")] = holder[key]
        elif kind < 0.9 and isinstance(holder[key], list) and holder[key]:
            holder[key] = holder[key] * generator.choice((2, 300))
            if _is_huge(root):
                holder[key] = former
        elif isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
            factors = (-1, 2, 10**6, 10**30) if isinstance(holder[key], int) else (-1.0, 0.5, 1e6, 1e300)
            holder[key] *= generator.choice(factors)
        else:
            holder[key] = _nested(holder[key], depth=generator.choice((1, 3, 60)))
    return root[0]


def _is_huge(tree: Any) -> bool:
    """Whether the text of a tree would be over `MOST` characters: lists made longer in lists made longer."""
    todo, size = [tree], 0
    while todo and size <= MOST:
        one = todo.pop()
        size += 3 + (len(one) if isinstance(one, str | list | dict) else 0)
        if isinstance(one, list | dict):
            todo += one if isinstance(one, list) else one.values()
    return size > MOST


def _places(holder: Any) -> Any:
    for key in holder if isinstance(holder, dict) else range(len(holder)):
        yield holder, key
        if isinstance(holder[key], dict | list):
            yield from _places(holder[key])


def _nested(value: Any, *, depth: int) -> Any:
    for _ in range(depth):
        value = [value]
    return value


def mutated_json(content: Any, generator: random.Random) -> bytes:
    """A JSON page of a changed tree; one time in five its text is changed instead."""
    if generator.random() < 0.2:
        return mutated_bytes(json.dumps(content).encode(), generator)
    if generator.random() < 0.05:
        return generator.choice(
            (b"[" * 100_000, b'{"a":' * 50_000, b"9" * 5000, b"\xef\xbb\xbf{}", b"", b"null")
        )
    return json.dumps(mutated_tree(content, generator)).encode()


def mutated_yaml(text: str, generator: random.Random) -> bytes:
    """A settings file of other values, with odd lines, aliases that multiply, or changed bytes."""
    kind = generator.random()
    if kind < 0.2:
        return mutated_bytes(text.encode(), generator)
    if kind < 0.35:
        lines = text.splitlines(keepends=True)
        lines.insert(generator.randrange(len(lines) + 1), generator.choice(SNIPPETS))
        return "".join(lines).encode()
    content = mutated_tree(yaml.safe_load(text), generator, odd=ODD_YAML)
    changed = yaml.safe_dump(content, allow_unicode=generator.random() < 0.5)
    if kind < 0.45 and isinstance(content, dict) and content:
        changed = _with_aliases(changed, generator)
    encoding = "utf-16" if generator.random() < 0.02 else "utf-8"
    return changed.encode(encoding, "surrogatepass")


def _with_aliases(text: str, generator: random.Random) -> str:
    """A list of lists of lists by their names: few bytes that would be many values."""
    levels, width = generator.choice(((3, 10), (7, 9), (9, 30))), 0
    n_levels, width = levels
    lines = ["x0: &x0 [a, b]"] + [
        f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * width)}]" for n in range(1, n_levels)
    ]
    key = generator.choice([line.split(":")[0] for line in text.splitlines() if ":" in line] or ["x"])
    return "\n".join([*lines, text, f"{key}: *x{n_levels - 1}", ""])


_NUMBERS = (0, 1, -1, 2, 7, 127, 128, 255, 256, 32_767, -32_768, 65_535, 2**31 - 1, -(2**31), 2**62)
_REALS = (0.0, 1.0, -1.0, 1e-30, 1e30, -1e30, 3e38, float("inf"), float("nan"), 352.0, 351.5, 1e7, 2.0**40)


def mutated_nifti(content: bytes, generator: random.Random) -> bytes:
    """A NIfTI file, 1 or 2, with fields of its header at extremes, and one time in four with bytes changed."""
    changed = bytearray(content)
    header = nibabel.Nifti2Header if int.from_bytes(content[:4], "little") == 540 else nibabel.Nifti1Header
    fields = header.template_dtype.fields
    for _ in range(generator.choice((1, 1, 2, 3))):
        name = generator.choice((*fields, "dim", "datatype", "vox_offset", "extension"))
        if name == "extension":
            end = header.template_dtype.itemsize
            size = generator.choice((0, 8, 16, 17, -16, 2**31 - 1))
            changed[end : end + 12] = struct.pack("<4Bii", 1, 0, 0, 0, size, 6)
            continue
        dtype, offset = fields[name][:2]
        base = dtype.base if dtype.subdtype is None else dtype.subdtype[0]
        n_values = dtype.itemsize // base.itemsize
        place = offset + base.itemsize * generator.randrange(n_values)
        changed[place : place + base.itemsize] = _extreme(base, name, generator)
    if generator.random() < 0.25:
        return mutated_bytes(bytes(changed), generator)
    return bytes(changed[: generator.randrange(len(changed))] if generator.random() < 0.05 else changed)


def _extreme(dtype: np.dtype[Any], name: str, generator: random.Random) -> bytes:
    if dtype.kind == "f":
        return struct.pack("<f" if dtype.itemsize == 4 else "<d", generator.choice(_REALS))
    if dtype.kind in "iu":
        value = generator.choice(_NUMBERS)
        if name == "datatype":
            value = generator.choice(
                (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, value)
            )
        return (value % (1 << 8 * dtype.itemsize)).to_bytes(dtype.itemsize, "little")
    return generator.randbytes(dtype.itemsize)


_TILE = random.Random(0).randbytes(4096)
_MEMBERS = {one: gzip.compress(one * 256, 9, mtime=0) for one in (bytes(4096), _TILE)}
"""1 MiB of air, or of one tile again and again, in some KiB."""


def mutated_gzip(content: bytes, generator: random.Random) -> bytes:
    """`content` in a gzip file: whole, in members, with something behind it, damaged; or short for what it says."""
    kind = generator.random()
    if kind < 0.1:  # a large scan in few bytes: the header says so, and the members give what it says
        changed = bytearray(content)
        edges = generator.choice(((256, 256, 256), (512, 512, 200), (640, 640, 640), (128, 128, 64)))
        changed[40:48] = struct.pack("<4h", 3, *edges)
        changed[70:74] = struct.pack(
            "<2h", *generator.choice(((2, 8), (4, 16), (16, 32), (64, 64), (1536, 128)))
        )
        member = _MEMBERS[generator.choice(list(_MEMBERS))]
        return gzip.compress(bytes(changed), 1, mtime=0) + member * generator.choice((1, 16, 100, 300))
    whole = gzip.compress(content, generator.choice((0, 1)), mtime=0)
    if kind < 0.4:
        return whole
    if kind < 0.55:
        cut = generator.randrange(1, len(content))
        return gzip.compress(content[:cut], 1, mtime=0) + gzip.compress(content[cut:], 1, mtime=0)
    if kind < 0.7:
        behind = generator.choice(
            (bytes(512), b"\x1f\x8b", generator.randbytes(64), whole, _MEMBERS[_TILE] * 40)
        )
        return whole + behind
    if kind < 0.8:  # bytes that no checksum holds
        packed = zlib.compressobj(1, zlib.DEFLATED, -15)
        return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + packed.compress(content) + packed.flush() + bytes(8)
    return mutated_bytes(whole, generator)


def mutated_tensors(content: bytes, generator: random.Random) -> bytes:
    """A safetensors file with another header, another length of it, or changed bytes."""
    if generator.random() < 0.3:
        return mutated_bytes(content, generator)
    length = int.from_bytes(content[:8], "little")
    header, tensors = json.loads(content[8 : 8 + length]), content[8 + length :]
    text = mutated_json(header, generator)
    said = len(text)
    if generator.random() < 0.15:
        said = generator.choice((0, 1, said - 1, said + 1, 1 << 20, 100 << 20, 1 << 40, 2**64 - 1))
    return struct.pack("<Q", max(0, said)) + text + mutated_bytes(tensors, generator)[: len(tensors)]
