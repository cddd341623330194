//! How far devices came: the cursors of members, and how far the topic of marks was read.

use std::collections::{BTreeMap, HashMap};

use futures_util::future::try_join_all;
use hubbub_protocol::{
    ChannelId, DeviceId, Receipt, Seq, UserId, http::DeviceReceipt, limits::DEVICES_PER_MEMBER,
};

use crate::{
    Error, Store,
    database::{read, write_once},
    users::user_id,
};

/// One cursor for each device: of two marks the greater counts.
fn merged(marks: &[Receipt]) -> Vec<Receipt> {
    let mut devices: BTreeMap<(ChannelId, UserId, &DeviceId), Receipt> = BTreeMap::new();
    for mark in marks {
        devices
            .entry((mark.channel, mark.user, &mark.device))
            .or_insert_with(|| mark.clone())
            .merge(mark.delivered, mark.read);
    }
    devices.into_values().collect()
}

fn device(name: &str) -> Result<DeviceId, sqlx::Error> {
    let device = name.parse::<DeviceId>();
    device.map_err(|error| sqlx::Error::Decode(format!("device {name:?}: {error}").into()))
}

fn channel(key: i64) -> Result<ChannelId, sqlx::Error> {
    ChannelId::from_shard_key(key)
        .ok_or_else(|| sqlx::Error::Decode(format!("{key} is no channel's key").into()))
}

impl Store {
    /// The next offset to read of each of `partitions` of the topic of marks, in the order asked;
    /// 0 for one that was never written. Fails as [`Store::positions`] does.
    pub async fn marks_positions(&self, partitions: &[i32]) -> Result<Vec<(i32, i64)>, Error> {
        let mut by_shard: HashMap<usize, Vec<i32>> = HashMap::new();
        for partition in partitions {
            let shard = self.shard_of_partition(*partition);
            by_shard.entry(shard).or_default().push(*partition);
        }
        let reads = by_shard.into_iter().map(|(shard, asked)| async move {
            read!(self.shard(shard), "marks_position.get", |conn| {
                sqlx::query!(
                    "select partition, next_offset from marks_position where partition = any($1)",
                    &asked
                )
                .fetch_all(conn)
            })
        });
        let found: HashMap<i32, i64> = try_join_all(reads)
            .await?
            .into_iter()
            .flatten()
            .map(|row| (row.partition, row.next_offset))
            .collect();
        let position = |partition: &i32| found.get(partition).copied().unwrap_or(0);
        Ok(partitions.iter().map(|p| (*p, position(p))).collect())
    }

