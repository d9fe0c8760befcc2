"""The embedded catalog: projects, artifacts, versions, aliases and runs in one data folder.

    DIR/format                    what wrote the folder
    DIR/catalog.db                SQLite: everything that has a name              (database, schema)
    DIR/shards/ab/ab….parquet     rows, named by their digest                     (folder)
    DIR/blobs/cd/cd…              roots of manifests, tilings, named by their hash
    DIR/folders/ab/ab….db         SQLite: a version's folders, by its manifest's digest  (folders)
    DIR/leases/6f…                one for each job that runs                  (leases)

`catalog.Catalog` opens it and hands out its parts: `tracker` takes shards and commits, `reader`
answers what people ask, `folders` shows what is in a version's folders, `labels` moves aliases and
writes what is said of versions, `runs` starts and ends runs and records what they use (`lineage`
follows that), `retention` lets versions go, `garbage` deletes what they needed, `leases` tell which
jobs run, `facts` keeps what servers honour, `content` reads what is named by a hash.

Invariants
  * Files are written and on the disk before the transaction that names them, and deleted after the
    one in which the last version that names them goes; what no version names harms nobody.
  * Indexes of folders are derived from shards: one that is gone or damaged is made anew.
  * All that a commit changes, it changes in one transaction.
  * Any number of processes may use one folder at the same time.
"""
