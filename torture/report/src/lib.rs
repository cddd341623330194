//! Outlined.
