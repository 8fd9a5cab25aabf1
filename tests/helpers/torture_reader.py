# SPDX-License-Identifier: MIT
"""torture_reader.py FILE OUT: reads FILE to its end; OUT gets its bytes, then OUT.end how it ended."""
import errno
import os
import sys

with open(sys.argv[2], "wb", buffering=0) as out:
    try:
        fd = os.open(sys.argv[1], os.O_RDONLY)
        while True:
            part = os.read(fd, 65536)
            if not part:
                end = "EOF"
                break
            out.write(part)
    except OSError as e:
        end = errno.errorcode[e.errno]
with open(sys.argv[2] + ".end", "w") as f:
    f.write(end)
