//! The peers that are Node.js programs: ws, socket.io and Express.

use anyhow::Result;
use hubbub_stack::{Port, Server};

use super::{
    Running, Unavailable,
    npm::{self, Installed},
    programs::{Place, family},
};

const SOCKETIO_PATH: &str = "/socket.io/?EIO=4&transport=websocket";

pub(super) async fn ws(place: &Place) -> Result<Running, Unavailable> {
    let installed = npm::install().await?;
    let (server, port) = run(place, &installed, "ws", "ws.js", &[], "/").await?;
    let url = format!("ws://{}/", port.addr());
    Ok(alone("raw", url, installed.version(&["ws"]), server, port))
}

pub(super) async fn socketio(place: &Place) -> Result<Running, Unavailable> {
    let installed = npm::install().await?;
    let (server, port) = run(place, &installed, "socketio", "socketio.js", &[], "/").await?;
    let url = format!("ws://{}{SOCKETIO_PATH}", port.addr());
    let version = installed.version(&["socket.io"]);
    Ok(alone("socketio", url, version, server, port))
}

pub(super) async fn socketio_redis(
    place: &Place,
    redis_url: Option<&str>,
) -> Result<Running, Unavailable> {
    let installed = npm::install().await?;
    let (redis, url) = match redis_url {
        Some(url) => (None, url.to_owned()),
        None => {
            let redis = place.redis().await?;
            let url = redis.url();
            (Some(redis), url)
        }
    };
    let env = [("REDIS_URL", url)];
    let script = "socketio.js";
    let (publishing, first) = run(place, &installed, "socketio-1", script, &env, "/").await?;
    let (receiving, second) = run(place, &installed, "socketio-2", script, &env, "/").await?;
    let receiver_pids = family(&receiving);
    Ok(Running {
        dialect: "socketio",
        url: format!("ws://{}{SOCKETIO_PATH}", second.addr()),
        publish_url: Some(format!("ws://{}{SOCKETIO_PATH}", first.addr())),
        pids: [family(&publishing), receiver_pids.clone()].concat(),
        receiver_pids,
        redis_pid: redis.as_ref().and_then(|redis| redis.pid()),
        version: installed.version(&["socket.io", "@socket.io/redis-adapter"]),
        servers: vec![publishing, receiving],
        redis,
        ports: vec![first, second],
    })
}

pub(super) async fn express_hello(place: &Place) -> Result<Running, Unavailable> {
    express(place, &[], "/page", &["express"]).await
}

pub(super) async fn express_pg(place: &Place, database_url: &str) -> Result<Running, Unavailable> {
    let env = [("DATABASE_URL", database_url.to_owned())];
    express(place, &env, "/channels", &["express", "pg"]).await
}

async fn express(
    place: &Place,
    env: &[(&str, String)],
    path: &str,
    packages: &[&str],
) -> Result<Running, Unavailable> {
    let installed = npm::install().await?;
    let (server, port) = run(place, &installed, "express", "express.js", env, "/ready").await?;
    let url = format!("http://{}{path}", port.addr());
    Ok(alone(
        "http",
        url,
        installed.version(packages),
        server,
        port,
    ))
}

/// A peer of one server.
fn alone(
    dialect: &'static str,
    url: String,
    version: String,
    server: Server,
    port: Port,
) -> Running {
    let pids = family(&server);
    Running {
        dialect,
        url,
        publish_url: None,
        receiver_pids: pids.clone(),
        pids,
        redis_pid: None,
        version,
        servers: vec![server],
        redis: None,
        ports: vec![port],
    }
}

/// Runs one of the scripts on a port of its own.
async fn run(
    place: &Place,
    installed: &Installed,
    name: &str,
    script: &str,
    env: &[(&str, String)],
    ready: &str,
) -> Result<(Server, Port)> {
    let port = Port::free()?;
    let mut all = vec![
        ("NODE_ENV".to_owned(), "production".to_owned()),
        ("PORT".to_owned(), port.number().to_string()),
    ];
    all.extend(
        env.iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone())),
    );
    let argv = installed.command(script);
    let server = place.run(name, argv, all, (&port, ready)).await?;
    Ok((server, port))
}
