"""The two WSGI applications: ``wsgi:app`` is the list, ``wsgi:live`` the WebSocket sidecar."""

from fastx_list import create_app, create_live_app


def __getattr__(name: str) -> object:
    # Made when asked for, so that each server makes only the one that it serves.
    factories = {"app": create_app, "live": create_live_app}
    if name not in factories:
        raise AttributeError(name)
    globals()[name] = factories[name]()
    return globals()[name]
