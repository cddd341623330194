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
    EditMessage,
    DeleteMessage,
    AddReaction,
    RemoveReaction,
    GetReplies,
    GetStatus,
    ListMembers,
    AddMember,
    RemoveMember,
    GetListeners,
    GetReceipts,
    SetMarks,
    OpenDirect,
    GetUnread,
    GetMe,
    ChangeMe,
    GetUsers,
    GetUser,
    ChangeUser,
    GetPresence,
    GetRoomUsers,
    GetEvents,
    GetConnections,
    GetSignIn,
    SignIn,
    OpenApi,
    /// The pages and their files, which are no operation and not in [`Self::ALL`].
    Ui,
}

impl Route {
    pub(crate) const ALL: [Self; 31] = [
        Self::ListChannels,
        Self::CreateChannel,
        Self::GetChannel,
        Self::GetMessages,
        Self::SendMessage,
        Self::EditMessage,
        Self::DeleteMessage,
        Self::AddReaction,
        Self::RemoveReaction,
        Self::GetReplies,
        Self::GetStatus,
        Self::ListMembers,
        Self::AddMember,
        Self::RemoveMember,
        Self::GetListeners,
        Self::GetReceipts,
        Self::SetMarks,
        Self::OpenDirect,
        Self::GetUnread,
        Self::GetMe,
        Self::ChangeMe,
        Self::GetUsers,
        Self::GetUser,
        Self::ChangeUser,
        Self::GetPresence,
        Self::GetRoomUsers,
        Self::GetEvents,
        Self::GetConnections,
        Self::GetSignIn,
        Self::SignIn,
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
            Self::EditMessage => "editMessage",
            Self::DeleteMessage => "deleteMessage",
            Self::AddReaction => "addReaction",
            Self::RemoveReaction => "removeReaction",
            Self::GetReplies => "getReplies",
            Self::GetStatus => "getStatus",
            Self::ListMembers => "listMembers",
            Self::AddMember => "addMember",
            Self::RemoveMember => "removeMember",
            Self::GetListeners => "getListeners",
            Self::GetReceipts => "getReceipts",
            Self::SetMarks => "setMarks",
            Self::OpenDirect => "openDirect",
            Self::GetUnread => "getUnread",
            Self::GetMe => "getMe",
            Self::ChangeMe => "changeMe",
            Self::GetUsers => "getUsers",
            Self::GetUser => "getUser",
            Self::ChangeUser => "changeUser",
            Self::GetPresence => "getPresence",
            Self::GetRoomUsers => "getRoomUsers",
            Self::GetEvents => "getEvents",
            Self::GetConnections => "getConnections",
            Self::GetSignIn => "getSignIn",
            Self::SignIn => "signIn",
            Self::OpenApi => "getOpenApi",
            Self::Ui => "ui",
        }
    }

    pub(crate) fn method(self) -> Method {
        match self {
            Self::CreateChannel | Self::SendMessage | Self::OpenDirect | Self::SignIn => {
                Method::POST
            }
            Self::AddMember | Self::AddReaction | Self::SetMarks => Method::PUT,
            Self::RemoveMember | Self::RemoveReaction | Self::DeleteMessage => Method::DELETE,
            Self::EditMessage | Self::ChangeMe | Self::ChangeUser => Method::PATCH,
            _ => Method::GET,
        }
    }

    /// The path; a segment in braces stands for any one.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::ListChannels | Self::CreateChannel => "/channels",
            Self::GetChannel => "/channels/{channel}",
            Self::GetMessages | Self::SendMessage => "/channels/{channel}/messages",
            Self::EditMessage | Self::DeleteMessage => "/channels/{channel}/messages/{seq}",
            Self::AddReaction | Self::RemoveReaction => {
                "/channels/{channel}/messages/{seq}/reactions/{reaction}"
            }
            Self::GetReplies => "/channels/{channel}/messages/{seq}/replies",
            Self::GetStatus => "/channels/{channel}/messages/{seq}/status",
            Self::ListMembers => "/channels/{channel}/members",
            Self::AddMember | Self::RemoveMember => "/channels/{channel}/members/{user}",
            Self::GetListeners => "/channels/{channel}/users",
            Self::GetReceipts => "/channels/{channel}/receipts",
            Self::SetMarks => "/channels/{channel}/marks",
            Self::OpenDirect => "/direct",
            Self::GetUnread => "/unread",
            Self::GetMe | Self::ChangeMe => "/users/me",
            Self::GetUsers => "/users",
            Self::GetUser | Self::ChangeUser => "/users/{user}",
            Self::GetPresence => "/users/{user}/presence",
            Self::GetRoomUsers => "/{room}/users",
            Self::GetEvents => "/api/events",
            Self::GetConnections => "/api/connections",
            Self::GetSignIn | Self::SignIn => "/ui/sign-in",
            Self::OpenApi => "/openapi.json",
            Self::Ui => "/ui/{page}",
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
            Self::GetReplies | Self::GetStatus => &[
                E::InvalidField,
                E::ChannelNotFound,
                E::MessageNotFound,
                E::ShardUnavailable,
                E::CoreUnavailable,
            ],
            Self::SendMessage | Self::EditMessage => &[
                E::InvalidJson,
                E::MissingField,
                E::InvalidField,
                E::TextTooLong,
                E::ChannelNotFound,
                E::MessageNotFound,
                E::NotStoredYet,
                E::BodyTooLarge,
                E::UnsupportedMediaType,
                E::Overloaded,
                E::LogUnavailable,
                E::ShardUnavailable,
                E::CoreUnavailable,
            ],
            Self::DeleteMessage | Self::AddReaction | Self::RemoveReaction => &[
                E::InvalidJson,
                E::InvalidField,
                E::ChannelNotFound,
                E::MessageNotFound,
                E::NotStoredYet,
                E::BodyTooLarge,
                E::UnsupportedMediaType,
                E::Overloaded,
                E::LogUnavailable,
                E::ShardUnavailable,
                E::CoreUnavailable,
            ],
            Self::SetMarks => &[
                E::InvalidJson,
                E::MissingField,
                E::InvalidField,
                E::ChannelNotFound,
                E::NotStoredYet,
                E::BodyTooLarge,
                E::UnsupportedMediaType,
                E::Overloaded,
                E::LogUnavailable,
                E::ShardUnavailable,
                E::CoreUnavailable,
            ],
            Self::GetReceipts => &[
                E::InvalidField,
                E::ChannelNotFound,
                E::ShardUnavailable,
                E::CoreUnavailable,
            ],
            Self::GetUnread => &[E::ShardUnavailable, E::CoreUnavailable],
            Self::AddMember => &[
                E::InvalidField,
                E::Forbidden,
                E::ChannelNotFound,
                E::UserNotFound,
                E::CoreUnavailable,
            ],
            Self::RemoveMember | Self::GetListeners | Self::GetRoomUsers => &[
                E::InvalidField,
                E::Forbidden,
                E::ChannelNotFound,
                E::BusUnavailable,
                E::CoreUnavailable,
            ],
            Self::OpenDirect => &[
                E::InvalidJson,
                E::MissingField,
                E::InvalidField,
                E::UserNotFound,
                E::BodyTooLarge,
                E::UnsupportedMediaType,
                E::CoreUnavailable,
            ],
            Self::GetUsers => &[E::MissingField, E::InvalidField, E::CoreUnavailable],
            Self::GetUser => &[E::InvalidField, E::UserNotFound, E::CoreUnavailable],
            Self::ChangeMe | Self::ChangeUser => &[
                E::InvalidJson,
                E::InvalidField,
                E::UserNotFound,
                E::BodyTooLarge,
                E::UnsupportedMediaType,
                E::CoreUnavailable,
            ],
            Self::GetPresence => &[
                E::InvalidField,
                E::UserNotFound,
                E::BusUnavailable,
                E::CoreUnavailable,
            ],
            Self::GetEvents => &[
                E::InvalidField,
                E::ChannelNotFound,
                E::Overloaded,
                E::CoreUnavailable,
            ],
            Self::GetConnections => &[E::InvalidField, E::CoreUnavailable],
            Self::GetSignIn => &[E::NotFound, E::CoreUnavailable],
            Self::SignIn => &[
                E::InvalidJson,
                E::MissingField,
                E::InvalidField,
                E::NotFound,
                E::UserNotFound,
                E::BodyTooLarge,
                E::UnsupportedMediaType,
                E::CoreUnavailable,
            ],
            Self::OpenApi | Self::Ui => &[],
        }
    }

    /// Whether a token is needed.
    pub(crate) fn needs_token(self) -> bool {
        !matches!(
            self,
            Self::GetSignIn | Self::SignIn | Self::OpenApi | Self::Ui
        )
    }

    /// Whether it brings something into the log, so that a failure may leave open whether it is
    /// there.
    pub(crate) fn appends(self) -> bool {
        matches!(
            self,
            Self::SendMessage
                | Self::EditMessage
                | Self::DeleteMessage
                | Self::AddReaction
                | Self::RemoveReaction
                | Self::SetMarks
        )
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
    let mut methods = Vec::new();
    for route in Route::ALL.iter().filter(matches) {
        if !methods.contains(&route.method()) {
            methods.push(route.method());
        }
    }
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
        assert_eq!(methods_at("/users/me"), [Method::GET, Method::PATCH]);
        assert_eq!(methods_at("/Maths/users"), [Method::GET]);
        assert_eq!(
            methods_at("/channels/C000000005/messages/7/reactions/%2B1"),
            [Method::PUT, Method::DELETE]
        );
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
