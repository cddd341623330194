use hubbub_protocol::{ErrorBody, ErrorCode, Seq, limits};
use hubbub_store::Window;

/// Rows that a page may pass over.
pub(crate) const MOST_OFFSET: u64 = 1_000_000;

/// The parameters of a request's query, decoded. Unknown ones are ignored; values are strict.
#[derive(Debug, Default)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
}

fn invalid(field: &str, expected: &str) -> ErrorBody {
    ErrorBody::new(
        ErrorCode::InvalidField,
        format!("{field} must be {expected}"),
    )
    .field(field)
}

impl Query {
    /// Reads the raw query, without its question mark. Never fails: what is no UTF-8 after decoding
    /// has replacement characters, which no value of ours has.
    pub(crate) fn parse(raw: &str) -> Self {
        Self {
            pairs: form_urlencoded::parse(raw.as_bytes())
                .into_owned()
                .collect(),
        }
    }

    /// Whether a token is in it, where it would end in logs and histories.
    pub(crate) fn has_token(&self) -> bool {
        self.pairs.iter().any(|(name, value)| {
            matches!(
                name.as_str(),
                "token" | "access_token" | "bearer" | "jwt" | "authorization"
            ) || value.starts_with("bearer.")
        })
    }

    /// The one value of a parameter; given twice it is an error, since either could be meant.
    pub(crate) fn get(&self, field: &'static str) -> Result<Option<&str>, ErrorBody> {
        let mut values = self.pairs.iter().filter(|(name, _)| name == field);
        match (values.next(), values.next()) {
            (Some(_), Some(_)) => Err(invalid(field, "given once")),
            (first, _) => Ok(first.map(|(_, value)| value.as_str())),
        }
    }

    fn number(&self, field: &'static str, least: u64, most: u64) -> Result<Option<u64>, ErrorBody> {
        let Some(text) = self.get(field)? else {
            return Ok(None);
        };
        // `u64::from_str` takes a plus sign, which is no digit.
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let value = text.parse().ok().filter(|_| digits);
        match value {
            Some(value) if (least..=most).contains(&value) => Ok(Some(value)),
            _ => Err(invalid(field, &format!("an integer from {least} to {most}")).limit(most)),
        }
    }

    /// A position in a channel, from 0 to [`Seq::MAX`].
    pub(crate) fn seq(&self, field: &'static str) -> Result<Option<Seq>, ErrorBody> {
        Ok(self.number(field, 0, Seq::MAX.0)?.map(Seq))
    }

    /// Rows on a page: 1 to [`limits::PAGE_ROWS`].
    pub(crate) fn limit(&self) -> Result<usize, ErrorBody> {
        let most = limits::PAGE_ROWS as u64;
        let rows = self.number("limit", 1, most)?;
        Ok(rows
            .and_then(|rows| usize::try_from(rows).ok())
            .unwrap_or(limits::PAGE_ROWS_DEFAULT))
    }

    /// How many rows, 1 to `most`.
    pub(crate) fn rows(
        &self,
        field: &'static str,
        most: usize,
    ) -> Result<Option<usize>, ErrorBody> {
        let rows = self.number(field, 1, most as u64)?;
        Ok(rows.and_then(|rows| usize::try_from(rows).ok()))
    }

    /// How many rows are passed over: 0 to [`MOST_OFFSET`].
    pub(crate) fn offset(&self) -> Result<usize, ErrorBody> {
        let rows = self.number("offset", 0, MOST_OFFSET)?;
        Ok(rows
            .and_then(|rows| usize::try_from(rows).ok())
            .unwrap_or(0))
    }

    /// Whether something was asked for: `1` or `true`.
    pub(crate) fn flag(&self, field: &'static str) -> Result<bool, ErrorBody> {
        match self.get(field)? {
            None | Some("0" | "false") => Ok(false),
            Some("1" | "true") => Ok(true),
            Some(_) => Err(invalid(field, "1 or 0")),
        }
    }

    /// Where a page of a list starts: the `next` of the page before. 0 for the first page.
    pub(crate) fn cursor(&self) -> Result<i64, ErrorBody> {
        let text = self.get("cursor")?.unwrap_or("0");
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse()
            .ok()
            .filter(|_| digits)
            .ok_or_else(|| invalid("cursor", "the `next` of a page"))
    }

