//! The rules of design section 4 around the real feed and sweeper, under random schedules.

pub(super) mod rules;
