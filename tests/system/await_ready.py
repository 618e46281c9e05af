# SPDX-License-Identifier: MIT
#
# await_ready.py SOCKET SECONDS: play systemd's part of sd_notify: bind SOCKET and end with status 0 when a
# message with READY=1 has come, 1 after SECONDS without.

import socket
import sys

path, seconds = sys.argv[1], float(sys.argv[2])
receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
receiver.bind(path)
receiver.settimeout(seconds)
try:
    while b"READY=1" not in receiver.recv(4096).split(b"\n"):
        pass
except TimeoutError:
    sys.exit(1)
