"""The command line: `ndl run | check | test | fmt | compile | show | explain | new | fix | cite`.

Each command is a file in `ndl/commands`, imported when it is called for. This is the edge where
diagnostics become text and an exit code, and where an exception that we did not foresee becomes
an NDL901 with a reproducer: no traceback reaches a user.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import click
from click.shell_completion import get_completion_class

from ndl import console, edge, exits
from ndl.compiler.diagnostics import NDLError

COMMANDS = ("run", "check", "test", "fmt", "compile", "show", "explain", "new", "fix", "cite")


class Commands(click.Group):
    """A group whose commands live in modules of their own: `ndl.commands.run` defines `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = import_module(f"ndl.commands.{cmd_name}").command
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with a suggestion for a misspelt command."""
        from ndl.compiler.diagnostics import did_you_mean

        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            offer = f"`{name}` is a file: write `ndl run {name}`" if name.endswith(".ndl") else None
            offer = offer or did_you_mean(name, COMMANDS) or f"commands are {', '.join(COMMANDS)}"
            ctx.fail(f"no such command `{name}`; {offer}")
        return super().resolve_command(ctx, args)


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from ndl import __version__

        click.echo(f"ndl {__version__}")
        ctx.exit()


def _completion(ctx: click.Context, _: click.Parameter, shell: str | None) -> None:
    if shell and not ctx.resilient_parsing:
        made = get_completion_class(shell)
        assert made is not None  # `shell` is one of the choices below
        click.echo(made(cli, {}, "ndl", "_NDL_COMPLETE").source())
        ctx.exit()


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print it."
)
@click.option(
    "--completion",
    type=click.Choice(["bash", "zsh", "fish"]),
    is_eager=True,
    expose_value=False,
    callback=_completion,
    help="Print the completion script of a shell.",
)
def cli() -> None:
    """NDL: a language for differential equations and neural networks.

    Exit codes: 0 fine, 1 errors in a file or failed tests, 2 wrong usage, 3 a run failed,
    4 a bug in NDL, 130 interrupted.
    """


def call(args: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    given = list(sys.argv[1:] if args is None else args)
    try:
        result = cli.main(args=given, prog_name="ndl", standalone_mode=False)
    except NDLError as error:
        console.show(error.diagnostics)
        return console.exit_code(error.diagnostics)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        console.say("interrupted", err=True)
        return exits.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (`ndl show … | head`): nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.OK
    except OSError as error:
        console.say(f"error: {_os_error(error)}", err=True, style="red")
        return exits.RUN_FAILED
    except Exception as error:
        found = edge.diagnose(error, given)
        console.show([found])
        return exits.INTERRUPTED if found.code == edge.INTERRUPTED_CODE else console.exit_code([found])
    return result if isinstance(result, int) else exits.OK


def _os_error(error: OSError) -> str:
    reason = (error.strerror or str(error)).lower()
    return f"{reason}: {error.filename}" if error.filename else reason


def main() -> NoReturn:
    """Entry point of `ndl` and `python -m ndl`."""
    console.prepare_streams()
    sys.exit(call())
