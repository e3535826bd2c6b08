"""Options that are one value to a command stay options of their own to who gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from minet_core.runtime.option_groups import with_option_groups


@dataclass(frozen=True)
class Size:
    """Two options, the first of which must be given."""

    height: Annotated[int, typer.Option(min=1)]
    width: Annotated[int, typer.Option("--wide")] = 3


def draw(name: Annotated[str, typer.Argument()], size: Size, dark: bool = False) -> None:
    """Draw it."""
    typer.echo(f"{name} {size.height} x {size.width} {dark}")


def test_the_fields_are_options_and_the_command_has_the_value() -> None:
    app = typer.Typer()
    app.command()(with_option_groups(draw))
    call = CliRunner().invoke
    assert call(app, ["box", "--height", "2"]).output == "box 2 x 3 False\n"
    assert call(app, ["box", "--height", "2", "--wide", "5", "--dark"]).output == "box 2 x 5 True\n"
    assert call(app, ["box"]).exit_code == 2  # without what must be given
    assert call(app, ["box", "--height", "0"]).exit_code == 2  # beyond its bound
    assert "Draw it." in call(app, ["--help"]).output


def test_two_options_of_one_name_are_refused_when_the_command_is_made() -> None:
    def twice(size: Size, height: int = 1) -> None: ...

    with pytest.raises(TypeError, match="two options of one name"):
        with_option_groups(twice)
