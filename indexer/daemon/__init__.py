"""The daemon: snapshots triggered and watched over HTTP, what was recorded, and the tracking API.

    server.py        listens, keeps slow and vanished clients from costing anything, stops
    dispatch.py      one request: found, read, checked, answered, counted
    operation.py     what an operation is: method, path, what it takes and gives
    operations/      the operations themselves, by subject
    openapi.py       the operations as an OpenAPI document; pages.py shows it to people
    events.py        a job's events as a stream
    metrics.py       what is counted, for Prometheus
    health.py        whether the parts that are needed work

Invariants
  * What the daemon does is in `operations/`; the OpenAPI document is made of the same table, so
    that nothing is served that it does not tell.
  * Every failure is one RFC 9457 problem, and has changed nothing.
  * The daemon knows the rest of the indexer through `workspace`, `service` and `protocols`.
"""
