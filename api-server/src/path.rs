//! Segments of a path that are neither a channel nor a user.
use hubbub_protocol::{ErrorBody, ErrorCode, Seq};

/// A segment as it was meant: the router does not decode percent escapes.
pub(crate) fn segment(raw: &str, field: &'static str) -> Result<String, ErrorBody> {
    percent_encoding::percent_decode_str(raw)
        .decode_utf8()
        .map(|text| text.into_owned())
        .map_err(|_| {
            ErrorBody::new(ErrorCode::InvalidField, format!("{field} is not UTF-8")).field(field)
        })
}

/// The seq of a message, from `least`.
pub(crate) fn parse_seq(text: &str, least: u64) -> Result<Seq, ErrorBody> {
    // `u64::from_str` takes a plus sign, which is no digit.
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let seq = text.parse().ok().filter(|_| digits);
    match seq {
        Some(seq) if (least..=Seq::MAX.0).contains(&seq) => Ok(Seq(seq)),
        _ => Err(ErrorBody::new(
            ErrorCode::InvalidField,
            format!("seq must be an integer from {least} to {}", Seq::MAX),
        )
        .field("seq")
        .limit(Seq::MAX.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_decoded_once() {
        for (raw, expected) in [
            ("%2B1", "+1"),
            ("+1", "+1"),
            ("%F0%9F%91%8D", "\u{1F44D}"),
            ("%252F", "%2F"),
            ("a%2Fb", "a/b"),
            ("%zz", "%zz"),
        ] {
            assert_eq!(segment(raw, "reaction").as_deref(), Ok(expected), "{raw}");
        }
        let error = segment("%FF", "reaction").expect_err("no UTF-8");
        assert_eq!(error.field.as_deref(), Some("reaction"));
    }

    #[test]
    fn seqs_are_strict() {
        assert_eq!(parse_seq("1", 1), Ok(Seq(1)));
        assert_eq!(parse_seq("9007199254740991", 1), Ok(Seq::MAX));
        for bad in ["", "0", "-1", "+1", "1.0", "x", "9007199254740992", "%31"] {
            let error = parse_seq(bad, 1).expect_err(bad);
            assert_eq!(error.field.as_deref(), Some("seq"), "{bad}");
        }
    }
}
