"""Where the dashboard listens, and who may ask."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import aiohttp
import pytest
from show import Show, get, show, watch

from m2h_runtime.errors import InputError, M2HError, SinkError
from m2h_runtime.web import Address, Dashboard, parse_address

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("8080", Address("127.0.0.1", 8080)),
        ("0.0.0.0:80", Address("0.0.0.0", 80)),  # noqa: S104
        ("robot.local:65535", Address("robot.local", 65535)),
        ("[::1]:0", Address("::1", 0)),
    ],
)
def test_an_address_is_a_port_with_or_without_a_host(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text", ["", "host", "host:", ":8080", "65536", "-1", "::1:80", "a b:1", "http://x:1"]
)
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError, match=r"expected \[HOST:\]PORT, as in 8080") as caught:
        parse_address(text)
    assert "\n" not in str(caught.value)


def test_a_port_in_use_is_told_in_one_line() -> None:
    with Dashboard("127.0.0.1", 0) as first:
        port = int(first.url.rstrip("/").rpartition(":")[2])
        with pytest.raises(SinkError, match=f"cannot listen on 127.0.0.1:{port} .address already in use"):
            Dashboard("127.0.0.1", port).open()
    with Dashboard("127.0.0.1", port):
        pass  # it can be had again at once


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1", "x" * 300])
def test_a_host_that_is_not_ours_is_told_in_one_line(host: str) -> None:
    with pytest.raises(M2HError, match="the dashboard cannot listen on") as caught:
        Dashboard(host, 0).open()
    assert "\n" not in str(caught.value)


def test_every_answer_has_the_security_headers(running: Show) -> None:
    for path in ("", "static/app.js", "status.json", "nothing/here"):
        headers = get(running.url + path).headers
        assert "default-src 'none'" in headers["Content-Security-Policy"], path
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"


def test_on_this_machine_a_foreign_host_name_is_refused(running: Show) -> None:
    """Else a web page could have its own name point to 127.0.0.1 and read the camera."""
    for host in ("evil.example", f"evil.example:{running.port}", "127.0.0.1.evil.example", "[", ""):
        answer = get(running.url, {"Host": host})
        assert answer.status in (400, 403), host
    assert "localhost only" in get(running.url, {"Host": "evil.example"}).line
    for host in ("localhost:9999", "[::1]:1", "127.0.0.1"):  # as through ssh -L
        assert get(running.url, {"Host": host}).status == 200, host


def test_a_name_that_means_this_machine_can_be_opened(tiny_engine: Path, tmp_path: Path) -> None:
    """Debian has a robot's own name mean 127.0.1.1."""
    with show(tiny_engine, tmp_path, host="127.0.1.1") as made:
        assert get(made.url + "status.json").status == 200
        assert get(made.url, {"Host": "evil.example"}).status == 403


def test_every_network_by_ipv6_is_every_network_by_ipv4_too(tmp_path: Path) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 on this machine")
    with Dashboard("::", 0, recordings=tmp_path) as dashboard:
        port, _, query = dashboard.url.rpartition(":")[2].partition("/")
        assert get(f"http://127.0.0.1:{port}/{query}").status == 200, "its URL may have the IPv4 address"


def test_another_page_can_neither_record_nor_watch(running: Show) -> None:
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", "http://["):
        answer = get(running.url + "record", {"Origin": origin}, post={"record": "mp4"})
        assert answer.status == 403
        assert answer.line == "this request comes from another page"
        assert websocket(running.url, {"Origin": origin}) == 403
    assert not running.recordings.exists()
    assert websocket(running.url, {"Origin": running.url.rstrip("/")}) == 101
    form = get(running.url + "record", {"Content-Type": "text/plain"}, post={"record": "mp4"})
    assert form.status == 400, "what a form can send is not enough"


def test_on_the_network_everything_needs_the_token(tiny_engine: Path, tmp_path: Path) -> None:
    with show(tiny_engine, tmp_path, host="0.0.0.0") as made:  # noqa: S104
        url, _, token = made.url.partition("?token=")
        assert len(token) >= 20
        assert "0.0.0.0" not in url, "what is printed can be opened"  # noqa: S104
        local = f"http://127.0.0.1:{made.port}/"
        for path in ("", "static/app.js", "status.json", "metrics", "view/rgb.jpg", "snapshot.png"):
            assert get(local + path).status == 401, path
            for wrong in ("", "x", token[:-1], token + "x", "%C3%A4", "%ff"):
                assert get(f"{local}{path}?token={wrong}").status == 401, path
        assert "a token is needed" in get(local).line
        assert get(local + "record", post={"record": "mp4"}).status == 401
        assert websocket(local, {}) == 401
        assert get(f"{local}status.json?token={token}").status == 200


def test_the_token_becomes_a_cookie_that_no_script_can_read(tiny_engine: Path, tmp_path: Path) -> None:
    with show(tiny_engine, tmp_path, token="of-my-own") as made:  # noqa: S106
        url = made.url.partition("?")[0]
        cookie = get(made.url).headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert get(url + "?token=wrong").headers["Set-Cookie"] is None
        known = {"Cookie": cookie.partition(";")[0]}
        assert get(url + "status.json", known).status == 200
        assert websocket(url, known) == 101
        assert get(url + "status.json", {"Cookie": known["Cookie"] + "x"}).status == 401


def test_ipv6_works_where_there_is_any(tiny_engine: Path, tmp_path: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with show(tiny_engine, tmp_path, host="::1") as made:
        assert made.url.startswith("http://[::1]:")
        (seen,) = watch(made.url, 0.5)
        assert seen.views


def websocket(url: str, headers: dict[str, str]) -> int:
    """The status of a handshake."""

    async def shake() -> int:
        async with aiohttp.ClientSession() as session:
            try:
                async with session.ws_connect(url + "socket", headers=headers):
                    return 101
            except aiohttp.WSServerHandshakeError as error:
                return error.status

    return asyncio.run(shake())
