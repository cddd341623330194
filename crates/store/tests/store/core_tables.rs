use hubbub_protocol::{
    ChannelId, ChannelLetter, Seq,
    http::{ChannelKind, Role},
};
use hubbub_store::{Error, Membership};

use crate::support::{World, user};

#[tokio::test]
async fn user_is_provisioned_once() -> anyhow::Result<()> {
    let world = World::new("users").await?;
    let store = &world.store;
    assert_eq!(store.user_by_subject("mary").await?, None);
    let runs = (0..8).map(|_| store.provision_user("mary", "Mary"));
    let made = futures_util::future::try_join_all(runs).await?;
    assert!(made.iter().all(|user| user == &made[0]));
    let again = store.provision_user("mary", "Somebody").await?;
    assert_eq!((again.name.as_str(), again.version), ("Mary", 1));
    assert_eq!(store.user(again.id).await?, Some(again.clone()));
    assert_eq!(store.user_by_subject("mary").await?, Some(again.clone()));
    let asked = ["mary", "nobody", "mary"].map(str::to_owned);
    let found = store.users_by_subject(&asked).await?;
    assert_eq!(found, [("mary".to_owned(), again.id)].into());
    assert_eq!(store.user(user(999)).await?, None);
    Ok(())
}

#[tokio::test]
async fn channel_is_seen_by_whom_it_is_for() -> anyhow::Result<()> {
    let world = World::new("channels").await?;
    let store = &world.store;
    let mary = store.provision_user("mary", "Mary").await?.id;
    let john = store.provision_user("john", "John").await?.id;
    let maths = store
        .create_channel("Maths", ChannelKind::Public, mary)
        .await?;
    assert_eq!((maths.role, maths.is_member), (Some(Role::Admin), true));
    assert_eq!(maths.id.letter, ChannelLetter::Channel);
    assert!(maths.created_ms > 1_700_000_000_000);
    let secret = store
        .create_channel("Secret", ChannelKind::Private, mary)
        .await?;
    let direct = store.create_channel("", ChannelKind::Direct, mary).await?;
    assert_eq!(
        (direct.id.letter, direct.name.clone()),
        (ChannelLetter::Direct, None)
    );
    for kind in [ChannelKind::Public, ChannelKind::Private] {
        let taken = store.create_channel("Secret", kind, john).await;
        assert!(matches!(taken, Err(Error::NameTaken)), "{taken:?}");
    }
    let nobody = store
        .create_channel("Empty", ChannelKind::Public, user(999))
        .await;
    assert!(matches!(nobody, Err(Error::NoUser)), "{nobody:?}");

    assert_eq!(
        store.channel(secret.id, mary).await?.as_ref(),
        Some(&secret)
    );
    assert_eq!(store.channel(secret.id, john).await?, None);
    assert_eq!(store.channel_by_name("Secret", john).await?, None);
    assert_eq!(
        store.channel_by_name("Secret", mary).await?.as_ref(),
        Some(&secret)
    );
    let seen = store
        .channel_by_name("Maths", john)
        .await?
        .expect("it is public");
    assert_eq!(
        (seen.id, seen.is_member, seen.role),
        (maths.id, false, None)
    );
    // The other letter with the same number is the id of nothing.
    for channel in [&maths, &secret, &direct] {
        let letter = match channel.id.letter {
            ChannelLetter::Channel => ChannelLetter::Direct,
            ChannelLetter::Direct => ChannelLetter::Channel,
        };
        let wrong = ChannelId::new(letter, channel.id.number()).expect("from 1");
        assert_eq!(store.channel(wrong, mary).await?, None);
        assert_eq!(store.membership(wrong, mary).await?, None);
        assert!(!store.add_member(wrong, john, Role::Member).await?);
        assert!(store.channel(channel.id, mary).await?.is_some());
    }
    Ok(())
}

#[tokio::test]
async fn list_of_channels_is_paged_without_what_is_not_ones_own() -> anyhow::Result<()> {
    let world = World::new("channel_list").await?;
    let store = &world.store;
    let mary = store.provision_user("mary", "Mary").await?.id;
    let john = store.provision_user("john", "John").await?.id;
    let mut johns = Vec::new();
    for number in 0..20 {
        let kind = match number % 3 {
            0 => ChannelKind::Public,
            1 => ChannelKind::Private,
            _ => ChannelKind::Direct,
        };
        let channel = store
            .create_channel(&format!("c{number}"), kind, mary)
            .await?;
        if number % 2 == 0 {
            assert!(store.add_member(channel.id, john, Role::Member).await?);
        }
        if number % 2 == 0 || kind == ChannelKind::Public {
            johns.push(channel.id);
        }
    }
    for limit in [1, 3, 100] {
        let (mut seen, mut after) = (Vec::new(), 0);
        loop {
            let page = store.channels(john, after, limit).await?;
            assert!(page.items.len() <= limit);
            seen.extend(page.items.iter().map(|channel| channel.id));
            match page.next {
                Some(next) => after = next.parse()?,
                None => break,
            }
        }
        assert_eq!(seen, johns);
    }
    Ok(())
}

