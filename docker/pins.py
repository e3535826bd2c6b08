"""The digests of every package that is installed from an index, in the form that `pip install --require-hashes` takes.

    python docker/pins.py renew          writes constraints.txt, the lists in pins/ and docker/wheels-cpu.txt anew
    python docker/pins.py renew keep     the same at the versions that constraints.txt has
    python docker/pins.py needs-cuda     exit status 0 where the PyTorch installed here needs pins/cuda.txt
    python docker/pins.py check          exit status 1, and why, where a pin has no digest or is listed twice

`pins/run.txt` builds the project and runs it, but for PyTorch: `pins/torch-cpu.txt` is its build for the CPU, where an
index offers one, `pins/torch.txt` the usual build, and `pins/cuda.txt` what that needs besides on Linux.
`pins/dev.txt` is what the tests and checks need. Each is installed without dependencies, so nothing is that is not
listed. `make pins` writes them, and the digests of the images that ours are built on.

Why PyTorch's builds have lists of their own: where a list allows both, pip takes the file whose digest an index
states before a higher version whose digest it does not know, and so gigabytes of CUDA before the build for the CPU.

The digests are those that the index states for the wheels of CPython 3.11 to 3.14 on Linux (x86_64, aarch64) and macOS.
The index is pip's own, whichever that is set to. A package that has no wheel is refused: its build would run what no
digest holds. TORCH_INDEX names an index of PyTorch's builds for the CPU; without it, its digest is that of
docker/wheels-cpu.txt.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LISTS = ("run", "torch", "cuda", "dev")
CUDA_ALONE = ("nvidia-", "cuda-", "triton")
"""How the names of what PyTorch needs for CUDA alone begin."""
PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)===?(?P<version>[^\s;]+)")
LISTED = re.compile(
    r"(?P<name>[a-z0-9-]+)==(?P<version>\S+) \\\n(?P<hashes>(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)"
)
JSON_INDEX = "application/vnd.pypi.simple.v1+json"
OF_A_WHEEL = re.compile(
    r"-(?:(?:cp31[1-4]|py3|py2\.py3)-(?:none|cp31[1-4])|cp3\d+(?:\.\S+?)?-abi3|py3-abi3|py2\.py3-none)-"
    r"(?:any|macosx\S*|\S*linux\S*_(?:x86_64|aarch64)\S*)\.whl$"
)
NOT_OURS = re.compile(r"^(?!.*manylinux).*musllinux")


def canonical(name: str) -> str:
    """The project's name as indexes have it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    """By project, the version that a list of pins names."""
    found = {}
    for line in text.splitlines():
        match = PIN.match(line)
        if match:
            found[canonical(match["name"])] = match["version"].removesuffix("+cpu")
    return found


def listed(path: Path) -> dict[str, tuple[str, set[str]]]:
    """By project, version and digests of a list. Raises ValueError where it holds anything else."""
    text = "".join(
        line for line in path.read_text(encoding="ascii").splitlines(True) if not line.startswith("#")
    )
    rest = LISTED.sub("", text)
    if rest.strip():
        raise ValueError(f"{path}: no pin with its digests: {rest.strip()[:80]}")
    return {
        match["name"]: (match["version"], set(re.findall(r"[0-9a-f]{64}", match["hashes"])))
        for match in LISTED.finditer(text)
    }


