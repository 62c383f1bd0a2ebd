"""HEAD, OPTIONS, unknown methods, and paths with a trailing slash."""

from uuid import uuid4

import pytest

from batchd.api.routes import routes_of
from batchd.operations.table import OPERATIONS
from tests.support.callers import ApiCaller, Reply
from tests.support.raw_http import RawConnection, raw_connection, request
from tests.support.refusals import assert_refused

GET_PATHS = [route.path for route in routes_of(OPERATIONS) if route.method == "GET"]
OPEN = ["/healthz", "/readyz", "/metrics", "/openapi.json"]


@pytest.fixture
def authorization(caller: ApiCaller) -> bytes:
    return f"Authorization: {caller.user.secret}".encode()


async def head_of(connection: RawConnection, first: str, *headers: bytes) -> dict[str, str]:
    """Return the status line and the headers; the next answer must follow at once."""
    await connection.send(request(first.encode(), *headers) + request(b"GET /healthz HTTP/1.1"))
    status, *lines = (await connection.read_head()).strip().split("\r\n")
    after = await connection.read_reply()
    assert after.body == {"status": "alive"}
    return {"status": status, **dict(line.split(": ", 1) for line in lines)}


async def test_head_works_like_get_on_every_get_path(
    caller: ApiCaller, api_url: str, authorization: bytes
) -> None:
    batch = await caller.create(b"")
    values = {"{batch:[^/]+}": batch, "{role:[^/]+}": "admin"}
    changing = {"X-Request-Id", "Date"}
    assert len(GET_PATHS) == 9
    async with raw_connection(api_url) as connection:
        for path in GET_PATHS:
            for name, value in values.items():
                path = path.replace(name, value)  # noqa: PLW2901
            await connection.send(request(f"GET {path} HTTP/1.1".encode(), authorization))
            get = await connection.read_head()
            length = int(get.partition("Content-Length: ")[2].split("\r\n")[0])
            await connection.read_exactly(length)
            head = await head_of(connection, f"HEAD {path} HTTP/1.1", authorization)
            assert head["status"] == "HTTP/1.1 200 OK", path
            expected = dict(line.split(": ", 1) for line in get.strip().split("\r\n")[1:])
            if path == "/metrics":  # they say, among other things, how often they were asked for
                changing = {*changing, "Content-Length"}
            assert {name: head[name] for name in expected if name not in changing} == {
                name: value for name, value in expected.items() if name not in changing
            }


async def test_errors_have_no_body_for_head(
    api_url: str, authorization: bytes, subtests: pytest.Subtests
) -> None:
    for path, status in (
        ("/nowhere", 404),
        ("/batches/x", 400),
        (f"/batches/{uuid4()}", 404),
        ("/batches?limit=0", 400),
        ("/cache", 405),
    ):
        with subtests.test(path=path, status=status):
            async with raw_connection(api_url) as connection:
                head = await head_of(connection, f"HEAD {path} HTTP/1.1", authorization)
            assert head["status"].startswith(f"HTTP/1.1 {status} "), path
            assert int(head["Content-Length"]) > 0


async def test_trailing_slash_makes_no_difference(
    caller: ApiCaller, api_url: str, authorization: bytes, subtests: pytest.Subtests
) -> None:
    batch = await caller.create(b"")
    for path in ("/batches", f"/batches/{batch}", "/whoami", "/roles", "/roles/admin"):
        with subtests.test(path=path):
            plain, slash = (
                await caller.get(path),
                await caller.get(f"{path}/", allow_redirects=False),
            )
            assert (slash.status, slash.body) == (200, plain.body)
            assert slash.headers["ETag"] == plain.headers["ETag"]
            repeated = await caller.get(
                f"{path}/", headers={"If-None-Match": plain.headers["ETag"]}
            )
            assert repeated.status == 304
    for path in OPEN:
        with subtests.test(path=path):
            assert (await caller.call("HEAD", f"{path}/")).status == 200
    upload = await caller.call("POST", "/cache/")
    assert upload.status == 201
    handler = upload.body["handler"]
    assert (await caller.call("DELETE", f"/cache/{handler}/")).body == {"handler": handler}
    assert_refused(await caller.call("POST", "/batches/", json={}), 400, 400589)
    cancelled = await caller.call("PATCH", f"/batches/{batch}/", json={"status": "cancel"})
    assert cancelled.body["status"] == "cancel"
    assert_refused(await caller.call("PUT", "/whoami/"), 405, 400897)


async def test_trailing_slash_is_counted_as_the_same_operation(caller: ApiCaller) -> None:
    await caller.get("/roles/nobody/")
    async with caller.session.get(f"{caller.url}/metrics/") as response:
        text = await response.text()
    assert "slash" not in text


async def test_options_lists_the_methods(caller: ApiCaller, subtests: pytest.Subtests) -> None:
    allowed = {"/batches": "GET, HEAD, OPTIONS, POST", "/cache": "OPTIONS, POST"}
    allowed |= {f"/batches/{uuid4()}": "DELETE, GET, HEAD, OPTIONS, PATCH"}
    allowed |= dict.fromkeys((*OPEN, "/whoami", "/whoami/"), "GET, HEAD, OPTIONS")
    for path, allow in allowed.items():
        # Without a secret, as the answer to a wrong method.
        with subtests.test(path=path, allow=allow):
            async with caller.session.options(f"{caller.url}{path}") as response:
                assert response.status == 204
                assert response.headers["Allow"] == allow
                assert "X-Request-Id" in response.headers
                assert await response.read() == b""
                assert "Content-Type" not in response.headers
    assert_refused(await caller.call("OPTIONS", "/nowhere"), 404, 404653)


@pytest.mark.parametrize("method", ["BREW", "get", "TRACE", "CONNECT", "LINK", "X-Y", "QUERY"])
async def test_unknown_method_is_refused_like_any_other(
    api_url: str, authorization: bytes, method: str, subtests: pytest.Subtests
) -> None:
    async def get_raw(path: str) -> Reply:
        async with raw_connection(api_url) as connection:
            await connection.send(request(f"{method} {path} HTTP/1.1".encode(), authorization))
            return await connection.read_reply()

    if method == "CONNECT":  # its target is an authority, and so no path of ours
        assert_refused(await get_raw("localhost:80"), 404, 404653)
        return
    for path in ("/batches", "/batches/", "/batches?limit=1"):
        with subtests.test(path=path):
            refused = await get_raw(path)
            assert method in assert_refused(refused, 405, 400897)
            assert refused.headers["Allow"] == "GET, HEAD, POST"
    assert (await get_raw("/batches/x")).headers["Allow"] == "DELETE, GET, HEAD, PATCH"
    assert_refused(await get_raw("/nowhere"), 404, 404653)
