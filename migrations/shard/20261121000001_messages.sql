-- A shard: the records of its partitions of the log, and how far it has read them. One
-- transaction writes both, so a position never says more or less than the rows do.

-- Every accepted record of any kind is one row. Within the shard the rows are hashed by channel,
-- which every query names.
create table messages (
    channel_id bigint not null,
    seq bigint not null check (seq > 0),
    -- 1 message, 2 membership
    kind smallint not null,
    sender_id bigint not null,
    -- the id that the sending client chose: what makes a retry the same message
    client_msg_id uuid not null,
    -- the broker's append time; for display, never for order
    ts_ms bigint not null,
    -- dense number among the channel's messages, for unread counts; null for other kinds
    ordinal bigint,
    -- the record that this one changes, and the thread that it belongs to
    target_seq bigint,
    thread_seq bigint,
    -- the server frame without its seq: text and not jsonb, which would rewrite it
    body text not null,
    -- history is keyset on this
    primary key (channel_id, seq),
    -- contract P3: once for ever, whatever is retried
    unique (channel_id, sender_id, client_msg_id)
) partition by hash (channel_id);

do $$
begin
    for i in 0..15 loop
        execute format(
            'create table messages_p%s partition of messages
                 for values with (modulus 16, remainder %s)', i, i);
    end loop;
end
$$;

-- A channel's last processed seq, duplicates and dead letters included, and how many messages it
-- has. Rewritten with every batch, so pages keep room for the next version of a row and vacuum
-- comes early.
create table channel_heads (
    channel_id bigint primary key,
    partition integer not null,
    through bigint not null check (through > 0),
    ordinal bigint not null check (ordinal >= 0)
) with (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);

-- The sweep of the edges: what moved since the positions of the last one, at the cost of what moved.
create index channel_heads_by_through on channel_heads (partition, through);

-- How far the log is in this database. The compare-and-set on next_offset is what stops a
-- consumer that lost its partition and does not know it yet.
create table log_position (
    partition integer primary key check (partition >= 0),
    next_offset bigint not null check (next_offset >= 0),
    -- records that were copies of a stored one, and records that can never be stored: together
    -- with the rows they account for every record of the log (contract P12)
    duplicates bigint not null default 0,
    dead bigint not null default 0
) with (fillfactor = 60, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);
