#!/usr/bin/env python3
"""A terminal for a program, and somebody in front of it.

    terminal.py STEP.. -- PROGRAM ARGUMENT..

Steps: `see:TEXT` awaits that a text stands on the screen (blanks do not count), `key:TEXT` types
one, `size:COLUMNSxROWS` resizes and awaits that the screen is cleared for it, `both:SIZE:TEXT`
resizes and types in the same moment, `end:PID` ends a process. The program has to end by itself after the last step; its exit code is this one's. What it
wrote goes to standard output.
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
SEQUENCE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])")


class Screen:
    """What stands on the screen: it knows how to move, to clear, and to write."""

    def __init__(self):
        self.cells, self.row, self.column, self.rest = {}, 1, 1, b""
        self.clears = 0

    def take(self, part):
        self.rest += part
        # The last character or sequence may not be whole yet.
        text = self.rest.decode(errors="ignore")
        place = 0
        while place < len(text):
            found = SEQUENCE.match(text, place)
            if found:
                self.obey(*found.groups())
                place = found.end()
            elif text[place] == "\x1b" and len(text) - place < 32:
                break
            else:
                self.cells[self.row, self.column] = text[place]
                self.column += 1
                place += 1
        self.rest = text[place:].encode() + self.rest[len(text.encode()) :]

    def obey(self, numbers, verb):
        if verb == "H":
            self.row, self.column = map(int, (numbers or "1;1").split(";"))
        elif verb == "J" or numbers == "?1049":
            self.cells = {}
            self.clears += 1

    def text(self):
        cells = (letter for _, letter in sorted(self.cells.items()))
        return "".join(letter for letter in cells if not letter.isspace())


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
    written, screen = b"", Screen()

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
        screen.take(part)
        return part != b""

    def await_until(is_there, step):
        while not is_there():
            if not read():
                sys.stdout.buffer.write(written)
                sys.exit("terminal.py: it ended before " + step)

    for step in steps:
        verb, _, word = step.partition(":")
        if verb == "see":
            wanted = "".join(word.split())
            await_until(lambda: wanted in screen.text(), step)
        elif verb == "key":
            os.write(terminal, word.encode())
        elif verb == "size":
            before = screen.clears
            resize(terminal, word)
            await_until(lambda: screen.clears != before, step)
        elif verb == "both":
            size, _, keys = word.partition(":")
            resize(terminal, size)
            os.write(terminal, keys.encode())
        elif verb == "end":
            os.kill(int(word), signal.SIGKILL)
    while read():
        pass
    sys.stdout.buffer.write(written)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


main()
