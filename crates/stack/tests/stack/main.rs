//! The stack's own tests, on the real servers.
mod test_env;
