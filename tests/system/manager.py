#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A service manager as small as it can be: runs a command, keeps the descriptors that it sends with FDSTORE=1
(sd_notify(3)), and runs it again with those (sd_listen_fds(3)) when a signal has killed it.

    manager.py SOCKET COMMAND...

Prints a line for each thing that happens. Ends when the command has ended by itself.
"""
import array
import os
import signal
import socket
import sys


def spawn(command, notify_path, store):
    pid = os.fork()
    if pid:
        print("main", pid, flush=True)
        return pid
    # The kept descriptors become 3, 4, ...: by way of numbers that are out of the way.
    copies = [os.dup2(fd, 200 + i, inheritable=True) for i, (_, fd) in enumerate(store)]
    for i, fd in enumerate(copies):
        os.dup2(fd, 3 + i, inheritable=True)
        os.close(fd)
    os.closerange(3 + len(copies), 1000)
    os.setsid()
    env = dict(os.environ, NOTIFY_SOCKET=notify_path)
    if store:
        env.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(store)),
                   LISTEN_FDNAMES=":".join(name for name, _ in store))
    os.execve(command[0], command, env)


def receive(listener, store):
    message, control, _, _ = listener.recvmsg(4096, socket.CMSG_SPACE(4 * 16))
    fields = dict(line.split("=", 1) for line in message.decode().splitlines())
    fds = array.array("i")
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data)
    if "FDSTORE" in fields:
        for fd in fds:
            store.append((fields["FDNAME"], fd))
            print("stored", fields["FDNAME"], flush=True)
    elif "FDSTOREREMOVE" in fields:
        for name, fd in [entry for entry in store if entry[0] == fields["FDNAME"]]:
            store.remove((name, fd))
            os.close(fd)
    elif "READY" in fields:
        print("READY", flush=True)
    elif "EXTEND_TIMEOUT_USEC" in fields:
        print("more time", flush=True)


def main():
    notify_path, command = sys.argv[1], sys.argv[2:]
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(notify_path)
    listener.settimeout(0.1)
    store = []
    pid = spawn(command, notify_path, store)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
    while True:
        try:
            receive(listener, store)
        except socket.timeout:
            pass
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended and not os.WIFSIGNALED(status):
            print("ended", status, "kept", len(store), flush=True)
            break
        if ended:
            pid = spawn(command, notify_path, store)


main()
