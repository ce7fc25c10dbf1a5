"""An ASGI application on a free port of loopback, in a thread of this process."""

import contextlib
import threading
import time

from multiway_core.app.serve.listener import address, listen, server


@contextlib.contextmanager
def serving(application):
    listening = listen("127.0.0.1", 0)
    running = server(application)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
    thread.start()
    while not running.started:
        time.sleep(0.01)
    try:
        yield address(listening, "127.0.0.1")
    finally:
        running.should_exit = True
        thread.join(timeout=60)
        assert not thread.is_alive()
