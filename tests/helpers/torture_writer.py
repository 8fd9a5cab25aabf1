# SPDX-License-Identifier: MIT
"""Writes a file in uneven pieces and keeps a journal elsewhere.

torture_writer.py FILE JOURNAL SEED PIECES: the journal gets "open", "wrote N" before each piece that
makes N bytes in all, "closing" and "closed", each with a write(2) of its own.
"""
import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from harness.data import pattern  # noqa: E402

path, journal_path, seed, pieces = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
rng = random.Random(seed)
journal = os.open(journal_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def note(text):
    os.write(journal, text.encode() + b"\n")


fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
note("open")
total = 0
for _ in range(pieces):
    size = rng.choice((1, 100, 4096, 5000, 70000))
    data = pattern(size, total + seed)
    note(f"wrote {total + size}")
    while data:
        data = data[os.write(fd, data):]
    total += size
    time.sleep(rng.random() * 0.02)  # a producer's pace
note("closing")
os.close(fd)
note("closed")
