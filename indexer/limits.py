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

SOURCES_MAX: Final = 1_000
"""Sources of one snapshot; they are listed one after the other."""

GLOB_CHARACTERS_MAX: Final = 1_024
GLOBS_CHARACTERS_MAX: Final = 8_192
"""How long one glob may be, as long as the longest key, and all of them together."""

IN_FLIGHT_DEFAULT: Final = 64
"""Requests under way at once. One process parses some 450 pages a second, which at 82 ms a
page is 37 in flight; more than 64 only queue."""

REQUESTS_PER_S_MAX: Final = 1_000_000

IN_FLIGHT_START: Final = 4
"""With so many a listing begins, and finds out whether more are faster: on a MinIO with two cores
they are not, and beginning with 8 costs the server a fifth more CPU, beginning with 16 more."""

IN_FLIGHT_MAX: Final = 1_024

LIMITERS_KEPT_MAX: Final = 256
"""Buckets of which it is remembered how many requests at once they take well."""

PAGE_ROWS: Final = 1_000
"""Keys asked for on a page: the most that S3 and MinIO give."""

S3_PAGE_BYTES_MAX: Final = 16 * MIB
"""A page of 1,000 keys of 1,024 bytes is 3 MB when each byte is URL-encoded; what stands beside a
key takes 300 to 800 bytes, and 10 kB are left for what servers add of their own."""

GCS_PAGE_ROWS: Final = 5_000
"""Objects asked for on a page of GCS: the most that it gives where access lists are not asked
for."""

GCS_PAGE_BYTES_MAX: Final = 64 * MIB
"""A page of 5,000 names of 1,024 bytes, each byte written as six characters, with some 400 bytes of
fields beside each, is 33 MB; a usual one is 1.3 MB."""

GCS_ANSWER_BYTES_MAX: Final = MIB
"""What is told of one object or bucket is some kilobytes: custom metadata is at most 8 KiB."""

SMALL_PAGE_ENTRIES: Final = 100
"""No server is known to cut pages of fewer entries without saying so (RustFS stops version
listings at 100)."""

VERSION_PAGES_MAX: Final = 1_000
"""Pages of one key's versions, a million of them, that are read to find the one of a moment."""

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

PARENT_SHARDS_KEPT_MAX: Final = 8
"""Shards of the version before that are kept while checksums are carried over from them: segments
that are listed at once meet different ones. One is some 2 MB as a table."""

ENRICH_PAGES_MAX: Final = 8
"""Pages whose objects are asked for or read at once, so that the slowest object of a page holds up
nothing else."""

TOUCHED_SLACK_S: Final = 1.0
"""Servers tell the time, and often that of objects, to the second: what was written within the
first one of a scan is not counted as written during it."""

READ_BYTES_MAX: Final = 64 * MIB
"""Bytes of objects in memory on their way into a checksum."""

READ_CHUNK_BYTES: Final = MIB
"""Bytes that are hashed at once in a thread: some 2 ms of MD5, where going to the thread and back
costs 0.1 ms."""

HASH_INLINE_BYTES_MAX: Final = 16 * 1024
"""So few bytes are hashed in less time than it takes to hand them to a thread."""

READ_RANGE_BYTES: Final = 8 * MIB
READ_AHEAD_MAX: Final = 4
"""An object of more than one range is read by ranges, so many of them at once."""

SLICE_PAGES_MAX: Final = 100_000
"""Pages of one slice of a job, some 100 million objects."""

THREADS_MAX: Final = 4
"""Threads that digest and encode shards and wait for the disk."""

REQUEST_ATTEMPTS_MAX: Final = 8
FIRST_CONTACT_ATTEMPTS_MAX: Final = 3
REQUEST_TIMEOUT_S: Final = 120.0
"""A page between many delete markers may take a server many seconds."""

CONNECT_TIMEOUT_S: Final = 10.0

