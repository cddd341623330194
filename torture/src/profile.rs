//! How large a run is.

use std::time::Duration;

use anyhow::{Context, Result};
use hubbub_faults::Profile as Faults;

/// Sizes and times of a run; the faults have a profile of their own.
#[derive(Debug, Clone)]
pub struct Profile {
    /// `t0`, `t1`.
    pub name: String,
    /// Messages, spread evenly over calm, faults and healed; bursts come on top.
    pub messages: u64,
    /// Channels.
    pub channels: usize,
    /// Writers, each a user with one device.
    pub writers: usize,
    /// The last so many of them write over HTTP.
    pub http_writers: usize,
    /// The first so many of them read, too, and answer.
    pub answering: usize,
    /// Reading users, with so many devices each, in all channels.
    pub readers: usize,
    /// Devices of a reading user.
    pub devices: usize,
    /// Further devices, in two channels each.
    pub crowd: usize,
    /// Before the first fault.
    pub calm: Duration,
    /// After the last.
    pub healed: Duration,
    /// What quiet may take.
    pub quiet: Duration,
    /// From the end of the last fault to the last sample: by then what a fault has piled up must
    /// be gone.
    pub settle: Duration,
    /// Between two looks at every process.
    pub sample: Duration,
    /// Pages of one row are read of every so-many-th channel only.
    pub single_rows_of: usize,
    /// The faults.
    pub faults: Faults,
}

impl Profile {
    /// The smoke test: part of `./dev test`, at most two minutes.
    #[must_use]
    pub fn t0() -> Self {
        Self {
            name: "t0".to_owned(),
            messages: 5_000,
            channels: 64,
            writers: 16,
            http_writers: 2,
            answering: 4,
            readers: 8,
            devices: 3,
            crowd: 0,
            calm: Duration::from_secs(5),
            healed: Duration::from_secs(6),
            quiet: Duration::from_secs(30),
            settle: Duration::from_secs(31),
            sample: Duration::from_secs(5),
            single_rows_of: 4,
            faults: Faults::t0(),
        }
    }

    /// The torture: about twenty minutes.
    #[must_use]
    pub fn t1() -> Self {
        Self {
            name: "t1".to_owned(),
            messages: 100_000,
            // With the devices of writers and readers 500 sockets.
            crowd: 462,
            calm: Duration::from_secs(20),
            healed: Duration::from_secs(30),
            settle: Duration::from_secs(60),
            single_rows_of: 16,
            faults: Faults::t1(),
            ..Self::t0()
        }
    }

    /// A profile by its name.
    ///
    /// # Errors
    /// When there is none.
    pub fn named(name: &str) -> Result<Self> {
        match name {
            "t0" => Some(Self::t0()),
            "t1" => Some(Self::t1()),
            _ => None,
        }
        .with_context(|| format!("no profile {name}: t0 or t1"))
    }

    /// Lets only so many faults happen, in a phase as much shorter.
    pub fn limit_faults(&mut self, count: usize) {
        let most = self.faults.faults.max(1);
        let count = u32::try_from(count).unwrap_or(most).min(most);
        let share = u64::from(count) * self.faults.phase_ms / u64::from(most);
        self.faults.faults = count;
        self.faults.phase_ms = share.max(10_000).min(self.faults.phase_ms);
    }

    /// How long the writers write.
    #[must_use]
    pub fn writing(&self) -> Duration {
        self.calm + Duration::from_millis(self.faults.phase_ms) + self.healed
    }

    /// Sockets when everybody is connected.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.writers - self.http_writers + self.readers * self.devices + self.crowd
    }
}
