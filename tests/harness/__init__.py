# SPDX-License-Identifier: MIT
"""Drives real rwwfs daemons on real mounts.

sandbox   a private mount namespace with a usable /dev/fuse: nothing a test mounts outlives pytest
procs     waiting for conditions, what the kernel says about a process, ending processes
agent     programs under test: forked processes that run calls on command, and files opened in them
mount     the daemon: start, readiness, teardown that asserts, rescue of a stuck mount
server    rww-httpd, and a client; webservers: other people's, and curl
tools     C helpers, loop devices, running real programs
"""
