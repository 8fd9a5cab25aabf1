# SPDX-License-Identifier: MIT
"""Measures a mount against its own store, side by side.

place      where a run happens: folders, mounts, helper programs, and their end
figures    medians and spreads, rows, and the table
data       throughput of writers and readers
waiting    held reads: wake-up, memory, many files, fairness to others
metadata   names and inodes, against libfuse's passthrough_ll
http       rww-httpd, against nginx and a Go server
servers    those three, running
"""
