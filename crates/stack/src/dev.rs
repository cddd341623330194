//! The commands behind `./dev`.

pub(crate) mod down;
pub(crate) mod hubbub;
mod lock;
pub(crate) mod logs;
mod screen;
mod state;
pub(crate) mod status;
mod supervise;
pub(crate) mod test_servers;
pub(crate) mod up;
