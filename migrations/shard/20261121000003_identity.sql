-- Which shard this is, of which deployment, and of which log its seqs come. One row. It is checked
-- before the first statement on a connection pool, so that swapped addresses or a restored
-- copy of another deployment are refused and never mixed in.
create table shard_identity (
    one boolean primary key default true check (one),
    -- log_identity.store_id of the core database
    store_id uuid not null,
    shard integer not null check (shard >= 0),
    cluster_id text not null,
    base bigint not null check (base >= 0)
);
