"""The product on a whole Debian, with systemd as its first process: ``python -m tests.boot``."""
