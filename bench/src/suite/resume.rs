//! Thousands of sockets come back at once and resume: each gets what was said since its cursor.
//! Questions to the store are counted, and the time is held against the bare COPY of the same
//! rows out of the shard.

use super::Bench;
use crate::results::{Row, Target};
use crate::town::{Town, ws_url};
use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use hubbub_protocol::ChannelId;
use hubbub_stack::Service;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// Everybody has everything by then.
const PATIENCE: Duration = Duration::from_secs(100);
/// Connects at one time.
const AT_ONCE: usize = 64;
/// Bytes of a text.
const TEXT: usize = 200;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub(super) async fn run(bench: &mut Bench) -> Result<Vec<Row>> {
    let cores = bench.cores;
    let (sockets, channels) = bench.pick((5_000, 50), (5_000, 50), (40, 4));
    let missed = bench.pick(100, 100, 10);
    let (ids, _) = bench.town().await?.channels(channels).await?;
    let town = bench.running();
    let before = town.stored().await?;
    // A message before, so that there is a cursor, and those that were missed.
    town.append(&ids, channels, TEXT).await?;
    town.wait_stored(before + channels as f64).await?;
    let mut since = Vec::new();
    for id in &ids {
        since.push(head(town, *id).await?);
    }
    let rows = channels * missed;
    town.append(&ids, rows, TEXT).await?;
    town.wait_stored(before + (channels + rows) as f64).await?;
    let edges = town.stack.edges();
    for edge in edges {
        // Nothing of it is in an edge's memory.
        edge.restart().await?;
    }
    town.pin(cores, &[&edges[0], &edges[1]])?;
    let waiting = connect(town, sockets).await?;
    let questions_before = questions(town).await?;
    let begun = Instant::now();
    let delivered = resume(waiting, &ids, &since, missed).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let asked = questions(town).await? - questions_before;
    let (copy_seconds, copied) = copy_out(town, &ids, &since).await?;
    ensure!(copied == rows, "COPY gave {copied} of {rows} rows");
    let bound = (channels * edges.len()) as f64;
    let workload = format!("{sockets} sockets resume in {channels} channels, {missed} missed each");
    Ok(vec![
        Row::new(
            "resume",
            &workload,
            "questions for rows to the store",
            "edges",
        )
        .measured(&[asked])
        .count("delivered", delivered)
        .count("lost", 0)
        .figure("channels_times_edges", bound)
        .target(Target::AtMost(bound)),
        Row::new(
            "resume",
            &workload,
            "seconds until all have everything",
            "edges",
        )
        .measured(&[seconds])
        .figure("deliveries_a_second", delivered as f64 / seconds)
        .figure("copy_out_of_the_shards_seconds", copy_seconds),
    ])
}

/// The newest seq of a channel.
async fn head(town: &Town, channel: ChannelId) -> Result<u64> {
    let sql = format!(
        "select max(seq) from messages where channel_id = {}",
        channel.number()
    );
    let text = town.shard_sql(town.shard_of(channel), &sql).await?;
    text.trim().parse().context("a channel's newest seq")
}

async fn questions(town: &Town) -> Result<f64> {
    let mut sum = 0.0;
    for edge in town.stack.edges() {
        let name = "hubbub_edge_store_requests_total";
        sum += town.counter(edge, name, "kind=\"range\"").await?;
    }
    Ok(sum)
}

/// Rows of those channels above the cursors, as bare as Postgres gives them.
async fn copy_out(town: &Town, ids: &[ChannelId], since: &[u64]) -> Result<(f64, usize)> {
    let (mut seconds, mut rows) = (0.0, 0);
    for shard in 0..town.stack.endpoints().shard_urls.len() {
        let here = ids.iter().zip(since);
        let here = here.filter(|(id, _)| town.shard_of(**id) == shard);
        let wanted: Vec<String> = here
            .map(|(id, since)| format!("({}::bigint, {since}::bigint)", id.number()))
            .collect();
        if wanted.is_empty() {
            continue;
        }
        let sql = format!(
            "copy (select m.channel_id, m.seq, m.body from (values {}) w (channel, since)
             join messages m on m.channel_id = w.channel and m.seq > w.since) to stdout",
            wanted.join(", ")
        );
        let begun = Instant::now();
        let text = town.shard_sql(shard, &sql).await?;
        seconds += begun.elapsed().as_secs_f64();
        rows += text.lines().count();
    }
    Ok((seconds, rows))
}

