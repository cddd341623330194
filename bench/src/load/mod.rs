//! The load client: one thread, one epoll, every message counted on every socket.