#[tokio::test]
async fn membership_begins_and_ends() -> anyhow::Result<()> {
    let world = World::new("memberships").await?;
    let store = &world.store;
    let mut users = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        users.push(store.provision_user(name, name).await?.id);
    }
    let channel = store
        .create_channel("Maths", ChannelKind::Private, users[0])
        .await?
        .id;
    for user in &users[1..4] {
        assert!(store.add_member(channel, *user, Role::Member).await?);
    }
    // Again, and with less: the creator stays what they are.
    assert!(!store.add_member(channel, users[0], Role::Member).await?);
    let admin = Membership {
        kind: ChannelKind::Private,
        role: Role::Admin,
    };
    assert_eq!(store.membership(channel, users[0]).await?, Some(admin));
    let unknown = store.add_member(channel, user(999), Role::Member).await;
    assert!(matches!(unknown, Err(Error::NoUser)), "{unknown:?}");
    let nowhere = ChannelId::new(ChannelLetter::Channel, 999).expect("from 1");
    assert!(!store.add_member(nowhere, users[1], Role::Member).await?);

    store.set_added_seq(channel, users[1], Seq(7)).await?;
    store.set_added_seq(channel, users[1], Seq(5)).await?;
    assert!(store.remove_member(channel, users[2]).await?);
    assert!(!store.remove_member(channel, users[2]).await?);
    assert_eq!(store.membership(channel, users[2]).await?, None);
    let asked: Vec<_> = users.iter().map(|user| (channel, *user)).collect();
    let among = store.members_among(&asked).await?;
    assert_eq!(among, [asked[0], asked[1], asked[3]].into());
    // Several channels in one question: a membership of one says nothing of another.
    let other = store
        .create_channel("another", ChannelKind::Private, users[2])
        .await?
        .id;
    let wrong = ChannelId::new(ChannelLetter::Direct, other.number()).expect("from 1");
    let asked = [
        (channel, users[2]),
        (other, users[2]),
        (other, users[0]),
        (wrong, users[2]),
    ];
    let among = store.members_among(&asked).await?;
    assert_eq!(among, [(other, users[2])].into());

    let page = store.members(channel, 0, 2).await?;
    let listed: Vec<_> = page
        .items
        .iter()
        .map(|member| (member.user.id, member.role, member.added_seq))
        .collect();
    let expected = [
        (users[0], Role::Admin, Seq::ZERO),
        (users[1], Role::Member, Seq(7)),
    ];
    assert_eq!(listed, expected);
    let after = page.next.expect("there is one more").parse()?;
    let rest = store.members(channel, after, 2).await?;
    assert_eq!(rest.items.len(), 1);
    assert_eq!((rest.items[0].user.id, rest.next), (users[3], None));
    Ok(())
}

#[tokio::test]
async fn who_may_not_admits_nobody() -> anyhow::Result<()> {
    let world = World::new("admit").await?;
    let store = &world.store;
    let mary = store.provision_user("mary", "Mary").await?.id;
    let john = store.provision_user("john", "John").await?.id;
    let ann = store.provision_user("ann", "Ann").await?.id;
    let open = store
        .create_channel("Open", ChannelKind::Public, mary)
        .await?
        .id;
    let closed = store
        .create_channel("Closed", ChannelKind::Private, mary)
        .await?
        .id;
    let direct = store.direct_channel(mary, john).await?.channel;
    // Nobody's members add nobody; oneself to a public channel alone.
    assert!(!store.admit(open, john, ann).await?);
    assert!(!store.admit(closed, john, john).await?);
    assert!(store.admit(open, john, john).await?);
    assert!(!store.admit(open, john, john).await?, "a member already");
    assert!(store.admit(open, john, ann).await?);
    assert!(store.admit(closed, mary, john).await?);
    assert!(!store.admit(closed, john, ann).await?, "no admin");
    // Who was removed a moment ago.
    assert!(store.remove_member(closed, john).await?);
    assert!(!store.admit(closed, john, john).await?);
    assert!(store.remove_member(closed, mary).await?);
    assert!(!store.admit(closed, mary, ann).await?);
    assert_eq!(store.membership(closed, john).await?, None);
    for actor in [mary, ann] {
        assert!(!store.admit(direct, actor, ann).await?);
    }
    let unknown = store.admit(open, john, user(999)).await;
    assert!(matches!(unknown, Err(Error::NoUser)), "{unknown:?}");
    Ok(())
}
