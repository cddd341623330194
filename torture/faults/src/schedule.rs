//! Which faults come when.

use hubbub_checker::{Fault, FaultKind};

use crate::{Profile, Shape, dice::Dice, kinds::manner, rules::fits};

/// Starts lie on this grid: easier to read, and to tell apart in a timeline.
const GRID_MS: u64 = 50;
/// Random places that are tried for a fault before all of the grid is gone through.
const TRIES: usize = 60;
/// Whole schedules that are tried until one has room for everybody.
const DRAFTS: u64 = 40;

/// Draws the faults of a run. Pure: the same profile, seed and shape give the same schedule for
/// ever. There are fewer faults than the profile asks for only where no more have room.
#[must_use]
pub fn schedule(profile: &Profile, seed: u64, shape: &Shape) -> Vec<Fault> {
    let wanted = usize::try_from(profile.faults).expect("an address has 32 bits at least");
    let mut best: Vec<Fault> = Vec::new();
    for salt in 0..DRAFTS {
        let drafted = draft(profile, wanted, &mut Dice::new(seed, salt), shape);
        if drafted.len() > best.len() {
            best = drafted;
        }
        if best.len() == wanted {
            break;
        }
    }
    best.sort_by_key(|fault| (fault.start_ms, fault.kind, fault.target.clone()));
    for (fault, number) in best.iter_mut().zip(1..) {
        fault.number = number;
    }
    best
}

/// The most faults of a schedule that are under way at one moment, by their own times.
#[must_use]
pub(crate) fn most_at_once(faults: &[Fault]) -> usize {
    let at = |moment: u64| {
        let under_way = |f: &&Fault| f.start_ms <= moment && moment < f.start_ms + f.lasts_ms;
        faults.iter().filter(under_way).count()
    };
    let most = faults.iter().map(|fault| at(fault.start_ms)).max();
    most.unwrap_or(0)
}

/// Until when a fault keeps what it hit, the way back to readiness included.
fn over_ms(fault: &Fault) -> u64 {
    fault.start_ms + fault.lasts_ms + manner(fault.kind).settles_ms
}

fn draft(profile: &Profile, wanted: usize, dice: &mut Dice, shape: &Shape) -> Vec<Fault> {
    let mut faults: Vec<Fault> = kinds(profile, wanted, dice, shape)
        .into_iter()
        .map(|kind| {
            let manner = manner(kind);
            let (lasts, end) = manner.lasts_ms.into_inner();
            let lasts = dice.within(lasts / GRID_MS..=end / GRID_MS) * GRID_MS;
            Fault {
                number: 0,
                kind,
                target: shape.target(kind, dice),
                start_ms: 0,
                lasts_ms: lasts,
                hypothesis: manner.hypothesis.to_owned(),
            }
        })
        .collect();
    // The long ones first, while there is room; equal ones in the order of the draw.
    faults.sort_by_key(|fault| std::cmp::Reverse(over_ms(fault)));
    let mut placed = Vec::new();
    for fault in faults {
        placed.extend(place(fault, &placed, profile, dice, shape));
    }
    placed
}

/// Each kind once, in a random order, before one comes again.
fn kinds(profile: &Profile, wanted: usize, dice: &mut Dice, shape: &Shape) -> Vec<FaultKind> {
    let possible = profile.kinds.iter().copied();
    let possible: Vec<FaultKind> = possible.filter(|k| shape.lacks(*k).is_none()).collect();
    let mut kinds = Vec::new();
    while kinds.len() < wanted && !possible.is_empty() {
        let mut round = possible.clone();
        dice.shuffle(&mut round);
        round.truncate(wanted - kinds.len());
        kinds.extend(round);
    }
    kinds
}

/// Finds a start: random ones first, then the first of the grid that is free.
fn place(
    mut fault: Fault,
    placed: &[Fault],
    profile: &Profile,
    dice: &mut Dice,
    shape: &Shape,
) -> Option<Fault> {
    let last = profile.phase_ms.checked_sub(over_ms(&fault))? / GRID_MS;
    for _ in 0..TRIES {
        fault.start_ms = dice.within(0..=last) * GRID_MS;
        if has_room(&fault, placed, profile, shape) {
            return Some(fault);
        }
    }
    for start in 0..=last {
        fault.start_ms = start * GRID_MS;
        if has_room(&fault, placed, profile, shape) {
            return Some(fault);
        }
    }
    None
}

/// Whether at every moment of the fault the others leave room for it.
fn has_room(fault: &Fault, placed: &[Fault], profile: &Profile, shape: &Shape) -> bool {
    let (start, end) = (fault.start_ms, over_ms(fault));
    // Others join only when they start, so these are the moments to look at.
    let mut moments = vec![start];
    let starts = placed.iter().map(|other| other.start_ms);
    moments.extend(starts.filter(|other| (start..end).contains(other)));
    moments.into_iter().all(|moment| {
        let there = |other: &&Fault| other.start_ms <= moment && moment < over_ms(other);
        let others: Vec<&Fault> = placed.iter().filter(there).collect();
        others.len() < profile.at_once && fits(&others, fault, shape)
    })
}

#[cfg(test)]
mod tests;