/// Sockets that said nothing yet, by turns on every edge.
async fn connect(town: &Town, count: usize) -> Result<Vec<Socket>> {
    let token = Arc::new(format!("Bearer {}", town.everybodys_token()?));
    let urls: Vec<String> = town
        .stack
        .edges()
        .iter()
        .map(|edge: &Service| ws_url(edge))
        .collect();
    let urls = Arc::new(urls);
    let mut tasks = JoinSet::new();
    for worker in 0..AT_ONCE {
        let (token, urls) = (Arc::clone(&token), Arc::clone(&urls));
        tasks.spawn(async move {
            let mut sockets = Vec::new();
            for n in (worker..count).step_by(AT_ONCE) {
                let mut request = urls[n % urls.len()].as_str().into_client_request()?;
                let value = token.parse().context("a token is a header's value")?;
                request.headers_mut().insert("authorization", value);
                let connected = timeout(PATIENCE, connect_async(request)).await;
                let (socket, _) = connected.context("no connection in time")??;
                sockets.push((n, socket));
            }
            anyhow::Ok(sockets)
        });
    }
    let mut all = Vec::with_capacity(count);
    while let Some(done) = tasks.join_next().await {
        all.extend(done.context("a task that connects")??);
    }
    // Socket n is in channel n / edges mod channels: every channel has some on every edge.
    all.sort_by_key(|(n, _)| *n);
    Ok(all.into_iter().map(|(_, socket)| socket).collect())
}

/// All at once; gives the messages that came.
async fn resume(
    sockets: Vec<Socket>,
    ids: &[ChannelId],
    since: &[u64],
    missed: usize,
) -> Result<u64> {
    let mut tasks = JoinSet::new();
    for (n, socket) in sockets.into_iter().enumerate() {
        let at = (n / 2) % ids.len();
        let (channel, since) = (ids[at], since[at]);
        tasks.spawn(async move {
            let one = one(socket, channel, since, missed);
            let done = timeout(PATIENCE, one).await;
            done.context("not everything came in time")?
        });
    }
    let mut delivered = 0;
    while let Some(done) = tasks.join_next().await {
        delivered += done.context("a socket's task")??;
    }
    Ok(delivered)
}

/// What is looked at of a frame.
#[derive(Deserialize)]
struct Frame {
    r#type: Option<String>,
    recovered: Option<bool>,
    seq: Option<u64>,
}

async fn one(mut socket: Socket, channel: ChannelId, since: u64, missed: usize) -> Result<u64> {
    let join = format!(r#"{{"id":1,"type":"join","channel":"{channel}","since":{since}}}"#);
    socket.send(Message::text(join)).await?;
    let mut seqs = BTreeSet::new();
    let mut synced = 0;
    while seqs.len() < missed || seqs.last().is_some_and(|last| synced < *last) {
        let Some(frame) = socket.next().await else {
            bail!("the edge closed the connection");
        };
        let Message::Text(text) = frame? else {
            continue;
        };
        let frame: Frame = serde_json::from_str(&text).with_context(|| text.to_string())?;
        match frame.r#type.as_deref() {
            None => ensure!(frame.recovered == Some(true), "not recovered: {text}"),
            Some("message") => {
                let seq = frame.seq.context("a message has a seq")?;
                ensure!(seq > since, "{seq} is not after {since}");
                seqs.insert(seq);
            }
            Some("synced") => synced = frame.seq.unwrap_or(0),
            Some(_) => {}
        }
    }
    ensure!(seqs.len() == missed, "{} of {missed} messages", seqs.len());
    Ok(seqs.len() as u64)
}
