//! Figures as people read them.

use hubbub_checker::FaultKind;

/// A duration: `0`, `340 us`, `12 ms`, `1.23 s`, `20 min 12 s`.
pub(crate) fn time(us: u64) -> String {
    match us {
        0 => "0".into(),
        1..1_000 => format!("{us} us"),
        1_000..10_000 => format!("{:.1} ms", us as f64 / 1e3),
        10_000..1_000_000 => format!("{:.0} ms", us as f64 / 1e3),
        1_000_000..60_000_000 => format!("{:.2} s", us as f64 / 1e6),
        _ => format!("{} min {} s", us / 60_000_000, us / 1_000_000 % 60),
    }
}

/// A duration, or a dash where there is none.
pub(crate) fn time_or_dash(us: Option<u64>) -> String {
    us.map_or("–".into(), time)
}

/// A moment of the run: `3:07.250`.
pub(crate) fn moment(us: u64) -> String {
    format!(
        "{}:{:02}.{:03}",
        us / 60_000_000,
        us / 1_000_000 % 60,
        us / 1000 % 1000
    )
}

/// A count with its thousands apart: `1,234,567`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share as percent. What is not all is never shown as 100 %, what is not none never as 0 %.
pub(crate) fn percent(share: Option<f64>) -> String {
    share.map_or("–".into(), |share| {
        let percent = share * 100.0;
        if percent <= 0.0 {
            "0 %".into()
        } else if percent < 100.0 {
            format!("{:.2} %", percent.clamp(0.01, 99.99))
        } else {
            "100 %".into()
        }
    })
}

/// A name as in JSON: `edge_kill`.
pub(crate) fn plain_name(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}

/// A kind of fault in words: `edge kill`.
pub(crate) fn kind(kind: FaultKind) -> String {
    plain_name(&kind).replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_in_words() {
        let times = [0, 340, 1_250, 12_499, 1_234_000, 1_212_000_000].map(time);
        assert_eq!(
            times,
            ["0", "340 us", "1.2 ms", "12 ms", "1.23 s", "20 min 12 s"]
        );
        assert_eq!(moment(187_250_999), "3:07.250");
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(count),
            ["0", "999", "1,000", "1,234,567"]
        );
        let shares = [
            None,
            Some(1.0),
            Some(0.999_999),
            Some(0.5),
            Some(1e-9),
            Some(0.0),
        ];
        let shares = shares.map(percent);
        assert_eq!(
            shares,
            ["–", "100 %", "99.99 %", "50.00 %", "0.01 %", "0 %"]
        );
        assert_eq!(kind(FaultKind::EdgeCrashAfterAck), "edge crash after ack");
    }
}
