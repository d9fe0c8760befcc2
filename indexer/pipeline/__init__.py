"""The pipeline: how one slice of a source becomes shards.

    plan ──────► listing ─────► enrich ──────► shard ─────► tracker
    where to     pages, each    what was not   rows to      told at once,
    cut next     one checked    listed         runs, runs   commit at the end
                                               to shards

Rows travel once, from left to right, through bounded channels: `listing` asks the store for pages
where `plan` says, and checks each; `enrich`, where anything is wanted that a listing does not tell,
asks for objects, reads them, or carries checksums over; `shard` joins neighbours, cuts them where
their keys say, and tells finished shards to the tracker. `commit` ends a job.

Invariants
  * A stage knows its neighbours through the channel between them and `protocols` alone.
  * No Python object for a single entry outlives the function that reads a page.
"""
