//! What a quiet socket holds, by the sizes of its parts. Whoever makes one of them larger makes
//! every socket larger: thousands of them are what a pod's memory is spent on.

use std::{net::SocketAddr, sync::Arc};

use tokio::net::TcpStream;

use crate::{
    Edge,
    accept::{self, Room},
    connection, feed,
    handshake::Accepted,
    hub,
    socket::Socket,
};

/// The future of a connection, from its registration to its end.
fn connection<F>(_: impl FnOnce(Arc<Edge>, Box<Accepted>) -> F) -> usize {
    size_of::<F>()
}

/// The future of its task.
fn task<F>(_: impl FnOnce(Arc<Edge>, Room, TcpStream, SocketAddr) -> F) -> usize {
    size_of::<F>()
}

#[test]
fn quiet_socket_is_small() {
    let parts = [
        ("task", task(accept::serve), 912),
        ("connection", connection(connection::run), 896),
        ("socket", size_of::<Socket>(), 232),
        ("place among the listeners", feed::ATTACHED_BYTES, 16),
        ("entry of the hub", hub::ENTRY_BYTES, 112),
    ];
    for (part, bytes, most) in parts {
        assert!(bytes <= most, "{part}: {bytes} bytes");
    }
}
