# SPDX-License-Identifier: MIT
#
# snapshots.py DIR [SERVER]: what readers of the control files in DIR see of texts that change all the time: each of
# them one text, whole, however they read it. With SERVER, which is killed: also those who were in the middle of one.

import errno
import os
import shutil
import signal
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families

directory = sys.argv[1]


def open_file(name):
    return os.open(os.path.join(directory, name), os.O_RDONLY)


def check(name, text):
    """It is what the file shows at one moment."""
    if name == "metrics":
        values = {sample.name: sample.value for family in text_string_to_metric_families(text) for sample in family.samples}
        assert values["uzram_stored_pages"] <= values["uzram_disksize_bytes"] / 4096, values
        assert text.endswith("\n# EOF\n"), text[-100:]
    else:
        numbers = [int(word) for word in text.split()]
        assert len(numbers) == 9 and numbers[0] % 4096 == 0 and text.count("\n") == 1, text


def read_on(file, size, text=b""):
    """The rest, in pieces of size bytes."""
    while piece := os.read(file, size):
        text += piece
    return text


def check_pieces():
    for name, size, times in ("metrics", 97, 100), ("metrics", 512, 100), ("mm_stat", 1, 300), ("mm_stat", 5, 300):
        for _ in range(times):
            file = open_file(name)
            check(name, read_on(file, size).decode())
            os.close(file)


def check_rewind():
    """As in sysfs: who reads from the start sees what there is now."""
    file = open_file("metrics")
    old = read_on(file, 4096)
    for _ in range(1000):
        os.lseek(file, 0, os.SEEK_SET)
        new = read_on(file, 4096)
        check("metrics", new.decode())
        if new != old:
            break
    else:
        sys.exit("a reader that starts again and again always reads the same")
    # What was opened is what is read, also from the middle.
    other = open_file("metrics")
    os.lseek(other, 100, os.SEEK_SET)
    assert read_on(other, 4096).endswith(b"\n# EOF\n")
    os.close(file)
    os.close(other)


def check_copies():
    """Copiers that go by the size, or have the kernel copy."""
    copy = os.path.join(os.environ["T"], "copy")
    size = os.stat(os.path.join(directory, "metrics")).st_size
    for _ in range(20):
        shutil.copyfile(os.path.join(directory, "metrics"), copy)
        with open(copy, encoding="ascii") as file:
            text = file.read()
        check("metrics", text)
        assert len(text) <= size, size


def read_rest(file, text):
    """The rest of its text, or a clear error; and then all of another text. True: it was the rest."""
    try:
        check("metrics", read_on(file, 4096, text).decode())
        rest = True
    except OSError as error:
        assert error.errno == errno.ESTALE, error
        rest = False
    os.lseek(file, 0, os.SEEK_SET)
    check("metrics", read_on(file, 512).decode())
    return rest


def check_crowd():
    """More readers than there is room for: none gets the rest of another's text, and idle ones cost nothing."""
    idle = [open_file("mm_stat") for _ in range(200)]
    readers = [open_file("metrics") for _ in range(100)]
    texts = [os.read(file, 100) for file in readers]
    # The last one has its text; the first one's was given away, if there is a bound to how many are kept.
    assert read_rest(readers[-1], texts[-1]), "the last of many readers has lost its text"
    assert not read_rest(readers[0], texts[0]), "the first of many readers still had its text"
    for file, text in zip(readers[1:-1], texts[1:-1]):
        read_rest(file, text)
    for file in idle:
        check("mm_stat", read_on(file, 10).decode())
    for file in idle + readers:
        os.close(file)


def restarts():
    file = open_file("metrics")
    text = read_on(file, 4096).decode()
    os.close(file)
    return next(line for line in text.splitlines() if line.startswith("uzram_server_restarts_total"))


def check_next_server(server):
    file = open_file("metrics")
    text = os.read(file, 100)
    untouched = open_file("mm_stat")
    finished = open_file("mm_stat")
    os.read(finished, 4096)
    before = restarts()
    os.kill(server, signal.SIGKILL)
    while restarts() == before:
        pass
    assert not read_rest(file, text), "another server had the rest of a text"
    check("mm_stat", read_on(untouched, 10).decode())
    assert os.read(finished, 4096) == b"", "a reader at the end, such as cat, is told that there is more"
    # Handles that the next server gives are other ones: the old ones are in nobody's way.
    again = open_file("metrics")
    text = os.read(again, 100)
    os.close(file)
    os.close(untouched)
    assert read_rest(again, text), "a new reader has lost its text"
    os.close(again)


if len(sys.argv) > 2:
    check_next_server(int(sys.argv[2]))
else:
    check_pieces()
    check_rewind()
    check_copies()
    check_crowd()
