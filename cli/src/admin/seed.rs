use anyhow::Context as _;
use hubbub_protocol::{
    EXAMPLE_USERS,
    http::{Channel, ChannelKind, Role, User},
};
use hubbub_store::{Error, Store};

use super::servers::say;

/// The channels of the examples: everybody is a member of both, John their admin.
const CHANNELS: [&str; 2] = ["general", "Maths"];

/// Creates what is absent of the examples.
pub(super) async fn run(store: &Store) -> anyhow::Result<()> {
    let mut users = Vec::with_capacity(EXAMPLE_USERS.len());
    for name in EXAMPLE_USERS {
        let user = store.provision_user(name, name).await;
        users.push(user.with_context(|| format!("create user {name}"))?);
    }
    say(&format!("users: {}", EXAMPLE_USERS.join(", ")))?;
    let Some(first) = users.first() else {
        return Ok(());
    };
    for name in CHANNELS {
        let channel = channel(store, name, first)
            .await
            .with_context(|| format!("create channel {name}"))?;
        let mut added = 0_usize;
        for user in &users {
            let changed = store.add_member(channel.id, user.id, Role::Member).await;
            added += usize::from(changed.with_context(|| format!("add {} to {name}", user.name))?);
        }
        say(&format!(
            "channel {name} is {}, {added} members added",
            channel.id
        ))?;
    }
    Ok(())
}

async fn channel(store: &Store, name: &str, creator: &User) -> Result<Channel, Error> {
    if let Some(channel) = store.channel_by_name(name, creator.id).await? {
        return Ok(channel);
    }
    match store
        .create_channel(name, ChannelKind::Public, creator.id)
        .await
    {
        // Somebody else seeds at the same time.
        Err(Error::NameTaken) => {
            let found = store.channel_by_name(name, creator.id).await?;
            found.ok_or(Error::NameTaken)
        }
        created => created,
    }
}
