#!/usr/bin/env python3
"""A terminal for a program, and somebody in front of it.

    terminal.py STEP.. -- PROGRAM ARGUMENT..

Steps: `see:TEXT` awaits a text (blanks do not count: they are not always sent), `key:TEXT` types
one, `size:COLUMNSxROWS` resizes, and whatever is shown is drawn anew, `end:PID` ends a process. The program has to end by itself after the
last step; its exit code is this one's. What it wrote goes to standard output.
"""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time

PATIENCE_S = 60


SEQUENCE = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\s")


def resize(terminal, size):
    columns, rows = map(int, size.split("x"))
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def main():
    split = sys.argv.index("--")
    steps, command = sys.argv[1:split], sys.argv[split + 1 :]
    child, terminal = pty.fork()
    if child == 0:
        os.environ["TERM"] = "xterm-256color"
        os.execv(command[0], command)
    resize(terminal, "80x24")
    deadline = time.monotonic() + PATIENCE_S
    written, seen = b"", 0

    def read():
        """False when the program has closed its terminal."""
        nonlocal written
        if not select.select([terminal], [], [], max(0, deadline - time.monotonic()))[0]:
            sys.stdout.buffer.write(written)
            os.kill(child, signal.SIGKILL)
            sys.exit("terminal.py: what was awaited did not come: " + " ".join(steps))
        try:
            part = os.read(terminal, 65536)
        except OSError:
            part = b""
        written += part
        return part != b""

    for step in steps:
        verb, _, word = step.partition(":")
        if verb == "see":
            wanted = SEQUENCE.sub(b"", word.encode())
            while wanted not in SEQUENCE.sub(b"", written[seen:]):
                if not read():
                    sys.stdout.buffer.write(written)
                    sys.exit("terminal.py: it ended before " + step)
        elif verb == "key":
            os.write(terminal, word.encode())
        elif verb == "size":
            seen = len(written)
            resize(terminal, word)
        elif verb == "end":
            os.kill(int(word), signal.SIGKILL)
    while read():
        pass
    sys.stdout.buffer.write(written)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


main()
