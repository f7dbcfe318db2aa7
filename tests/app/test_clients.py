import socket
import struct

import pytest
from flask import Flask

from app import clients
from app.clients import watch_client


@pytest.fixture(params=["TCP", "Unix", "without TCP_INFO"])
def connection(request, monkeypatch):
    """The client's and the server's end of a connection."""
    if request.param == "Unix":
        client, server = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            server, _ = listener.accept()
    if request.param == "without TCP_INFO":
        monkeypatch.setattr(clients, "_tcp_state", lambda connection: None)
    with client, server:
        yield client, server


def watch(server):
    with Flask(__name__).test_request_context(environ_overrides={"gunicorn.socket": server}):
        return watch_client()


def test_a_client_that_waits_has_not_gone(connection):
    client, server = connection
    is_gone = watch(server)
    assert not is_gone()
    # The next request of the same client.
    client.sendall(b"GET / HTTP/1.1\r\n")
    assert not is_gone()


def test_a_client_that_closes_its_connection_has_gone(connection):
    client, server = connection
    is_gone = watch(server)
    client.close()
    assert is_gone()


def test_a_client_that_closes_after_more_bytes_has_gone(connection):
    client, server = connection
    is_gone = watch(server)
    client.sendall(b"\r\n")
    client.close()
    assert is_gone()


def test_a_client_that_resets_its_connection_has_gone(connection):
    client, server = connection
    is_gone = watch(server)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    assert is_gone()


def test_a_connection_that_the_service_has_closed_has_no_client(connection):
    _, server = connection
    is_gone = watch(server)
    server.close()
    assert is_gone()


def test_a_server_without_sockets_has_clients_that_never_go():
    with Flask(__name__).test_request_context():
        assert not watch_client()()
