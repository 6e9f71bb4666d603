"""What ``gunicorn wsgi:app`` and ``gunicorn wsgi:live`` run with in this directory: the settings of
the role that the application has."""

import sys

from gunicorn.config import Config

WEB = ("wsgi:app", "fastx_list:create_app()")
LIVE = ("wsgi:live", "fastx_list:create_live_app()")

application = "".join([*Config().parser().parse_args().args, ""][0].split())
if application in WEB:
    from fastx_list.web.server import *  # noqa: F403
elif application in LIVE:
    from fastx_list.live.server import *  # noqa: F403
else:
    sys.exit(f"gunicorn.conf.py takes {', '.join(WEB + LIVE)}; not {application!r}")
