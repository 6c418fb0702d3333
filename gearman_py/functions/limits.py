"""Bounds that hold for pictures of every kind."""

# Chunks, segments or blocks of a file. Programs write one for each 2 KB or more; a stranger's file
# can hold millions, each of which costs a microsecond or more.
MAX_PIECES = 100_000
