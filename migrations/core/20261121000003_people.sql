-- What the features about people need in the core database.

-- What a user says about themselves at the moment; with name and picture it is the identity that
-- `version` counts. The time keeps a user from announcing changes in quick succession.
alter table users
    add column status text,
    add column identity_changed_at timestamptz;

-- The direct channel of two users, the same whoever asks first: the pair is sorted, and its key is
-- what two first messages at the same moment meet at. Both numbers are the same in the channel
-- with oneself.
create table direct_channels (
    low_user bigint not null references users (id),
    high_user bigint not null references users (id),
    channel_id bigint not null unique references channels (id),
    primary key (low_user, high_user),
    constraint direct_channels_sorted check (low_user <= high_user)
);

-- The other half of a user's direct channels.
create index direct_channels_by_high_user on direct_channels (high_user);