KEEPALIVE_S: Final = 12.0
"""How long a connection to a store is kept idle; AWS closes them after 20 s."""

CLOCK_SKEW_S_MAX: Final = 300.0
"""S3 takes requests that were signed up to 15 minutes before or after its own time. Who is refused
without a word (a HEAD) and is so far off has most likely been refused for that."""

ERROR_BODY_BYTES_MAX: Final = 64 * 1024
"""What is read of an answer that tells of an error: S3's have some 500 bytes."""

BODY_PIECE_BYTES: Final = MIB // 4
"""Of an answer that is held in memory, so much is taken from its connection at once."""

HANDED_ON_BYTES_MAX: Final = MIB
"""Bytes of an object that a store hands on at once, and holds of it. From GCS so many have to
arrive within `REQUEST_TIMEOUT_S`, which a line of 70 kbit/s can do."""

READ_BUFFER_BYTES: Final = MIB // 4
"""Bytes buffered of a connection to S3; when there are twice as many the server has to wait."""

READ_BYTES_MIN: Final = 1_024
"""Bytes of an object that have to arrive within `REQUEST_TIMEOUT_S`; a server that sends fewer
hangs, drop by drop."""

RESPONSE_TIMEOUT_S: Final = CONNECT_TIMEOUT_S + 2 * REQUEST_TIMEOUT_S
"""A server that takes its time to begin may take as much again to send a page; a longest one of 3
MB then comes at 25 kB/s."""

TOKEN_TIMEOUT_S: Final = 10.0
"""How long a new access token may take; where there is no metadata server, asking it takes that."""

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

GARBAGE_GRACE_S_DEFAULT: Final = 86_400.0
"""How old what nobody refers to has to be before it is deleted, where nothing else is said: longer
than any job takes whose shards come from another machine. Those of this one are known."""

GARBAGE_BATCH_FILES: Final = 256
"""Files that one transaction deletes, while nobody commits: they take 20 to 70 ms."""

EXPIRED_BATCH_VERSIONS: Final = 256
"""Versions that one transaction lets go; they take some 50 ms."""

CLOCK_SLACK_S: Final = 60.0
"""How far the machine's clock may be set back while a job runs, without what it needs looking older
than the job."""

DURATION_S_MAX: Final = 100 * 366 * 86_400
"""Of a time to live, and of what garbage is left: longer is never, and no date."""

MANIFESTS_KEPT_MAX: Final = 4
"""Manifests that are kept as read, for whoever pages through a version. One of 10^9 entries has
61,000 shards, 20 MB."""

CATALOG_ROWS_MAX: Final = 1_000
"""Rows of one page of a catalog listing."""

NAMES_SUGGESTED_MAX: Final = 5
NAMES_COMPARED_MAX: Final = 500
"""Names that an error offers in place of a wrong one, and how many it looks through for them."""

LISTING_COST_HEADS: Final = 12
"""How many HEADs a page of a listing is worth: S3 and GCS charge 12.5 times as much for it, and it
takes a server some ten times as long."""

HEADS_AT_ONCE_MAX: Final = 64
SHARDS_VERIFIED_AT_ONCE: Final = 4
"""Objects of one shard that are asked for at once, and shards that are gone through side by side;
how many requests there may be in all is for the caps and limiters of the server to say."""

FILE_SHARDS_KEPT_MAX: Final = 8
"""Shards that a file system keeps of each version: one is some 4 MB with its paths."""

FILE_BLOCK_BYTES: Final = 4 * MIB
"""What an open file reads at once, and ahead of whoever reads it in order."""

FILE_SYSTEM_CLOSE_TIMEOUT_S: Final = 5.0
"""How long a process that ends waits for the connections of a file system to be closed."""

LINK_EXPIRES_S_DEFAULT: Final = 3_600
LINK_EXPIRES_S_MAX: Final = 604_800
"""How long a signed link holds: S3 and GCS take 7 days at most."""

