"""What ``gunicorn wsgi:app`` and ``gunicorn wsgi:live`` run with in this directory; an installed
package has the same settings as ``gunicorn -c python:fastx_list.server``."""

from fastx_list.server import *  # noqa: F403
