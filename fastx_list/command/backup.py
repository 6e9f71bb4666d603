"""``fastx-list backup`` and ``restore``: what of the store cannot be found out again, in a file."""

from __future__ import annotations

import os
import stat
from contextlib import closing
from pathlib import Path

import click

from fastx_list import config, state
from fastx_list.store import backup as text
from fastx_list.store import open_store
from fastx_list.text import amount

MAX_BYTES = 2**30  # of a backup; one of a hundred thousand sessions has about a tenth

_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.command()
@_file
@click.option("--force", is_flag=True, help="Write over a file that is there.")
def backup(file: Path, force: bool) -> None:
    """Write to FILE what agents cannot find out again: the params of sessions, what is known of
    those whose machine is away, revoked tokens, and the history.

    Everything may run meanwhile. The file is closed to other users. The secret is not in it.
    """
    _check_place(file)
    with closing(open_store(config.load().store, create=False)) as store:
        found, counts = text.back_up(store)
    try:
        (state.replace if force else state.create)(file, found)
    except FileExistsError:
        raise click.ClickException(
            f"{file} is there already; name another file, or write over it with --force"
        ) from None
    except OSError as error:
        raise click.ClickException(f"{file} cannot be written: {error.strerror or error}") from None
    click.echo(f"{file}: {_amounts(counts)}", err=True)


@click.command()
@_file
def restore(file: Path) -> None:
    """Add to the store what it lacks of the backup FILE, also of another store.

    Everything may run meanwhile. What was set or revoked since the backup stays.
    """
    settings = config.load()
    try:
        found = state.read_file(file, MAX_BYTES)[0].decode()
        with closing(open_store(settings.store, keep=settings.keep)) as store:
            counts = text.restore(store, found)
    except (UnicodeDecodeError, text.BackupError) as error:
        problem = "it is no text" if isinstance(error, UnicodeDecodeError) else error
        raise click.ClickException(f"{file} cannot be restored: {problem}") from None
    except OSError as error:
        raise click.ClickException(f"{file} cannot be read: {error.strerror or error}") from None
    click.echo(f"restored from {file}: {_amounts(counts)}", err=True)


def _check_place(file: Path) -> None:
    """Raise ``ClickException`` if something else than a regular file is there, such as a device,
    which is not to become one."""
    try:
        mode = os.lstat(file).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise click.ClickException(f"{file} cannot be written: {error.strerror or error}") from None
    if not stat.S_ISREG(mode):
        raise click.ClickException(f"{file} is no regular file; name another file")


def _amounts(counts: text.Counts) -> str:
    return (
        f"{amount(counts.sessions, 'session')}, {amount(counts.revoked, 'revoked token')}, "
        f"{amount(counts.past, 'session')} of the history"
    )