FAULTS_SHOWN_MAX: Final = 20
"""Faults of one kind that are told one by one; of the others there is the number."""

PREVIEW_PATHS_MAX: Final = 20
"""Paths that a dry run shows of what would be kept, and of what would be left out."""

PROGRESS_INTERVAL_S: Final = 0.25
PROGRESS_LINE_INTERVAL_S: Final = 5.0

NOTES_CHARACTERS_MAX: Final = 100_000
DESCRIPTION_CHARACTERS_MAX: Final = 10_000

METADATA_BYTES_MAX: Final = 64 * 1024
"""Of a version's metadata, and of a run's configuration, as JSON: a page of 1,000 of them is 64 MB
at most."""

METADATA_DEPTH_MAX: Final = 64
"""Lists and mappings within each other; a thousand would be more than JSON readers follow."""

TAG_CHARACTERS_MAX: Final = 64
TAGS_MAX: Final = 100
"""Of one version."""

RUN_NAME_CHARACTERS_MAX: Final = 128
"""Of a run's name, of the kind of job that it is, and of what it uses a version as."""

LINEAGE_DEPTH_DEFAULT: Final = 10
LINEAGE_DEPTH_MAX: Final = 100
"""Runs between a version and the one whose lineage it is."""

LINEAGE_NODES_MAX: Final = 1_000
"""Versions and runs of one lineage; beyond that it says that it is not all."""

LINEAGE_LINKS_MAX: Final = 200
"""Runs that one version, and versions that one run, is followed to, the newest first, so that what
everybody uses does not crowd out all else."""

LINEAGE_CONFIRMATIONS_MAX: Final = 10
"""Runs that found one version unchanged, the newest of them: there may be one an hour."""

REQUEST_ID_CHARACTERS_MAX: Final = 128
"""Of the name that a client gives a commit, or a request by its Idempotency-Key."""

SIZE_BYTES_MAX: Final = 2**63 - 1
"""Sizes and counts are kept in 64 bits."""

PAGES_PER_TURN_MAX: Final = 1
"""Pages that all jobs together ask for or parse before the loop sees to its connections again. Each
takes 3 to 8 ms; where a turn may have four, 200 clients who ask how far ten jobs are wait three
times as long, and where it may have any number, seconds. The jobs are no slower for it."""

CLIENT_AGE_S_MAX: Final = 900.0
"""New jobs get a new client of S3, GCS or the web after that, which reads the user's files anew."""

CLIENTS_MAX: Final = 16
"""Clients of a kind that are kept for the next job; each has a connection pool of its own."""

JOBS_RUNNING_MAX: Final = 4
"""Jobs that list at once; more only share the same cores. The others wait in line."""

JOBS_MAX: Final = 64

JOBS_WAITING_MAX: Final = 1_000
"""Jobs in line; who asks for more is told to come again."""

JOBS_KEPT_MAX: Final = 1_000
"""Ended jobs that are still known; their versions are in the catalog."""

JOBS_STOP_TIMEOUT_S: Final = 20.0
"""How long jobs may take to end when the daemon stops: a commit that has begun is not given up."""

IDEMPOTENCY_KEYS_MAX: Final = 10_000
IDEMPOTENCY_KEY_AGE_S: Final = 86_400.0
"""A request that is repeated with its Idempotency-Key within a day is not done twice."""

PORT_DEFAULT: Final = 8765
PORT_MAX: Final = 65_535

CONNECTIONS_MAX: Final = 800
"""Connections of a daemon at once; a user's process may usually have 1,024 files open."""

EVENT_STREAMS_MAX: Final = 400
"""Followers of jobs at once, each of which keeps a connection."""

REQUEST_LINE_BYTES_MAX: Final = 16 * 1024
"""A key of 1,024 bytes is 3 kB when quoted, and may be there twice, as prefix and in a cursor."""

REQUEST_HEADER_BYTES_MAX: Final = 16 * 1024
REQUEST_HEADERS_MAX: Final = 64

