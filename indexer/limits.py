"""Every bound of the indexer by name, with what it was derived from.

Invariants
  * A number that bounds something stands here, or beside the format that it belongs to (the cut
    rule in `keyspace`), and nowhere else.
  * Relations between bounds are asserted below, so that changing one alone fails at import.
"""

from __future__ import annotations

from typing import Final

MIB: Final = 1024 * 1024

OBJECTS_MAX_DEFAULT: Final = 10_000
"""`max_objects` where nothing else is said."""

OBJECTS_MAX: Final = 10**12
"""No bucket holds more; a larger limit is a slip of the hand."""

IN_FLIGHT_DEFAULT: Final = 64
"""List requests under way at once. One process parses some 450 pages a second, which at 82 ms a
page is 37 in flight; more than 64 only queue."""

IN_FLIGHT_START: Final = 8
"""With so many a listing begins, and finds out whether more are faster: on a MinIO with two cores
they are not, and beginning with 16 takes 10 % longer."""

IN_FLIGHT_MAX: Final = 1_024

PAGE_ROWS: Final = 1_000
"""Keys asked for on a page: the most that S3 and MinIO give."""

SMALL_PAGE_ENTRIES: Final = 100
"""No server is known to cut pages of fewer entries without saying so (RustFS stops version
listings at 100)."""

EMPTY_PAGES_MAX: Final = 1_000
"""Pages without a key that a server may send in a row; more is a server that goes in circles."""

PAGES_BUFFERED_MAX: Final = 64
PAGES_BUFFERED_BYTES_MAX: Final = 8 * MIB
"""Pages listed and not yet sharded; beyond that listing waits."""

ROWS_IN_MEMORY_BYTES_MAX: Final = 32 * MIB
"""Rows that wait for a cut on both sides; beyond that the largest fragments go to the content
store. A page of 1,000 rows is some 100 kB, so this is a good 600,000 rows."""

SEALS_IN_FLIGHT_MAX: Final = 3
"""Shards being digested, encoded and told to the tracker at once. A shard of 65,536 rows of long
keys is some 20 MB as a table and its Parquet; two cores are busy with two, the third is on its way
to the disk."""

SLICE_PAGES_MAX: Final = 100_000
"""Pages of one slice of a job, some 100 million objects."""

THREADS_MAX: Final = 4
"""Threads that digest and encode shards and wait for the disk."""

REQUEST_ATTEMPTS_MAX: Final = 8
FIRST_CONTACT_ATTEMPTS_MAX: Final = 3
REQUEST_TIMEOUT_S: Final = 120.0
"""A page between many delete markers may take a server many seconds."""

CONNECT_TIMEOUT_S: Final = 10.0

COMMIT_ATTEMPTS_MAX: Final = 20
"""A commit that lost the race reads again and tries again; each try is some milliseconds."""

DATABASE_BUSY_TIMEOUT_S: Final = 60.0
"""How long a process waits for another one's transaction on the catalog."""

DATABASE_READERS_MAX: Final = 4
"""Reads of the catalog at once; each has a connection and a thread. Writes have one of each."""

DATA_FOLDER_THREADS: Final = SEALS_IN_FLIGHT_MAX + 1
"""File operations and checks of shards at once: those of every seal under way, and a commit's."""

DATA_FOLDER_LOCK_POLL_S: Final = 0.02
"""How often a process asks for a folder that another one is making; that takes some 100 ms."""

TEMPORARY_FILE_AGE_S: Final = 86_400.0
"""A half-written file of this age belongs to nobody any more."""

CATALOG_ROWS_MAX: Final = 1_000
"""Rows of one page of a catalog listing."""

NAMES_SUGGESTED_MAX: Final = 5
NAMES_COMPARED_MAX: Final = 500
"""Names that an error offers in place of a wrong one, and how many it looks through for them."""

PROGRESS_INTERVAL_S: Final = 0.25
PROGRESS_LINE_INTERVAL_S: Final = 5.0

NOTES_CHARACTERS_MAX: Final = 100_000

assert OBJECTS_MAX_DEFAULT < OBJECTS_MAX
assert IN_FLIGHT_START <= IN_FLIGHT_DEFAULT <= IN_FLIGHT_MAX
assert PAGES_BUFFERED_BYTES_MAX < ROWS_IN_MEMORY_BYTES_MAX
assert DATA_FOLDER_LOCK_POLL_S < DATABASE_BUSY_TIMEOUT_S
