"""Where the settings of both roles were in release 0.1.0. gunicorn prints this as one line."""

raise ImportError(
    "write -c python:fastx_list.web.server for the list, or -c python:fastx_list.live.server for"
    " the sidecar, in place of -c python:fastx_list.server"
)