REQUEST_BODY_BYTES_MAX: Final = 2 * MIB
"""An order is some kilobytes; the longest notes take 1.2 MB where every character is escaped."""

COMMIT_BODY_BYTES_MAX: Final = 64 * MIB
"""A root takes 200 bytes a shard and a tile 250 bytes: 10^9 objects are 27 MB."""

SHARD_BYTES_MAX: Final = 256 * MIB
"""65,536 rows of the longest keys and ETags there may be are 140 MB before compression."""

IDLE_TIMEOUT_S: Final = 30.0
"""A connection on which no request is being answered for so long is closed: one that is kept open,
and one that sends the head of a request letter by letter. Clients keep theirs for less."""

BODY_TIMEOUT_S: Final = 60.0
"""How long a body may take to arrive, from its request's head to its last byte; a shard of usual
size takes a slow line of 1 Mbit/s some 5 s."""

BODIES_BYTES_MAX: Final = 512 * MIB
"""Bodies that are being read and worked on, all together."""

SEND_TIMEOUT_S: Final = 60.0
"""How long a client may take to read an answer."""

UNAVAILABLE_RETRY_AFTER_S: Final = 5.0
"""When to ask again what a daemon could not answer just now."""

SERVER_STOP_TIMEOUT_S: Final = 10.0
"""How long requests that are being answered may take to end when the daemon stops."""

LAG_INTERVAL_S: Final = 0.02
"""How often the event loop is asked how far it is behind."""

ANSWER_TIMEOUT_S: Final = 120.0
"""How long one request may take to be answered, event streams apart."""

EVENT_HEARTBEAT_S: Final = 15.0
EVENT_SEND_TIMEOUT_S: Final = 10.0
"""A follower that does not take an event within this is let go; it may come again."""

EVENT_INTERVAL_S: Final = 0.25
"""Followers hear of a job this often at most."""

PAGE_RESULTS_DEFAULT: Final = 100
PAGE_RESULTS_MAX: Final = 1_000
"""Results on one page of the HTTP interface."""

CURSOR_CHARACTERS_MAX: Final = 4_096

DISK_FREE_BYTES_MIN: Final = 64 * MIB
"""With less than that free, the daemon says that it is not ready: a snapshot may not fit."""

DAEMON_REQUESTS_MAX: Final = 8
"""Requests of one client to a daemon at once: each shard being told takes one, a commit another."""

JOB_CANCEL_TIMEOUT_S: Final = 5.0
"""How long a client that is interrupted tries to tell the daemon so."""

DAEMON_ATTEMPTS_MAX: Final = 5
DAEMON_TIMEOUT_S: Final = 150.0
"""A client waits for longer than a daemon takes for an answer."""

FOLDER_ROWS_WAITING_MAX: Final = 10_000
"""Rows of a folder index that wait to be written: a shard of the deepest keys has 30 million."""

FOLDER_PAGE_SHARDS_MAX: Final = 8
"""Shards that one page of a folder reads, so that files scattered between large folders do not
make it a pass over the version: a shard of mean size takes some 10 ms, the largest 40."""

FOLDER_INDEX_WAIT_S_MAX: Final = 60.0
"""How long a page waits while another one's folder index is made anew, at some million entries a
second."""

FILE_THREADS_MAX: Final = 16
"""Threads that wait for file systems: as many answers of a file server are under way at once."""

TREE_NAMES_HELD_MAX: Final = 1_000_000
"""Names of folders that a store which is walked holds, in all; each is some 80 bytes."""

TREE_FOLDERS_AT_ONCE: Final = 16
"""Folders that are read side by side, which hides the time that a file server takes to answer."""

TREE_WINDOW_NAMES: Final = 10_000
TREE_WINDOW_NAMES_MAX: Final = 300_000
"""Names that are taken from a folder in one pass: first so many, then, as it is a large one, more.
A folder of 10 million takes 34 passes, of some seconds each."""

