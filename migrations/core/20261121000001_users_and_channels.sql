-- The core database: who there is, where they talk, and who belongs where. Small, and read on
-- its primary alone: a membership read on a replica could let a removed user listen (P8).

create table users (
    id bigint generated always as identity primary key,
    -- the token's `sub`
    subject text not null unique,
    name text not null,
    picture text,
    -- counts the changes of name and picture, so that a client sees which copy is newer
    version bigint not null default 1,
    created_at timestamptz not null default now()
);

-- Channels and direct channels share one sequence: a channel's number alone names it in the
-- shards; the letter of the public id follows from the kind.
create table channels (
    id bigint generated always as identity primary key,
    -- 1 public, 2 private, 3 direct
    kind smallint not null check (kind between 1 and 3),
    -- unique among the named; a direct channel has none, and nulls never clash
    name text unique,
    created_by bigint not null references users (id),
    -- the region whose log holds the channel's records
    home_region text not null default 'local',
    created_at timestamptz not null default now(),
    constraint channels_named_unless_direct check ((kind = 3) = (name is null))
);

-- The public channels by number are half of everybody's list of channels; without this index a
-- page of that list would walk over all the private and direct ones.
create index channels_public on channels (id) where kind = 1;

-- Every send and every join asks here, always by channel; hence the hash by channel.
create table memberships (
    channel_id bigint not null references channels (id),
    user_id bigint not null references users (id),
    -- 1 member, 2 admin
    role smallint not null check (role between 1 and 2),
    -- seq of the record that added the member; 0 for a channel's creator, and until it is known
    added_seq bigint not null default 0,
    created_at timestamptz not null default now(),
    primary key (channel_id, user_id)
) partition by hash (channel_id);

do $$
begin
    for i in 0..15 loop
        execute format(
            'create table memberships_p%s partition of memberships
                 for values with (modulus 16, remainder %s)', i, i);
    end loop;
end
$$;

-- A user's own channels, which the hash by channel cannot find.
create index memberships_by_user on memberships (user_id, channel_id);
