"""`reeve completion`: completion for the shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a completion script.

    \b
    Examples:
      source <(reeve completion bash)
      reeve completion fish > ~/.config/fish/completions/reeve.fish
    """
    from agent.cli.root import main

    found = get_completion_class(shell)
    assert found is not None, "click knows bash, zsh and fish"
    click.echo(found(main, {}, "reeve", "_REEVE_COMPLETE").source())