TREE_WINDOW_SLACK: Final = 1.25
"""How many times the names of a window are held while it is made, between two sorts."""

TREE_NAMES_CACHED_MAX: Final = 400_000

PATH_BYTES_MAX: Final = 4_095
"""Of a path that a system call takes, as on Linux, where it is 4,096 with its last NUL."""

LEFT_OUT_COUNTED_MAX: Final = 100_000
"""Links and special files that are counted; each takes some 70 bytes."""

FILES_PER_CALL: Final = 128
"""Files of a page that one thread asks for: where each answer takes a file server 0.5 ms, a page of
1,000 takes 64 ms. Of files at hand, 128 take 0.3 ms, beside which the way to a thread is little."""

HASH_CHUNK_BYTES: Final = 256 * 1024
"""Bytes that are read and then hashed, while they are still in the processor's cache."""

HASH_BATCH_FILES_MAX: Final = 64
HASH_BATCH_BYTES_MAX: Final = 8 * MIB
"""Files that are hashed in one go of a thread: a file of 10 kB takes some 50 µs, as does the way to
a thread and back."""

HASH_LONG_S_MIN: Final = 70e-6
"""Files that take longer than this to be hashed, in the mean, are hashed on every processor. Of 100
kB and with MD5, which takes 170 µs, two threads hash 1.5 times as many as one; of 10 kB they hash
fewer, as each has more Python to run than bytes to hash."""

HASH_SLICE_BYTES_MAX: Final = 128 * MIB
"""A thread hashes so much, some 200 ms of it, before it asks whether it is still wanted."""

FILE_CALLS_AT_ONCE_MAX: Final = 64
"""Calls of one kind that wait for a file server at once."""

HTTP_PAGE_ENTRIES_MAX: Final = 200_000
HTTP_PAGE_BYTES_MAX: Final = 64 * MIB
"""Of one index page, which is one folder: nginx writes some 100 bytes an entry, Apache's tables
300, and it is held in memory while it is read."""

HTTP_NAMES_CACHED_MAX: Final = 2 * HTTP_PAGE_ENTRIES_MAX
"""Names on index pages that one source keeps, so that a folder of many pages is read once."""

HTTP_FOLDERS_MAX: Final = 100_000
"""Index pages of one listing: at 10 ms each, a quarter of an hour of nothing but folders."""

HTTP_DEPTH_MAX: Final = 32
"""Folders within each other. Linux follows 40 links before it gives up, so that a link to a folder
above it, which has no end, is an error and not forty copies of everything."""

HTTP_PATH_BYTES_MAX: Final = 4_096
"""The longest path of Linux. Quoted it may have three times as many, and servers take lines of
8,000 and more."""

HTTP_REDIRECTS_MAX: Final = 5
"""A slash is added, a folder moved below: no server needs more for what it has."""

HTTP_CHUNK_BYTES: Final = MIB // 4
"""Of an object that is read, so much has to come within `REQUEST_TIMEOUT_S`: 2 kB/s at least."""

URL_LIST_BYTES_MAX: Final = 64 * MIB
URL_LIST_URLS_MAX: Final = 200_000
"""Of a list of URLs, which is sorted in memory: some 400 bytes each."""

DOWNLOAD_SMALL_BYTES_MAX: Final = MIB
"""An object of up to so many bytes is held in memory, and written together with others: a thread
takes some 60 µs for a file, as much as the way to a thread and back."""

DOWNLOAD_RANGE_BYTES: Final = 8 * MIB
"""An object of more is fetched by ranges; of one that was under way, so much is fetched again."""

DOWNLOAD_RANGES_MAX: Final = 16
"""Ranges of one object under way at once; one connection to S3 gives some 80 MB/s."""

DOWNLOAD_OBJECTS_MAX: Final = 32
"""Objects that are being written beyond the requests that may be under way."""

