"""The ``fastx-list`` command."""
