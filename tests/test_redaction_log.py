"""Whoever logs whatever, no token is in it."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from fastx_list import redaction
from tests.test_redaction import TOKEN, survives


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """A logger as somebody else might have it, with its own handler and format, and what it has
    written."""
    factory = logging.getLogRecordFactory()
    redaction.install()
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
    logger = logging.getLogger("somebody.else")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield logger, written
    logger.removeHandler(handler)
    logger.propagate = True
    logger.setLevel(logging.NOTSET)
    logging.setLogRecordFactory(factory)


Log = tuple[logging.Logger, io.StringIO]


def test_a_logged_message_holds_no_token(log: Log) -> None:
    logger, written = log
    logger.info(f"GET /api/list/{TOKEN}?limit=1")
    assert written.getvalue() == "INFO somebody.else GET /api/list/[token]?limit=1\n"


def test_the_arguments_of_a_logged_message_hold_no_token(log: Log) -> None:
    logger, written = log
    logger.warning("%s said %r to %s", "alice", {"token": TOKEN}, f"/api/list/{TOKEN}")
    logger.warning("%(request)s %(status)d", {"request": f"GET /api/list/{TOKEN}", "status": 200})
    assert (
        written.getvalue()
        == "WARNING somebody.else alice said {'token': '[token]'} to /api/list/[token]\n"
        "WARNING somebody.else GET /api/list/[token] 200\n"
    )


def test_a_token_that_only_the_whole_message_shows_is_taken_out(log: Log) -> None:
    logger, written = log
    # Neither the message nor its argument is one alone
    logger.info("GET /api/list/%s", "0123456789abcdef")
    assert written.getvalue() == "INFO somebody.else GET /api/list/[token]\n"


def test_a_message_that_is_no_text_holds_no_token(log: Log) -> None:
    logger, written = log
    logger.error(ValueError(f"cannot open /api/list/{TOKEN}"))
    assert written.getvalue() == "ERROR somebody.else cannot open /api/list/[token]\n"


def test_a_logged_traceback_holds_no_token(log: Log) -> None:
    logger, written = log
    try:
        raise ValueError(f"cannot parse /api/list/{TOKEN}")
    except ValueError:
        logger.error("failed", exc_info=True)
    text = written.getvalue()
    assert "Traceback (most recent call last)" in text
    assert "ValueError: cannot parse /api/list/[token]" in text
    assert not survives(TOKEN, text)


def test_a_logged_exception_and_its_cause_hold_no_token(log: Log) -> None:
    logger, written = log
    try:
        try:
            raise KeyError(TOKEN)
        except KeyError as error:
            raise RuntimeError(f"Authorization: Bearer {TOKEN}") from error
    except RuntimeError:
        logger.exception("%s", TOKEN)
    text = written.getvalue()
    assert "KeyError: '[token]'" in text
    assert "RuntimeError: Authorization: Bearer [token]" in text
    assert "direct cause" in text
    assert not survives(TOKEN, text)


def test_the_traceback_holds_no_token_for_the_second_handler_either(log: Log) -> None:
    logger, written = log
    other = io.StringIO()
    handler = logging.StreamHandler(other)
    logger.addHandler(handler)
    try:
        raise ValueError(TOKEN)
    except ValueError:
        logger.exception("failed")
    finally:
        logger.removeHandler(handler)
    assert "ValueError: [token]" in other.getvalue()
    assert "ValueError: [token]" in written.getvalue()
    assert not survives(TOKEN, other.getvalue() + written.getvalue())


def test_a_logged_stack_does_not_get_in_the_way(log: Log) -> None:
    logger, written = log
    logger.info("here", stack_info=True)
    assert "Stack (most recent call last)" in written.getvalue()


def test_a_message_without_a_token_is_logged_as_it_is(log: Log) -> None:
    logger, written = log
    logger.info("%d sessions, %s", 3, "größe")
    assert written.getvalue() == "INFO somebody.else 3 sessions, größe\n"
