"""The common form of all failures, as the contract defines it."""

from tests.support.callers import Reply


def assert_refused(reply: Reply, status: int, subcode: int) -> str:
    """Check an error response against the contract; return its description."""
    assert (reply.status, reply.body.get("subcode")) == (status, subcode), reply
    assert reply.body.keys() == {"subcode", "trace", "description"}
    trace, description = reply.body["trace"], reply.body["description"]
    assert isinstance(trace, str)
    assert trace
    assert reply.headers["X-Request-Id"] == trace
    assert reply.headers["Content-Type"] == "application/json; charset=utf-8"
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert isinstance(description, str)
    assert description.endswith(".")
    return description
