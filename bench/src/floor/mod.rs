//! Bare programs: each does one thing in the fewest steps that the kernel allows, and is the
//! physical limit that a server is held against.
