//! Direct channels and identities.

use std::{collections::HashSet, time::Duration};

use futures_util::future::{join_all, try_join_all};
use hubbub_protocol::{
    ChannelLetter,
    http::{ChannelKind, IdentityPatch, Role, User},
};
use hubbub_store::{DirectChannel, Error, IdentityChange};

use crate::support::{World, user};

#[tokio::test]
async fn direct_channel_is_one_whoever_asks_first_and_at_the_same_time() -> anyhow::Result<()> {
    let world = World::new("direct_channel_is_one").await?;
    let store = &world.store;
    let mary = store.provision_user("mary", "Mary").await?.id;
    let john = store.provision_user("john", "John").await?.id;
    let asked = (0..40).map(|n| {
        let (user, other) = if n % 2 == 0 {
            (mary, john)
        } else {
            (john, mary)
        };
        store.direct_channel(user, other)
    });
    let made = try_join_all(asked).await?;
    let ids: HashSet<_> = made.iter().map(|made| made.channel).collect();
    assert_eq!(ids.len(), 1, "{made:?}");
    assert_eq!(made.iter().filter(|made| made.created).count(), 1);
    let direct = made[0].channel;
    assert_eq!(direct.letter, ChannelLetter::Direct);
    let alone = store.direct_channel(mary, mary).await?;
    assert!(alone.created && alone.channel != direct);
    let again = store.direct_channel(mary, mary).await?;
    assert_eq!((again.channel, again.created), (alone.channel, false));
    let nobody = store.direct_channel(mary, user(999)).await;
    assert!(matches!(nobody, Err(Error::NoUser)), "{nobody:?}");

    // What the clashes made was taken back.
    for (who, count) in [(mary, 2), (john, 1)] {
        assert_eq!(store.channels_of(who).await?.len(), count);
        let membership = store.membership(direct, who).await?.expect("a member");
        assert_eq!(membership.kind, ChannelKind::Direct);
        assert_eq!(membership.role, Role::Member, "nobody rules over two");
    }
    let seen = |user, channel, with| DirectChannel {
        user,
        channel,
        with,
    };
    let mut directs = store.directs(&[john, mary]).await?;
    directs.sort_by_key(|direct| (direct.user, direct.channel));
    let expected = [
        seen(mary, direct, john),
        seen(mary, alone.channel, mary),
        seen(john, direct, mary),
    ];
    assert_eq!(directs, expected);

    let listed = store.channels(mary, 0, 10).await?.items;
    let with: Vec<_> = listed
        .iter()
        .map(|channel| (channel.id, channel.with))
        .collect();
    assert_eq!(with, [(direct, Some(john)), (alone.channel, Some(mary))]);
    let got = store.channel(direct, john).await?.expect("johns");
    assert_eq!((got.with, got.name), (Some(mary), None));
    Ok(())
}

#[tokio::test]
async fn identity_changes_at_most_once_in_a_pause() -> anyhow::Result<()> {
    let world = World::new("identity_changes").await?;
    let store = &world.store;
    let mary = store.provision_user("mary", "Mary").await?;
    let (pause, none) = (Duration::from_secs(60), Duration::ZERO);
    let patch = |name: Option<&str>, picture: Option<&str>, status: Option<&str>| IdentityPatch {
        name: name.map(str::to_owned),
        picture: picture.map(str::to_owned),
        status: status.map(str::to_owned),
    };
    let change = async |patch: &IdentityPatch, pause| {
        let changed = store.change_identity(mary.id, patch, pause).await?;
        anyhow::Ok(changed)
    };
    let away = patch(None, Some("https://x/y.png"), Some("away"));
    let changed = change(&away, pause).await?;
    let expected = User {
        picture: Some("https://x/y.png".to_owned()),
        status: Some("away".to_owned()),
        version: 2,
        ..mary.clone()
    };
    assert_eq!(changed, IdentityChange::Changed(expected.clone()));
    assert_eq!(store.user(mary.id).await?, Some(expected.clone()));
    // What changes nothing is no change, and so never too soon.
    for same in [patch(None, None, None), away.clone()] {
        let changed = change(&same, pause).await?;
        assert_eq!(changed, IdentityChange::Changed(expected.clone()));
    }
    let renamed = patch(Some("Mary Jane"), Some(""), None);
    let IdentityChange::TooSoon { retry_after_ms } = change(&renamed, pause).await? else {
        panic!("a second one within the pause");
    };
    assert!((1..=60_000).contains(&retry_after_ms), "{retry_after_ms}");
    let IdentityChange::Changed(changed) = change(&renamed, none).await? else {
        panic!("there is no pause");
    };
    assert_eq!((changed.name.as_str(), changed.version), ("Mary Jane", 3));
    assert_eq!(
        (changed.picture, changed.status.as_deref()),
        (None, Some("away"))
    );

    // Of many at once one is taken.
    let john = store.provision_user("john", "John").await?.id;
    let all = (0..16).map(|n| {
        let patch = patch(Some(&format!("John {n}")), None, None);
        async move { store.change_identity(john, &patch, pause).await }
    });
    let all = join_all(all).await;
    let taken = all
        .iter()
        .filter(|r| matches!(r, Ok(IdentityChange::Changed(_))));
    assert_eq!(taken.count(), 1, "{all:?}");
    let soon = all
        .iter()
        .filter(|r| matches!(r, Ok(IdentityChange::TooSoon { .. })));
    assert_eq!(soon.count(), 15, "{all:?}");

    let nobody = store.change_identity(user(999), &renamed, none).await;
    assert!(matches!(nobody, Err(Error::NoUser)), "{nobody:?}");
    let found = store.users(&[user(999), john, mary.id]).await?;
    let found: Vec<_> = found.iter().map(|user| user.id).collect();
    assert_eq!(found, [mary.id, john]);
    Ok(())
}
