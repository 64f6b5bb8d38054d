"""The pages say what the code does: settings, commands, links."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from isolux import cli_parser
from isolux.confs.describe import settings
from isolux.confs.read import presets, read_conf

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SECTIONS = {item.key.partition(".")[0] for item in settings() if "." in item.key}


def test_the_reference_of_settings_is_current() -> None:
    """If this fails: python docs/generate.py."""
    subprocess.run([sys.executable, str(ROOT / "docs" / "generate.py"), "--check"], check=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(
        r"\]\(([^)#\s]*)(?:#[^)\s]*)?\)", page.read_text(encoding="utf-8")
    ):
        if target and not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_that_pages_name_exist(page: Path) -> None:
    known = {item.key for item in settings()}
    known |= {key.rpartition(".")[0] for key in known}  # groups
    named = re.findall(r"(?<![\w./])([a-z]+\.[a-z_0-9]+)(?![\w./(])", page.read_text("utf-8"))
    unknown = {
        name
        for name in named
        if name.partition(".")[0] in SECTIONS
        and name not in known
        and "`" + name in page.read_text()
    }
    assert not unknown


def test_settings_typed_in_pages_are_accepted() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    typed = {
        found
        for found in re.findall(r"(?<![\w.])([a-z_]+\.[a-z_]+=[\w.,\[\]/]+)", text)
        if found.partition(".")[0] in SECTIONS
    }
    assert len(typed) > 5
    for override in typed:
        read_conf("demo", [override.rstrip(".,")])


def test_commands_that_pages_name_exist() -> None:
    for page in PAGES:
        for line in re.findall(r"^(?:\$ )?isolux (\w+)", page.read_text("utf-8"), re.MULTILINE):
            assert cli_parser.parser()._subparsers is not None
            help_text = cli_parser.parser().format_help()
            assert re.search(rf"^\s+{line}\s", help_text, re.MULTILINE), line


def test_every_preset_says_what_it_is() -> None:
    for name in presets():
        text = (ROOT / "isolux" / "confs" / "presets" / f"{name}.conf").read_text("utf-8")
        assert text.startswith("# "), name


def test_pages_name_no_machine() -> None:
    for page in PAGES:
        assert not re.search(r"/(work|root|home|tmp)/", page.read_text("utf-8")), page.name
