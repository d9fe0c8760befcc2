"""How work is run: slots, attempts, threads and time, knowing nothing of what the work is.

    errors      what can go wrong here, and `single_error` to raise one error out of a task group
    clock       the time, passed in: `Clock`, `SystemClock`
    channel     a bounded way from one stage to the next, whose end means "complete"
    slots       a counted, fair permission to run; pool, threads, limiter and executors stand on it
    pool        tasks of one owner, at most so many at a time
    threads     blocking calls on a few threads
    control     the pure rule by which a limit of concurrency moves
    limiter     requests to one server, at most as many at a time as `control` finds it takes
    retry       the only place that tries again
    executor    the call that carries work elsewhere: bytes in, bytes out
    local       an executor on this event loop
    simulated   virtual time, and an executor and a server that fail on purpose

Nothing is imported here: who needs a module names it.
"""
