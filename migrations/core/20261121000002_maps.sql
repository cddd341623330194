-- Which shard holds a partition of the log. Written once by `hubbub admin init` (partition modulo
-- shards) and frozen: moving an entry means moving its rows first.
create table shard_map (
    partition integer primary key check (partition >= 0),
    shard integer not null check (shard >= 0)
);

-- Which log the stored seqs come from. One row: seq = offset + 1 + base, and only in this topic of
-- this cluster. A process that meets another cluster or partition count must not write a line.
create table log_identity (
    one boolean primary key default true check (one),
    -- names this deployment for ever; a shard of another one is told apart by it
    store_id uuid not null default gen_random_uuid(),
    cluster_id text not null,
    topic text not null,
    partitions integer not null check (partitions > 0),
    base bigint not null check (base >= 0)
);
