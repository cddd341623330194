-- History as people read it: messages and changes of the membership. However many edits and
-- reactions lie between two messages, a page of it costs what it shows; and so does the ordinal of
-- the last message that was read, for unread counts.
create index messages_shown on messages (channel_id, seq) where kind <= 2;
