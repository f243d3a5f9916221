"""What lies between a browser and the service, and can be cut."""

import socket
import threading
from contextlib import suppress


class Cable:
    """Listens on a port of its own and passes everything on to another. Cut, it refuses and what was passing is broken off."""

    def __init__(self, port: int):
        self._target = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._passing: set[socket.socket] = set()
        self._is_cut = False
        self.port = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._serve, daemon=True, name="cable").start()

    def cut(self) -> None:
        """Every connection is reset, and new ones are closed as they come, until `mend`."""
        self._is_cut = True
        for one in list(self._passing):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._is_cut = False

    def close(self) -> None:
        self.cut()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self._listening.accept()
                if self._is_cut:
                    here.close()
                    continue
                there = socket.create_connection(("127.0.0.1", self._target))
                for source, sink in ((here, there), (there, here)):
                    self._passing.add(source)
                    threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._passing.discard(source)
        source.close()
