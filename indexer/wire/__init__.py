"""Wire: every JSON document that the command prints, the daemon speaks and its clients read.

    base.py        what all documents are, cursors, and texts of a certain form
    problems.py    what went wrong
    artifacts.py   projects, artifacts, versions, aliases, entries
    jobs.py        snapshots and what came of them; a look at a source
    retention.py   what becomes of garbage
    tracking.py    commits of an indexer elsewhere; health

Invariants
  * A name in a document never changes its meaning; names may be added.
  * What is sent to a daemon has no field that it does not know; what a daemon answers may have
    fields that a client does not know.
  * Text from buckets is exact; a path that is no UTF-8 is given in base64, under another name.
"""
