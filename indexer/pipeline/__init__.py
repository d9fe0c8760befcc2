"""The pipeline: how one slice of a source becomes shards.

    plan ──────► listing ─────► shard ─────► tracker
    where to     pages, each    rows to      told at once,
    cut next     one checked    runs, runs   commit at the end
                                to shards

Rows travel once, from left to right: `listing` asks the store for pages where `plan` says, checks
each, and sends it through a bounded channel to `shard`, which joins neighbours, cuts them where
their keys say, and tells finished shards to the tracker. `commit` ends a job.

Invariants
  * A stage knows its neighbours through the channel between them and `protocols` alone.
  * No Python object for a single entry outlives the function that reads a page.
"""
