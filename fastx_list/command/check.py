"""``fastx-list check``: what is wrong with the settings, before anything is started with them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import click

from fastx_list import config, tokens
from fastx_list.agent.sources import load_sources
from fastx_list.config import ConfigError, Settings
from fastx_list.store import StoreError, open_store
from fastx_list.text import amount


@click.command()
def check() -> None:
    """Say what is wrong with the settings, one line each. Exit status 1 if nothing can be started
    with them.

    What is warned of keeps nothing from starting. Nothing is made, and nobody is connected to.
    """
    try:
        found = config.set_by()
    except ConfigError as unreadable:
        raise click.ClickException(str(unreadable)) from None
    for warning in config.warnings(found):
        click.echo(f"warning: {warning}", err=True)
    settings, errors = config.read(found)
    if settings is not None:
        errors = list(_unusable(settings))
    for error in errors:
        click.echo(f"Error: {error}", err=True)
    if errors:
        sys.exit(1)
    lines = [line.where for line in found.lines.values()]
    of_file = f": {amount(len(lines), 'line')} of {lines[0].rpartition(', ')[0]}" if lines else ""
    click.echo(f"the settings are in order{of_file}")


def _unusable(settings: Settings) -> Iterator[str]:
    checks: tuple[Callable[[], object], ...] = (
        lambda: load_sources(settings),
        lambda: tokens.check(settings),
        lambda: open_store(settings.store, create=False).close(),
    )
    for each in checks:
        try:
            each()
        except (ConfigError, StoreError) as error:
            yield str(error)
