use hubbub_protocol::ErrorCode;
use warp::http::Method;

/// Every operation of the API. The document at `/openapi.json`, the metrics and the `Allow` header
/// go by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Route {
    ListChannels,
    CreateChannel,
    GetChannel,
    GetMessages,
    SendMessage,
    ListMembers,
    AddMember,
    RemoveMember,
    GetMe,
    GetUser,
    OpenApi,
}

impl Route {
    pub(crate) const ALL: [Self; 11] = [
        Self::ListChannels,
        Self::CreateChannel,
        Self::GetChannel,
        Self::GetMessages,
        Self::SendMessage,
        Self::ListMembers,
        Self::AddMember,
        Self::RemoveMember,
        Self::GetMe,
        Self::GetUser,
        Self::OpenApi,
    ];

    /// Its name: the operation id and the metric's label.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ListChannels => "listChannels",
            Self::CreateChannel => "createChannel",
            Self::GetChannel => "getChannel",
            Self::GetMessages => "getMessages",
            Self::SendMessage => "sendMessage",
            Self::ListMembers => "listMembers",
            Self::AddMember => "addMember",
            Self::RemoveMember => "removeMember",
            Self::GetMe => "getMe",
            Self::GetUser => "getUser",
            Self::OpenApi => "getOpenApi",
        }
    }

    pub(crate) fn method(self) -> Method {
        match self {
            Self::CreateChannel | Self::SendMessage => Method::POST,
            Self::AddMember => Method::PUT,
            Self::RemoveMember => Method::DELETE,
            _ => Method::GET,
        }
    }

    /// The path; a segment in braces stands for any one.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::ListChannels | Self::CreateChannel => "/channels",
            Self::GetChannel => "/channels/{channel}",
            Self::GetMessages | Self::SendMessage => "/channels/{channel}/messages",
            Self::ListMembers => "/channels/{channel}/members",
            Self::AddMember | Self::RemoveMember => "/channels/{channel}/members/{user}",
            Self::GetMe => "/users/me",
            Self::GetUser => "/users/{user}",
            Self::OpenApi => "/openapi.json",
        }
    }

    /// The errors that it answers with, beside those of every request ([`COMMON`]).
    pub(crate) fn errors(self) -> &'static [ErrorCode] {
        use ErrorCode as E;
        match self {
            Self::ListChannels | Self::GetMe => &[E::InvalidField, E::CoreUnavailable],
            Self::CreateChannel => &[
                E::InvalidJson,
                E::MissingField,
                E::InvalidField,
                E::NameTaken,
                E::BodyTooLarge,
                E::UnsupportedMediaType,
                E::CoreUnavailable,
            ],
            Self::GetChannel | Self::ListMembers => {
                &[E::InvalidField, E::ChannelNotFound, E::CoreUnavailable]
            }
            Self::GetMessages => &[
                E::InvalidField,
                E::ChannelNotFound,
                E::Overloaded,
                E::ShardUnavailable,
                E::CoreUnavailable,
            ],
            Self::SendMessage => &[
                E::InvalidJson,
                E::MissingField,
                E::InvalidField,
                E::TextTooLong,
                E::ChannelNotFound,
                E::BodyTooLarge,
                E::UnsupportedMediaType,
                E::Overloaded,
                E::LogUnavailable,
                E::CoreUnavailable,
            ],
            Self::AddMember => &[
                E::InvalidField,
                E::Forbidden,
                E::ChannelNotFound,
                E::UserNotFound,
                E::CoreUnavailable,
            ],
            Self::RemoveMember => &[
                E::InvalidField,
                E::Forbidden,
                E::ChannelNotFound,
                E::BusUnavailable,
                E::CoreUnavailable,
            ],
            Self::GetUser => &[E::InvalidField, E::UserNotFound, E::CoreUnavailable],
            Self::OpenApi => &[],
        }
    }

    /// Whether a token is needed.
    pub(crate) fn needs_token(self) -> bool {
        self != Self::OpenApi
    }
}

/// What any request with a token may be answered with. `forbidden` is a foreign Origin.
pub(crate) const COMMON: &[ErrorCode] = &[
    ErrorCode::Unauthorized,
    ErrorCode::Forbidden,
    ErrorCode::RateLimited,
    ErrorCode::Timeout,
    ErrorCode::Internal,
];

/// The methods that some route takes at this path; none means that there is no such address.
pub(crate) fn methods_at(path: &str) -> Vec<Method> {
    let matches = |route: &&Route| {
        let (mut asked, mut known) = (path.split('/'), route.path().split('/'));
        loop {
            match (asked.next(), known.next()) {
                (None, None) => return true,
                (Some(a), Some(k)) if a == k || (k.starts_with('{') && !a.is_empty()) => {}
                _ => return false,
            }
        }
    };
    let mut methods: Vec<_> = Route::ALL
        .iter()
        .filter(matches)
        .map(|route| route.method())
        .collect();
    methods.dedup();
    methods
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_and_addresses_are_unique() {
        let names: HashSet<_> = Route::ALL.iter().map(|route| route.name()).collect();
        assert_eq!(names.len(), Route::ALL.len());
        let addresses: HashSet<_> = Route::ALL
            .iter()
            .map(|route| (route.method(), route.path()))
            .collect();
        assert_eq!(addresses.len(), Route::ALL.len());
    }

    #[test]
    fn methods_are_known_by_path() {
        assert_eq!(methods_at("/channels"), [Method::GET, Method::POST]);
        assert_eq!(
            methods_at("/channels/C000000005/members/me"),
            [Method::PUT, Method::DELETE]
        );
        assert_eq!(methods_at("/users/me"), [Method::GET]);
        for unknown in [
            "",
            "/",
            "/channel",
            "/channels/",
            "/channels/a/b",
            "/users/a/b",
        ] {
            assert_eq!(methods_at(unknown), Vec::<Method>::new(), "{unknown}");
        }
    }
}
