use warp::http::{
    HeaderMap, HeaderValue,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ORIGIN, VARY,
    },
};

/// What browsers may remember of a preflight, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// The web pages that may call the API.
#[derive(Debug, Clone)]
pub(crate) struct Origins {
    allowed: Vec<String>,
}

/// Where a request comes from, as far as its Origin header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    /// No browser, or a page of the same origin.
    NoOrigin,
    /// An allowed page.
    Allowed(HeaderValue),
    /// Any other, or more than one.
    Foreign,
}

impl Origins {
    pub(crate) fn new(allowed: Vec<String>) -> Self {
        Self { allowed }
    }

    /// Compares exactly: no case folding, no prefixes, no `null`.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Asked {
        let mut origins = headers.get_all(ORIGIN).iter();
        match (origins.next(), origins.next()) {
            (None, _) => Asked::NoOrigin,
            (Some(origin), None) if self.allowed.iter().any(|a| a.as_bytes() == origin) => {
                Asked::Allowed(origin.clone())
            }
            _ => Asked::Foreign,
        }
    }
}

impl Asked {
    /// Lets the page read the answer. The answer differs by Origin, so caches are told.
    pub(crate) fn allow(self, headers: &mut HeaderMap) {
        if let Self::Allowed(origin) = self {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(
                ACCESS_CONTROL_EXPOSE_HEADERS,
                HeaderValue::from_static("retry-after, x-request-id"),
            );
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
    }
}

/// Answers a preflight: what a page may send to an address that takes `methods`.
pub(crate) fn preflight(headers: &mut HeaderMap, methods: HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("authorization, content-type, last-event-id"),
    );
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[&str]) -> Asked {
        let origins = Origins::new(vec!["https://chat.example.com".to_owned()]);
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(ORIGIN, HeaderValue::from_str(value).expect("a header"));
        }
        origins.check(&headers)
    }

    #[test]
    fn only_the_exact_origin_is_allowed() {
        let good = "https://chat.example.com";
        assert_eq!(check(&[]), Asked::NoOrigin);
        assert_eq!(
            check(&[good]),
            Asked::Allowed(HeaderValue::from_static(good))
        );
        for foreign in [
            "null",
            "",
            "https://evil.example",
            "https://chat.example.com.evil.example",
            "https://evil-chat.example.com",
            "https://chat.example.com:8443",
            "http://chat.example.com",
            "https://CHAT.example.com",
            "https://chat.example.com/",
        ] {
            assert_eq!(check(&[foreign]), Asked::Foreign, "{foreign}");
        }
        assert_eq!(check(&[good, good]), Asked::Foreign);
    }
}
