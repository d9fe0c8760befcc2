"""The reader's side of a version: what whoever uses it may ask of it.

    handle                       a version that was opened: every verb, each a few lines
    diff  download  query  verify     what takes more than one module
    files  links                 entries by path and their bytes; URLs of their bytes
    found  recorded              what a store says of an object now, beside what was recorded;
                                 its bytes, or that
    entries  originals           rows, shard by shard and verified; the objects themselves, by pin

Invariants
  * A version is asked of a `Workspace`, be it a data folder or a daemon.
  * Bytes of another state than the recorded one are never taken for an entry's.
"""
