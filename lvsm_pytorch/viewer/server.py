"""The interactive viewer, `lvsm view`, on viser.

Each client has its own camera, settings and render thread (`visit`). Views are rendered at low resolution while the camera moves and at full
resolution when it rests. Photos are encoded in the background, once for all clients (`session`).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import Any

from lvsm_pytorch.configs.view import ViewConfig
from lvsm_pytorch.data.posing import with_poses
from lvsm_pytorch.errors import fail
from lvsm_pytorch.execution import pick_device
from lvsm_pytorch.inference.scenes import data_of, scene_of, scenes_of
from lvsm_pytorch.lvsm.model import LVSM
from lvsm_pytorch.lvsm.pretrained import default_size
from lvsm_pytorch.viewer.access import Token, is_loopback, require_token
from lvsm_pytorch.viewer.session import Stage
from lvsm_pytorch.viewer.visit import Visit

# scenes that are kept in memory, with their encoded photos

MAX_SCENES = 4

# how long stopping waits for views and encodings that are in progress

SHUTDOWN_SECONDS = 5.


def view(config: ViewConfig) -> None:
    """Serves the viewer until Ctrl-C.

    Raises:
        ImportError: Without viser.
        ValueError: If the folder holds no model, or the data can't be read.
    """
    viewer = Viewer(config)

    try:
        with sigterm_as_interrupt():
            print(f'Walk through the scene at {viewer.address} (Ctrl-C ends it)', flush = True)
            viewer.server.sleep_forever()
    except KeyboardInterrupt:
        print('stopped', flush = True)
    finally:
        viewer.stop()


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM, by which services are stopped, raises KeyboardInterrupt, so that everything is cleaned up. Does nothing outside of the main thread, which alone receives signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)

    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Viewer:
    """The server, its scenes and its clients."""

    def __init__(self, config: ViewConfig):
        viser = viser_library()
        config.check()
        self.config = config = with_poses(config)
        self.model = LVSM.from_pretrained(config.model).to(pick_device(config.device))
        self.scenes = scenes_of(data_of(config.model, config.data), default_size(self.model)[0])
        self.lock, self.entering, self.filming = threading.Lock(), threading.RLock(), threading.Lock()
        self.stages: dict[int, Stage] = {}
        self.stage(config.scene)
        self.visits: dict[int, Visit] = {}
        self.num_films = 0
        self.token = None if is_loopback(config.host) else Token()

        try:
            with redirect_stdout(StringIO()), require_token(self.token):    # viser prints its own address
                self.server = viser.ViserServer(host = config.host, port = config.port, label = 'lvsm view', verbose = False)
        except ValueError:
            self.server.stop()    # it would be open to everybody
            raise

        self.port: int = self.server.get_port()
        self.server.gui.configure_theme(show_share_button = False)
        self.server.on_client_connect(self.on_connect)
        self.server.on_client_disconnect(self.on_disconnect)

    @property
    def address(self) -> str:
        """URL to open in a browser, with the token if one is needed."""
        host = 'localhost' if self.config.host == '127.0.0.1' else self.config.host
        return f'http://{host}:{self.port}' + ('' if self.token is None else f'/?token={self.token.value}')

    def stage(self, number: int) -> Stage:
        """A scene by its number. The last few are kept in memory."""
        with self.entering:
            stage = self.stages.pop(number, None) or Stage(self.model, scene_of(self.scenes, number), default_size(self.model), self.lock, self.scenes.problems)
            self.stages[number] = stage

            if len(self.stages) > MAX_SCENES:
                del self.stages[next(iter(self.stages))]

            return stage

    def make_visit(self, client: Any) -> Visit:
        return Visit(self, client)

    def on_connect(self, client: Any) -> None:
        if len(self.visits) >= self.config.max_visitors:
            client.gui.add_markdown(f'**This viewer has {len(self.visits)} visitors**, as many as it may have (`--max-visitors`). Reload the page when one has left.')
            return

        self.visits[client.client_id] = self.make_visit(client)

        if client.client_id not in self.server.get_clients():    # disconnected while its scene was set up
            self.on_disconnect(client)

    def on_disconnect(self, client: Any) -> None:
        if (visit := self.visits.pop(client.client_id, None)) is not None:
            visit.end()

    @contextmanager
    def film_slot(self) -> Iterator[None]:
        """Reserves the only slot for rendering a film.

        Raises:
            ValueError: While another film is rendered, and after `max_films`.
        """
        if self.num_films >= self.config.max_films:
            fail('film', f'must be one of at most {self.config.max_films} of a viewer (--max-films)', f'{self.num_films} before it', 'Start lvsm view anew for more.')

        if not self.filming.acquire(blocking = False):
            fail('film', 'must wait for the one that is rendered now', 'another one', 'Try again when that is done.')

        try:
            yield
            self.num_films += 1
        finally:
            self.filming.release()

    def stop(self) -> None:
        visits = list(self.visits.values())

        for visit in visits:
            visit.end()

        for visit in visits:
            visit.thread.join(SHUTDOWN_SECONDS)

        for stage in self.stages.values():
            stage.sets.stop(SHUTDOWN_SECONDS)
            stage.pictures.stop(SHUTDOWN_SECONDS)

        self.server.stop()


def viser_library() -> Any:
    try:
        import viser
    except ImportError as error:
        raise ImportError('lvsm view needs viser: pip install "lvsm-pytorch[train,view]"') from error

    return viser