    /// Moves the cursors on, and the position of the partition with them, in one statement; gives
    /// the cursors that moved, as they are now. Every mark is of a channel of `partition`. Marks
    /// may come twice and in any order, since no cursor goes back; so nothing keeps a second
    /// reader of the partition from writing, and a position that goes back costs a repetition.
    ///
    /// A user has at most [`DEVICES_PER_MEMBER`] cursors in a channel (two writers at once may make
    /// it a few more, until the next new device). A new device takes the place of the one furthest
    /// behind; what was read furthest is never lost.
    ///
    /// After an error it is not known whether it happened: do it again.
    pub async fn write_marks(
        &self,
        partition: i32,
        next_offset: i64,
        marks: &[Receipt],
    ) -> Result<Vec<Receipt>, Error> {
        let marks = merged(marks);
        #[cfg(feature = "mutants")]
        if hubbub_mutant::planted(hubbub_mutant::Mutant::M12) {
            let shard = self.shard_of_partition(partition);
            write_once!(self.shard(shard), "member_cursors.set", |conn| {
                crate::planted::set_cursors(conn, partition, next_offset, &marks)
            })?;
            return Ok(marks);
        }
        let channels: Vec<i64> = marks.iter().map(|mark| mark.channel.shard_key()).collect();
        let users: Vec<i64> = marks.iter().map(|mark| mark.user.number()).collect();
        let devices: Vec<&str> = marks.iter().map(|mark| mark.device.as_str()).collect();
        let delivered: Vec<i64> = marks.iter().map(|mark| mark.delivered.to_db()).collect();
        let read: Vec<i64> = marks.iter().map(|mark| mark.read.to_db()).collect();
        let shard = self.shard_of_partition(partition);
        // The order of the keys keeps two writers from waiting for each other.
        let moved = write_once!(self.shard(shard), "member_cursors.move", |conn| {
            sqlx::query!(
                r#"with marks as materialized (
                       select m.*, c.known is not null as known
                       from unnest($3::bigint[], $4::bigint[], $5::text[], $6::bigint[],
                                   $7::bigint[])
                           as m (channel_id, user_id, device_id, delivered, read)
                       left join lateral (
                           select 1 as known from member_cursors
                           where channel_id = m.channel_id and user_id = m.user_id
                             and device_id = m.device_id
                           limit 1
                       ) c on true
                   ), devices as (
                       -- Of the members with a new device: what the store has, and the new ones.
                       select c.*, false as new
                       from (select distinct channel_id, user_id from marks where not known) w
                       cross join lateral (
                           select channel_id, user_id, device_id, delivered, read
                           from member_cursors
                           where channel_id = w.channel_id and user_id = w.user_id
                           offset 0
                       ) c
                       union all
                       select channel_id, user_id, device_id, delivered, read, true
                       from marks where not known
                   ), placed as (
                       select d.*,
                              m.device_id is not null as marked,
                              row_number() over (
                                  partition by d.channel_id, d.user_id
                                  order by d.read desc, d.delivered desc, d.device_id
                              ) as place
                       from devices d
                       left join marks m on m.known and m.channel_id = d.channel_id
                           and m.user_id = d.user_id and m.device_id = d.device_id
                   ), beyond as (
                       -- A cursor that moves in this statement cannot go in it. The furthest stays,
                       -- as what is unread hangs on it.
                       select channel_id, user_id, device_id, new
                       from (
                           select p.*, row_number() over (
                               partition by channel_id, user_id
                               order by marked desc, place = 1 desc, new desc, place
                           ) as rank
                           from placed p
                       ) p
                       where rank > $8 and not marked
                   ), gone as (
                       delete from member_cursors c using beyond b
                       where not b.new and c.channel_id = b.channel_id
                         and c.user_id = b.user_id and c.device_id = b.device_id
                   ), moved as (
                       insert into member_cursors as c
                           (channel_id, user_id, device_id, delivered, read)
                       select channel_id, user_id, device_id, delivered, read
                       from marks m
                       where known or not exists (
                           select from beyond b
                           where b.new and b.channel_id = m.channel_id
                             and b.user_id = m.user_id and b.device_id = m.device_id
                       )
                       order by channel_id, user_id, device_id
                       on conflict (channel_id, user_id, device_id) do update
                           set delivered = greatest(c.delivered, excluded.delivered),
                               read = greatest(c.read, excluded.read)
                           where c.delivered < excluded.delivered or c.read < excluded.read
                       returning channel_id, user_id, device_id, delivered, read
                   ), position as (
                       insert into marks_position (partition, next_offset) values ($1, $2)
                       on conflict (partition) do update set next_offset = excluded.next_offset
                   )
                   select channel_id, user_id, device_id, delivered, read from moved
                   order by channel_id, user_id, device_id"#,
                partition,
                next_offset,
                &channels,
                &users,
                &devices as &[&str],
                &delivered,
                &read,
                i64::from(DEVICES_PER_MEMBER)
            )
            .fetch_all(conn)
        })?;
        moved
            .into_iter()
            .map(|row| {
                Ok(Receipt {
                    channel: channel(row.channel_id)?,
                    user: user_id(row.user_id)?,
                    device: device(&row.device_id)?,
                    delivered: Seq::from_db(row.delivered),
                    read: Seq::from_db(row.read),
                })
            })
            .collect::<Result<_, _>>()
            .map_err(|error| self.shard(shard).place.error(error))
    }

    /// How far the devices of these users came in a channel, by user and device; at most
    /// [`DEVICES_PER_MEMBER`] of each user.
    pub async fn receipts(
        &self,
        channel: ChannelId,
        users: &[UserId],
    ) -> Result<Vec<DeviceReceipt>, Error> {
        let numbers: Vec<i64> = users.iter().map(|user| user.number()).collect();
        let database = self.channel_shard(channel);
        let rows = read!(database, "member_cursors.list", |conn| sqlx::query!(
            "select c.user_id, c.device_id, c.delivered, c.read
             from unnest($2::bigint[]) as u (user_id)
             cross join lateral (
                 select user_id, device_id, delivered, read from member_cursors
                 where channel_id = $1 and user_id = u.user_id
                 order by device_id limit $3
             ) c
             order by c.user_id, c.device_id",
            channel.shard_key(),
            &numbers,
            i64::from(DEVICES_PER_MEMBER)
        )
        .fetch_all(conn))?;
        rows.into_iter()
            .map(|row| {
                Ok(DeviceReceipt {
                    user: user_id(row.user_id)?,
                    device: device(&row.device_id)?,
                    delivered: Seq::from_db(row.delivered),
                    read: Seq::from_db(row.read),
                })
            })
            .collect::<Result<_, _>>()
            .map_err(|error| database.place.error(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_one_device_become_one_cursor() {
        let mark = |channel: &str, device: &str, delivered, read| Receipt {
            channel: channel.parse().expect("an id"),
            user: UserId::new(1).expect("from 1"),
            device: device.parse().expect("a device"),
            delivered: Seq(delivered),
            read: Seq(read),
        };
        let marks = [
            mark("D000000005", "phone", 9, 2),
            mark("D000000005", "laptop", 3, 3),
            mark("D000000005", "phone", 7, 4),
            mark("C000000005", "phone", 1, 0),
        ];
        let expected = [
            mark("C000000005", "phone", 1, 0),
            mark("D000000005", "laptop", 3, 3),
            mark("D000000005", "phone", 9, 4),
        ];
        assert_eq!(merged(&marks), expected);
    }
}
