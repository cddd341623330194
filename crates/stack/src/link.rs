//! A named way between two parts of a stack.

use crate::proxy::Proxy;
use std::ops::Deref;

/// The way from one part of a stack to another, through a proxy of its own.
#[derive(Debug)]
pub struct Link {
    /// Who connects: `edge-1`, `api-1`, `consumer-1`, `haproxy-1`.
    pub from: String,
    /// Who is connected to: `redis`, `kafka`, `core`, `shard-0`, `edge-1`, `api-1`.
    pub to: String,
    proxy: Proxy,
}

impl Link {
    pub(crate) fn new(from: &str, to: &str, proxy: Proxy) -> Self {
        Self {
            from: from.to_owned(),
            to: to.to_owned(),
            proxy,
        }
    }
}

/// All that can be done to a proxy.
impl Deref for Link {
    type Target = Proxy;
    fn deref(&self) -> &Proxy {
        &self.proxy
    }
}
