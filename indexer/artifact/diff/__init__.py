"""What changed between two versions.

    manifests ──► spans ──► compare ──► renames ──► tallies
    what each     shards    added,      gone and    counted by
    one holds     to read   removed,    new ones    kind and
                  at all    changed     paired      by folder

`diff` leads through that; `kept` has the diffs that were asked for last.
"""
