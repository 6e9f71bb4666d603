"""Process 1, the list: HTTP requests, answered by gunicorn's workers."""
