"""Who may open the viewer."""

from __future__ import annotations

from http.client import HTTPConnection

import pytest
from conftest import tiny_model

from lvsm_pytorch.configs.view import ViewConfig
from lvsm_pytorch.viewer.access import Token, is_loopback
from lvsm_pytorch.viewer.server import Viewer

# what viser and its server of websockets leave to the garbage collector

pytestmark = pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning', 'ignore::pytest.PytestUnhandledThreadExceptionWarning', 'ignore::DeprecationWarning')


def viewer_at(folder, host):
    tiny_model().save_pretrained(folder / 'model')
    return Viewer(ViewConfig(model = folder / 'model', host = host, port = 8180, device = 'cpu'))


@pytest.fixture
def open_viewer(tmp_path):
    """For everybody who reaches it."""
    viewer = viewer_at(tmp_path, '0.0.0.0')
    yield viewer
    viewer.stop()


def answer(viewer, path = '/', **headers):
    """Status, the cookie that is set, and the text."""
    connection = HTTPConnection('127.0.0.1', viewer.port, timeout = 60)
    connection.request('GET', path, headers = headers)
    response = connection.getresponse()
    found = response.status, response.headers.get('Set-Cookie'), response.read().decode(errors = 'replace')
    connection.close()
    return found


def websocket_status(viewer, path = '/', **headers):
    """101 where it is admitted."""
    websockets = pytest.importorskip('websockets.sync.client')
    from websockets.exceptions import InvalidStatus

    try:
        with websockets.connect(f'ws://127.0.0.1:{viewer.port}{path}', additional_headers = headers, open_timeout = 60):
            return 101
    except InvalidStatus as error:
        return error.response.status_code


def test_pages_and_websockets_need_the_token(open_viewer):
    token = open_viewer.token
    assert token.value in open_viewer.address

    for path in ('/', '/index.html', '/?token=', '/?token=wrong', f'/?token={token.value[:-1]}', f'/{token.value}', '/?token=%00%C3%A9'):
        status, cookie, text = answer(open_viewer, path)
        assert (status, cookie) == (403, None)
        assert 'needs the whole address that lvsm view has printed' in text
        assert websocket_status(open_viewer, path) == 403

    status, cookie, page = answer(open_viewer, f'/?token={token.value}')
    assert status == 200
    assert '<html' in page
    assert cookie is not None
    assert cookie.startswith(f'{token.cookie}={token.value};')
    assert 'HttpOnly' in cookie

    kept = f'another=1; {token.cookie}={token.value}'
    assert answer(open_viewer, Cookie = kept)[0] == 200
    assert websocket_status(open_viewer, Cookie = kept) == 101
    assert websocket_status(open_viewer, Cookie = f'{token.cookie}=wrong') == 403
    assert websocket_status(open_viewer, Cookie = 'no cookie; =; "') == 403


def test_tokens_are_random():
    tokens = [Token() for _ in range(20)]
    assert len({token.value for token in tokens}) == len({token.cookie for token in tokens}) == 20
    assert min(len(token.value) for token in tokens) >= 32


def test_this_machine_alone_needs_none(tmp_path):
    viewer = viewer_at(tmp_path, '127.0.0.1')
    assert viewer.token is None
    assert answer(viewer)[0] == 200
    assert websocket_status(viewer) == 101
    viewer.stop()


@pytest.mark.parametrize('host, expected', [('127.0.0.1', True), ('127.3.2.1', True), ('::1', True), ('localhost', True), ('0.0.0.0', False), ('::', False), ('192.168.1.5', False), ('example.org', False), ('', False)])
def test_what_is_loopback(host, expected):
    assert is_loopback(host) == expected


def test_nothing_is_served_unchecked(tmp_path, monkeypatch):
    """Where viser begins to serve in a way that is not known."""
    stopped = []

    class OtherServer:
        def __init__(self, **_):
            pass

        def stop(self):
            stopped.append(self)

    monkeypatch.setattr('viser.ViserServer', OtherServer)
    with pytest.raises(ValueError, match = r'host: must be 127\.0\.0\.1 with this version of viser'):
        viewer_at(tmp_path, '0.0.0.0')
    assert len(stopped) == 1
