-- What the features about people need in a shard. From here on `channel_id` is the shard key of a
-- channel: its number, and for a direct channel the negative of it.

-- What a message said before its edits, oldest first; the row in `messages` has the latest text.
-- A deletion takes them away.
create table message_versions (
    channel_id bigint not null,
    -- the message
    target_seq bigint not null,
    -- the record that said so: the message itself, or an earlier edit
    seq bigint not null,
    user_id bigint not null,
    ts_ms bigint not null,
    text text not null,
    primary key (channel_id, target_seq, seq)
);

-- How far the topic of marks is in this database, written with the cursors that it stands for. No
-- compare-and-set: cursors never go back, so marks may be applied twice and in any order.
create table marks_position (
    partition integer primary key check (partition >= 0),
    next_offset bigint not null check (next_offset >= 0)
) with (fillfactor = 60, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

-- When the log took a channel's last record: which conversations are the latest. 0 for none.
alter table channel_heads add column last_ts_ms bigint not null default 0;

update channel_heads h set last_ts_ms = m.ts_ms
from (
    select h.channel_id, m.ts_ms
    from channel_heads h
    cross join lateral (
        select ts_ms from messages
        where channel_id = h.channel_id
        order by seq desc limit 1
    ) m
) m
where m.channel_id = h.channel_id;
