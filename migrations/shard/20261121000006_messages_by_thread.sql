-- A thread's replies in order.
create index messages_by_thread on messages (channel_id, thread_seq, seq)
    where thread_seq is not null;
