-- Records that can never be stored, whole, so that nothing acknowledged is thrown away unseen.
create table dead_letters (
    partition integer not null,
    seq bigint not null,
    -- if it could be read from the record
    channel_id bigint,
    payload bytea,
    key bytea,
    ts_ms bigint not null,
    error text not null,
    created_at timestamptz not null default now(),
    primary key (partition, seq)
);

-- How far each device of a member has been delivered to and has read. They never go back.
create table member_cursors (
    channel_id bigint not null,
    user_id bigint not null,
    device_id text not null,
    delivered bigint not null default 0,
    read bigint not null default 0,
    primary key (channel_id, user_id, device_id)
);