DOWNLOAD_BYTES_MAX: Final = 64 * MIB
DOWNLOAD_WRITE_BYTES: Final = MIB
"""Bytes in memory on their way to the disk, and those of a larger object that are written at once:
0.3 ms, beside which the way to a thread is little."""

DOWNLOAD_THREADS_MAX: Final = 8
"""Threads that write and hash: some are on their way to the disk while others hash."""

DOWNLOAD_BATCH_ENTRIES: Final = 1_000
"""Entries whose files are looked for in one go of a thread: some 10 ms."""

DOWNLOAD_TOLD_MAX: Final = 1_000
"""Objects that could not be had, and files not named as their entries, which are told one by one;
all are counted."""

DOWNLOAD_UNAVAILABLE_MAX: Final = 100
"""Objects in a row that a server did not give, each tried several times: it is gone."""

TARGET_FOLDERS_OPEN_MAX: Final = 64  # of a download; entries come folder by folder

CACHE_BYTES_MAX_DEFAULT: Final = 10 * 1024 * MIB
CACHE_OBJECT_SHARE: Final = 8  # an object of more than an eighth of the cache is not kept

QUERY_TIMEOUT_S_DEFAULT: Final = 30
QUERY_TIMEOUT_S_MAX: Final = 100
"""How long a query may take. A pass over 2 million entries takes some 2 s."""

QUERY_START_S: Final = 10.0
QUERY_STOP_S: Final = 3.0
"""How long its process may take to start beside that, where half a second is usual, and to end by
itself when its time is up."""

QUERY_MEMORY_MIB_DEFAULT: Final = 1_024
QUERY_MEMORY_MIB_MIN: Final = 128
QUERY_MEMORY_MIB_MAX: Final = 1_024 * 1_024
"""Memory of DuckDB for joins, sorts and groups; nothing is spilled to a disk."""

QUERY_MEMORY_TIMES: Final = 2
QUERY_MEMORY_SLACK_BYTES: Final = 1_024 * MIB
"""What a query's process may map beyond what it does at its start: as much again as DuckDB has, and
this, for shards, tables and results on their way, stacks and arenas."""

QUERY_ROWS_DEFAULT: Final = 1_000_000
QUERY_ROWS_MAX: Final = 1_000_000_000
QUERY_BATCH_ROWS: Final = 10_000
QUERY_RESULT_BYTES_MAX: Final = 256 * MIB
ANSWER_BYTES_MAX: Final = QUERY_RESULT_BYTES_MAX + 16 * MIB
"""Rows of a result, those after which its size is looked at, and its bytes in memory; and as they
are sent. A million rows of all columns of entries are some 300 MB, of three columns 80."""

QUERY_THREADS: Final = 2
"""Threads of DuckDB, and threads that read and verify shards for it: with two, 2 million entries
are verified in 0.7 s, with three no sooner on two cores."""

QUERY_SHARDS_AHEAD_MAX: Final = 4
"""Shards that are read before DuckDB asks for them, in one pass; one is some 2 MB as a table."""

QUERIES_AT_ONCE_MAX: Final = 2
"""Each has a process of its own, and two cores are busy with two."""

QUERY_CHARACTERS_MAX: Final = 100_000
QUERY_VERSIONS_MAX: Final = 8
TABLES_PER_QUERY_MAX: Final = 16
TABLE_KEYS_MAX: Final = 16
"""What one query names, and columns of the key by which two tables are compared."""

TABLE_BYTES_MAX: Final = 256 * MIB
"""Of a table in an artifact, as it is stored and when it is unpacked: some 5 million rows."""

DIFF_SHARDS_AT_ONCE: Final = 8
"""Shards of two versions that are read and compared at once: one of mean size is some 2 MB as a
table, the largest 20, and is held twice while it is."""