    /// Which page of history: at most one of `before`, `after` and `around`, bounds exclusive.
    pub(crate) fn window(&self) -> Result<Window, ErrorBody> {
        let mut window = Window::Newest;
        for field in ["before", "after", "around"] {
            let Some(seq) = self.seq(field)? else {
                continue;
            };
            if window != Window::Newest {
                return Err(invalid(field, "the only one of before, after and around"));
            }
            window = match field {
                "before" => Window::Before(seq),
                "after" => Window::After(seq),
                _ => Window::Around(seq),
            };
        }
        Ok(window)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window(raw: &str) -> Result<Window, ErrorBody> {
        Query::parse(raw).window()
    }

    #[test]
    fn windows_are_read() {
        assert_eq!(window(""), Ok(Window::Newest));
        assert_eq!(
            window("before=9&limit=3&mood=good"),
            Ok(Window::Before(Seq(9)))
        );
        assert_eq!(window("after=0"), Ok(Window::After(Seq(0))));
        assert_eq!(
            window("around=9007199254740991"),
            Ok(Window::Around(Seq::MAX))
        );
    }

    #[test]
    fn hostile_values_name_their_field_and_limit() {
        for value in [
            "-1",
            "+1",
            "%2B1",
            "",
            "1.0",
            "1e3",
            "0x10",
            "abc",
            "null",
            "9007199254740992",
            "18446744073709551616",
            "-9223372036854775808",
            "C000000005",
            "%00",
            "%FF",
            "%27%3B+drop+table+messages",
            "\u{661}",
        ] {
            for field in ["before", "after", "around"] {
                let error = window(&format!("{field}={value}")).expect_err(value);
                assert_eq!(error.field.as_deref(), Some(field), "{value}");
                assert_eq!(error.limit, Some(Seq::MAX.0), "{value}");
                assert_eq!(error.status(), 400);
            }
        }
        for value in ["0", "201", "-1", "x", "99999999999999999999"] {
            let error = Query::parse(&format!("limit={value}"))
                .limit()
                .expect_err(value);
            assert_eq!(error.limit, Some(200), "{value}");
        }
        for value in ["-1", "x", "9223372036854775808", ""] {
            let error = Query::parse(&format!("cursor={value}"))
                .cursor()
                .expect_err(value);
            assert_eq!(error.field.as_deref(), Some("cursor"), "{value}");
        }
    }

    #[test]
    fn flags_are_strict() {
        let flag = |raw: &str| Query::parse(raw).flag("records");
        for (raw, expected) in [
            ("", false),
            ("records=1", true),
            ("records=true", true),
            ("records=0", false),
            ("records=false&versions=1", false),
        ] {
            assert_eq!(flag(raw), Ok(expected), "{raw}");
        }
        for raw in [
            "records=",
            "records=yes",
            "records=2",
            "records=1&records=1",
        ] {
            let error = flag(raw).expect_err(raw);
            assert_eq!(error.field.as_deref(), Some("records"), "{raw}");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        assert_eq!(
            window("before=1&after=2")
                .expect_err("two")
                .field
                .as_deref(),
            Some("after")
        );
        assert_eq!(
            window("before=1&before=2")
                .expect_err("twice")
                .field
                .as_deref(),
            Some("before")
        );
    }

    #[test]
    fn tokens_are_found() {
        for raw in ["token=x", "a=1&access_token=x", "x=bearer.abc", "t%6Fken=x"] {
            assert!(Query::parse(raw).has_token(), "{raw}");
        }
        assert!(!Query::parse("before=1&limit=2").has_token());
    }

    proptest! {
        #[test]
        fn any_query_is_read_without_a_panic(raw: String) {
            let query = Query::parse(&raw);
            drop((query.window(), query.limit(), query.cursor(), query.has_token()));
        }

        #[test]
        fn every_seq_is_taken(seq in 0..=Seq::MAX.0) {
            prop_assert_eq!(window(&format!("after={seq}")), Ok(Window::After(Seq(seq))));
        }
    }
}