def digests(name: str, version: str, index: str) -> set[str]:
    """What the index states for the wheels of one release. Raises ValueError where it has none that fits."""
    request = urllib.request.Request(  # noqa: S310  # the index that pip is set to, file: included
        f"{index.rstrip('/')}/{name}/", headers={"Accept": f"{JSON_INDEX}, text/html;q=0.1"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        content, is_json = answer.read().decode("utf-8"), answer.headers.get_content_type() == JSON_INDEX
    if is_json:
        files = [(file["filename"], file["hashes"].get("sha256")) for file in json.loads(content)["files"]]
    else:
        files = [
            (address.rpartition("/")[2].replace("%2B", "+"), digest)
            for address, digest in re.findall(r'href="([^"#]+)#sha256=([0-9a-f]{64})"', content)
        ]
    found = {
        digest
        for filename, digest in files
        if digest
        and OF_A_WHEEL.search(filename)
        and not NOT_OURS.search(filename)
        and filename.split("-")[1] == version
    }
    if not found:
        raise ValueError(f"{name} {version}: the index states the digest of no wheel of it")
    return found


def made(packages: dict[str, str]) -> str:
    """The list of these packages."""
    index = _index_of_pip()
    with ThreadPoolExecutor(8) as pool:
        found = dict(zip(packages, pool.map(lambda pin: digests(*pin, index), packages.items()), strict=True))
    return _as_text({name: (packages[name], found[name]) for name in packages})


def _as_text(packages: dict[str, tuple[str, set[str]]]) -> str:
    lines = ["# Made by: make pins\n"]
    for name, (version, found) in sorted(packages.items()):
        hashes = " \\\n".join(f"    --hash=sha256:{digest}" for digest in sorted(found))
        lines.append(f"{name}=={version} \\\n{hashes}\n")
    return "".join(lines)


def faults(root: Path = ROOT) -> list[str]:
    """What is pinned without a digest, with another version, or twice; in words."""
    wanted, found, wrong = pins((root / "constraints.txt").read_text(encoding="ascii")), {}, []
    for name in LISTS:
        try:
            content = listed(root / "pins" / f"{name}.txt")
        except (OSError, ValueError) as failure:
            return [str(failure)]
        wrong += [f"{project} is listed twice" for project in content.keys() & found.keys()]
        found |= content
        if name != "cuda":
            wrong += [
                f"{project}=={version} in pins/{name}.txt, {wanted.get(project, 'nothing')} in constraints.txt"
                for project, (version, _) in content.items()
                if wanted.get(project) != version
            ]
    try:
        cpu_build = listed(root / "pins" / "torch-cpu.txt")["torch"][0]
    except (OSError, ValueError, KeyError) as failure:
        return [*wrong, f"pins/torch-cpu.txt: {failure}"]
    if cpu_build != f"{wanted.get('torch')}+cpu":
        wrong.append(f"torch=={cpu_build} in pins/torch-cpu.txt, {wanted.get('torch')} in constraints.txt")
    return wrong + [
        f"{project}=={version} has no digest" for project, version in wanted.items() if project not in found
    ]


def needs_cuda() -> bool:
    """Whether the PyTorch that is installed here asks for CUDA's packages."""
    wishes = importlib.metadata.requires("torch") or []
    return sys.platform == "linux" and any(wish.startswith(CUDA_ALONE) for wish in wishes)


def renew(*, keep: bool, root: Path = ROOT) -> None:
    """Resolve what pyproject.toml wishes, and write versions and digests. Nothing is installed."""
    build = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    former = root / "constraints.txt"
    everything = _resolved(".[dev]", *build, constraints=former if keep else None)
    with tempfile.TemporaryDirectory() as folder:
        held = Path(folder) / "held.txt"
        held.write_text(_lines(everything), encoding="ascii")
        run = _resolved(".", *build, constraints=held)
        cuda = _resolved(f"torch==={run['torch']}", constraints=held) if sys.platform == "linux" else {}
    alone = {name: version for name, version in cuda.items() if name.startswith(CUDA_ALONE)}
    run, everything = (
        {name: version for name, version in found.items() if name not in alone} for found in (run, everything)
    )
    dev = {name: version for name, version in everything.items() if name not in run}
    head = "# Every version the environment installs, direct and indirect. Made by: make pins\n"
    former.write_text(head + _lines(everything), encoding="ascii")
    _write_wheels(run)
    torch = {"torch": run.pop("torch")}
    for name, packages in (("run", run), ("torch", torch), ("cuda", alone), ("dev", dev)):
        if packages:  # only Linux can say what CUDA needs
            (root / "pins" / f"{name}.txt").write_text(made(packages), encoding="ascii")
    builds = _as_text({"torch": (f"{torch['torch']}+cpu", _cpu_builds(torch["torch"]))})
    (root / "pins" / "torch-cpu.txt").write_text(builds, encoding="ascii")


def _resolved(*wishes: str, constraints: Path | None) -> dict[str, str]:
    """What pip would install for them into an empty environment."""
    environment = {name: value for name, value in os.environ.items() if name != "PIP_CONSTRAINT"}
    options = ["--constraint", str(constraints)] if constraints else []
    if os.environ.get("TORCH_INDEX") and not any("torch===" in wish for wish in wishes):
        options += ["--extra-index-url", os.environ["TORCH_INDEX"]]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
    command += ["--only-binary", ":all:", "--report", "-", *options, *wishes]
    report = json.loads(
        subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT, env=environment).stdout
    )
    found = {
        canonical(item["metadata"]["name"]): item["metadata"]["version"].removesuffix("+cpu")
        for item in report["install"]
    }
    found.pop("fedminet", None)
    return found


def _write_wheels(run: dict[str, str]) -> None:
    """The very files that the images are made of: those that pip chooses here."""
    with tempfile.TemporaryDirectory() as folder:
        extra = ["--extra-index-url", os.environ["TORCH_INDEX"]] if os.environ.get("TORCH_INDEX") else []
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        wishes = [f"{name}=={version}" for name, version in run.items()]
        subprocess.run([*command, "--dest", folder, *extra, *wishes], check=True)
        if not list(Path(folder).glob("torch-*+cpu-*")):
            raise SystemExit(
                "pins: pip finds no build of PyTorch for the CPU; name its index with TORCH_INDEX"
            )
        script = [sys.executable, str(ROOT / "docker" / "wheel_hashes.py"), "write", folder]
        text = subprocess.run(script, check=True, text=True, stdout=subprocess.PIPE).stdout
    (ROOT / "docker" / "wheels-cpu.txt").write_text(text, encoding="ascii")


def _lines(packages: dict[str, str]) -> str:
    return "".join(f"{name}=={packages[name]}\n" for name in sorted(packages))


def _cpu_builds(version: str) -> set[str]:
    if os.environ.get("TORCH_INDEX"):
        return digests("torch", f"{version}+cpu", os.environ["TORCH_INDEX"])
    text = (ROOT / "docker" / "wheels-cpu.txt").read_text(encoding="ascii")
    found = re.search(
        rf"^torch=={re.escape(version)}\+cpu --hash=sha256:([0-9a-f]{{64}})$", text, re.MULTILINE
    )
    return {found[1]} if found else set()


def _index_of_pip() -> str:
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True
    )
    if os.environ.get("PIP_INDEX_URL") or asked.returncode == 0:
        return os.environ.get("PIP_INDEX_URL") or asked.stdout.strip()
    from pip._internal.models.index import PyPI  # pip's own address: none is written down here

    return str(PyPI.simple_url)


if __name__ == "__main__":
    if sys.argv[1] == "renew":
        renew(keep=sys.argv[2:] == ["keep"])
    if sys.argv[1] == "needs-cuda":
        sys.exit(not needs_cuda())
    problems = faults()
    for problem in problems:
        print(f"pins: {problem}", file=sys.stderr)
    sys.exit(bool(problems))