DIFF_HELD_BYTES_MAX: Final = 32 * MIB
"""Changes that are held of a diff, some 100,000 of usual keys. Beyond that pages read shards anew;
and where what was added and removed is more by itself, renames are not looked for."""

DIFF_PAGE_SHARDS_MAX: Final = 64
"""Shards that one page of a diff reads where changes are not held, some half a second of it."""

DIFFS_KEPT_MAX: Final = 4
DIFFS_AT_ONCE_MAX: Final = 2
"""Diffs that are kept as found for whoever pages through them, and that are found at once."""

assert OBJECTS_MAX_DEFAULT < OBJECTS_MAX
assert DOWNLOAD_SMALL_BYTES_MAX < DOWNLOAD_RANGE_BYTES
assert DOWNLOAD_RANGES_MAX * 2 * DOWNLOAD_WRITE_BYTES <= DOWNLOAD_BYTES_MAX

assert QUERY_TIMEOUT_S_DEFAULT <= QUERY_TIMEOUT_S_MAX
assert QUERY_START_S + QUERY_TIMEOUT_S_MAX + 2 * QUERY_STOP_S < ANSWER_TIMEOUT_S
assert QUERY_MEMORY_MIB_MIN <= QUERY_MEMORY_MIB_DEFAULT <= QUERY_MEMORY_MIB_MAX
assert QUERY_ROWS_DEFAULT <= QUERY_ROWS_MAX
assert SHARD_BYTES_MAX <= ANSWER_BYTES_MAX
assert IN_FLIGHT_START <= IN_FLIGHT_DEFAULT <= IN_FLIGHT_MAX
assert PAGES_BUFFERED_BYTES_MAX < ROWS_IN_MEMORY_BYTES_MAX
assert DATA_FOLDER_LOCK_POLL_S < DATABASE_BUSY_TIMEOUT_S
assert 2 * READ_BUFFER_BYTES <= HANDED_ON_BYTES_MAX
assert EVENT_STREAMS_MAX < CONNECTIONS_MAX
assert COMMIT_BODY_BYTES_MAX < SHARD_BYTES_MAX < BODIES_BYTES_MAX
assert DAEMON_REQUESTS_MAX > SEALS_IN_FLIGHT_MAX
assert DATABASE_BUSY_TIMEOUT_S < ANSWER_TIMEOUT_S < DAEMON_TIMEOUT_S
assert JOBS_RUNNING_MAX <= JOBS_MAX
assert PAGE_RESULTS_MAX <= CATALOG_ROWS_MAX
assert LINEAGE_CONFIRMATIONS_MAX <= LINEAGE_LINKS_MAX < LINEAGE_NODES_MAX <= CATALOG_ROWS_MAX
assert LINEAGE_DEPTH_DEFAULT <= LINEAGE_DEPTH_MAX
assert FOLDER_PAGE_SHARDS_MAX > 1
assert FOLDER_INDEX_WAIT_S_MAX < ANSWER_TIMEOUT_S
assert (
    TREE_NAMES_CACHED_MAX
    + TREE_WINDOW_SLACK * (TREE_FOLDERS_AT_ONCE * TREE_WINDOW_NAMES + TREE_WINDOW_NAMES_MAX)
    <= TREE_NAMES_HELD_MAX
)
assert READ_AHEAD_MAX * READ_RANGE_BYTES <= READ_BYTES_MAX
assert HASH_INLINE_BYTES_MAX < HANDED_ON_BYTES_MAX <= READ_CHUNK_BYTES <= READ_RANGE_BYTES
assert HASH_CHUNK_BYTES <= HASH_BATCH_BYTES_MAX <= HASH_SLICE_BYTES_MAX
assert HTTP_PAGE_ENTRIES_MAX <= HTTP_NAMES_CACHED_MAX
assert HTTP_CHUNK_BYTES <= HANDED_ON_BYTES_MAX
assert 1 < DIFF_SHARDS_AT_ONCE <= DIFF_PAGE_SHARDS_MAX
