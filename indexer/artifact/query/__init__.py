"""SQL over versions and the tables in them, each query in a process that can open nothing.

    here                              the query's process
    queries ──► sandbox ◄─ messages ─► pipe ──► locked ──► encoded
    how many    starts and             asks     answers    the rows
    at once     ends it                         by SQL     as sent

`locked` makes tables of entries (`columns`), of their bytes (`tables`), of both joined (`media`)
and of two states of one (`table_changes`), where the statement names them (`named`). `results` are
rows as Python has them.
"""
