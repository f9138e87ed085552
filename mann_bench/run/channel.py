"""The worker's side of the two pipes that it shares with its driver: commands come in, replies go out, each a JSON object in a line.

The pipes are the worker's own. Its standard input is empty and all that it prints, from the start of Python on, goes elsewhere
(`warden.py`): nothing that a model or a site's Python reads or prints can be taken for a command or a reply.

A command may have a `number`; its reply is then {"number": 3, "reply": {...}}.
"""

import gc
import json
import os
import signal
import site
import sys
from collections.abc import Iterator, Mapping

from mann_bench.data.fields import Json, JsonObject


class Channel:
    """The two pipes, by their file descriptors."""

    def __init__(self, commands: int, replies: int) -> None:
        for descriptor in (commands, replies):
            os.set_inheritable(descriptor, False)  # they are for no program that a model starts
        self._commands, self._replies = os.fdopen(commands, "rb"), os.fdopen(replies, "wb")
        self._process = os.getpid()

    def commands(self) -> Iterator[JsonObject]:
        """Yield the commands until the driver closes the pipe."""
        for line in self._commands:
            yield json.loads(line)

    def send(self, message: Mapping[str, Json]) -> None:
        """Send a message. In a copy of this process that a model has forked and that came back into this code: end it without a word."""
        if os.getpid() != self._process:
            os._exit(0)
        self._replies.write(json.dumps(message).encode() + b"\n")
        self._replies.flush()


def open_channel() -> Channel:
    """The channel of this worker process, whose arguments are the two descriptors, and folders of the user's.

    It can import from these folders before it looks among installed packages, one of which may be another state of the same code; and from
    the current folder last. So a file of the user's hides no module of the project or of Python. Also lets SIGINT in, which its warden has
    held back while it imported. What has been imported stays for as long as the process: garbage collection, as before each measurement,
    need not look at it again.
    """
    gc.freeze()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    commands, replies, *own_folders = sys.argv[1:]
    packages = {*site.getsitepackages(), site.getusersitepackages()}
    position = next((number for number, folder in enumerate(sys.path) if folder in packages), len(sys.path))
    sys.path[position:position] = own_folders
    sys.path.append(os.getcwd())
    return Channel(int(commands), int(replies))
