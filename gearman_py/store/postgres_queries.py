"""What PostgreSQL is asked.

In all queries, ``{jobs}`` is the table of the jobs, and ``{shelves}`` that of the shelves.
"""

SETTINGS = """
    SELECT set_config('tcp_keepalives_idle', '2', false),
           set_config('tcp_keepalives_interval', '1', false),
           set_config('tcp_keepalives_count', '3', false),
           set_config('tcp_user_timeout', '5000', false),
           set_config('lock_timeout', '2s', false),
           set_config('idle_in_transaction_session_timeout', '5s', false),
           CASE current_setting('synchronous_commit')
               WHEN 'off' THEN set_config('synchronous_commit', 'on', false) END
"""
# With the lock, two servers that start at the same time create the tables once.
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
THERE = "SELECT to_regclass(%s) IS NOT NULL, obj_description(to_regclass(%s), 'pg_class')"
CREATE = """
    CREATE TABLE IF NOT EXISTS {shelves} (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        prefix bytea NOT NULL,
        keeper bigint NOT NULL,
        beats bigint NOT NULL,
        ended boolean NOT NULL
    );
    CREATE TABLE {jobs} (
        shelf bigint NOT NULL,
        number bigint NOT NULL,
        function bytea NOT NULL,
        "unique" bytea NOT NULL,
        priority integer NOT NULL,
        due bigint NOT NULL,
        reducer bytea NOT NULL,
        workload bytea NOT NULL,
        deliveries integer NOT NULL,
        PRIMARY KEY (shelf, number)
    );
    COMMENT ON TABLE {jobs} IS {schema}
"""
LIST = "SELECT number, prefix, keeper, beats, ended FROM {shelves} ORDER BY number"
FIND = """
    SELECT number, prefix, keeper, beats, ended FROM {shelves} WHERE number = ANY(%s::bigint[])
    ORDER BY number
"""
# A division by zero rolls the transaction back and skips the rest.
BEAT = """
    WITH mine AS (
        UPDATE {shelves} SET beats = %(number)s
        WHERE number = %(shelf)s AND keeper = %(shelf)s AND beats = %(before)s RETURNING 1
    ) SELECT 1 / (SELECT count(*) FROM mine)
"""
TAKE = """
    WITH dead AS (
        SELECT number FROM {shelves}
        WHERE number = %(number)s AND keeper = %(keeper)s AND beats = %(beats)s
        AND (keeper = number OR keeper NOT IN (SELECT number FROM {shelves}))
        FOR UPDATE SKIP LOCKED
    ) UPDATE {shelves} SET keeper = %(mine)s
    WHERE number IN (SELECT number FROM dead) OR keeper IN (SELECT number FROM dead)
"""
INSERT = """
    INSERT INTO {jobs} SELECT %b, * FROM unnest(%b::bigint[], %b::bytea[], %b::bytea[],
        %b::integer[], %b::bigint[], %b::bytea[], %b::bytea[], %b::integer[])
"""
REWRITE = """
    INSERT INTO {jobs} SELECT * FROM unnest(%b::bigint[], %b::bigint[], %b::bytea[], %b::bytea[],
        %b::integer[], %b::bigint[], %b::bytea[], %b::bytea[], %b::integer[])
    ON CONFLICT (shelf, number) DO UPDATE SET function = excluded.function,
        priority = excluded.priority, due = excluded.due, workload = excluded.workload,
        deliveries = excluded.deliveries
"""
DELIVER = """
    UPDATE {jobs} AS job SET deliveries = told.count
    FROM unnest(%b::bigint[], %b::bigint[], %b::integer[]) AS told (shelf, number, count)
    WHERE job.shelf = told.shelf AND job.number = told.number
"""
REMOVE = """
    DELETE FROM {jobs} AS job USING unnest(%b::bigint[], %b::bigint[]) AS ended (shelf, number)
    WHERE job.shelf = ended.shelf AND job.number = ended.number
"""
READ = """
    SELECT number, function, "unique", priority, due, reducer, workload, deliveries FROM (
        SELECT *, sum(octet_length(workload)) OVER (ORDER BY number) - octet_length(workload)
            AS before
        FROM {jobs} WHERE shelf = %s AND number > %s ORDER BY number LIMIT %s
    ) AS next WHERE coalesce(before, 0) <= %s ORDER BY number
"""
# A session whose rest of a group does not come, as its server or network stopped: PostgreSQL bounds
# only the time between groups (idle_in_transaction_session_timeout). No job server waits as long.
END_STUCK = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name = %s AND usename = current_user AND datname = current_database()
    AND pid <> pg_backend_pid() AND wait_event = 'ClientRead'
    AND xact_start < clock_timestamp() - interval '5 seconds'
"""
SET_ASIDE = "UPDATE {jobs} SET shelf = -shelf WHERE shelf = %s AND number = ANY(%s::bigint[])"
KEEPS = """
    SELECT current_setting('fsync'), current_setting('full_page_writes'),
           relpersistence, relfilenode, reltuples
    FROM (VALUES (1)) AS always LEFT JOIN pg_class ON oid = to_regclass(%s)
"""
CLEAR = """
    DELETE FROM {shelves}
    WHERE number = %(shelf)s AND NOT EXISTS (SELECT 1 FROM {jobs} WHERE shelf = %(shelf)s)
"""


# The numbers of shelves with jobs, one step in the index for each.
MISSING = """
    WITH RECURSIVE used (shelf) AS (
        SELECT min(shelf) FROM {jobs} WHERE shelf > 0
        UNION ALL
        SELECT (SELECT min(shelf) FROM {jobs} WHERE shelf > used.shelf) FROM used
        WHERE used.shelf IS NOT NULL
    ) SELECT shelf FROM used WHERE shelf IS NOT NULL AND shelf NOT IN (SELECT number FROM {shelves})
"""
RESTORE = """
    INSERT INTO {shelves} (number, prefix, keeper, beats, ended) OVERRIDING SYSTEM VALUE
    VALUES (%s, %s, %s, 0, false) ON CONFLICT DO NOTHING
"""
