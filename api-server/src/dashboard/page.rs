//! Pages of the channels by connections.

use std::time::Duration;

use hubbub_protocol::{
    ErrorBody, ErrorCode, UserId, events::ConnectionsPage, http::ChannelKind, limits,
};
use tokio::time::timeout;

use super::{Viewer, frames::row};

/// For the first look at all pods, and for the names.
const LOOK_WITHIN: Duration = Duration::from_secs(4);

impl Viewer {
    /// A page of the channels that `user` may see whose name begins with `prefix`, whatever its
    /// case. Waits until the pods have told, half a second at most, and for the store. Cancel-safe.
    pub(crate) async fn connections(
        &self,
        user: UserId,
        offset: usize,
        limit: usize,
        prefix: &str,
    ) -> Result<ConnectionsPage, ErrorBody> {
        let dashboard = &self.dashboard;
        let mut frames = dashboard.shared.frames.subscribe();
        let looked = frames.wait_for(|frame| {
            let newest = frame.as_ref().map(|frame| frame.newest);
            newest >= Some(self.number)
        });
        if timeout(LOOK_WITHIN, looked).await.is_err() {
            return Err(ErrorBody::new(
                ErrorCode::Timeout,
                "the pods were not looked at in time",
            ));
        }
        let private = dashboard.private_channels();
        let mine = dashboard.memberships(&[user], &private).await;
        let prefix = prefix.to_lowercase();
        let state = dashboard.shared.state.lock();
        let names = dashboard.shared.names.lock();
        let mut page = ConnectionsPage {
            items: Vec::new(),
            total: 0,
            complete: state.picture.is_complete(),
            missing: state.picture.missing(),
        };
        page.missing.truncate(limits::DASHBOARD_ROWS);
        for channel in state.picture.channels() {
            let Some(known) = names.get(channel.channel) else {
                continue;
            };
            let is_seen =
                known.kind == ChannelKind::Public || mine.contains(&(channel.channel, user));
            let name = known.name.as_deref().unwrap_or_default();
            if !is_seen || !name.to_lowercase().starts_with(&prefix) {
                continue;
            }
            let at = page.total;
            page.total += 1;
            if at >= offset as u64 && page.items.len() < limit {
                page.items.push(row(channel, known.kind, Some(name)));
            }
        }
        Ok(page)
    }
}
