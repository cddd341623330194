//! The NATS server over WebSocket.

use hubbub_stack::Port;

use super::{
    Running, Unavailable, debian,
    programs::{self, Place},
};

const PROGRAM: &str = "usr/sbin/nats-server";
const CONFIG: &str = include_str!("../../peers/nats.conf");

pub(super) async fn start(place: &Place) -> Result<Running, Unavailable> {
    let unpacked = debian::unpacked(PROGRAM).await?;
    let (client, monitor, websocket) = (Port::free()?, Port::free()?, Port::free()?);
    let config = CONFIG
        .replace("@CLIENT@", &client.addr().to_string())
        .replace("@MONITOR@", &monitor.addr().to_string())
        .replace("@WEBSOCKET@", &websocket.addr().to_string());
    let config = place.write("nats.conf", &config)?;
    let program = unpacked.file(PROGRAM);
    let argv = vec![program.display().to_string(), "-c".to_owned(), config];
    let ready = (&monitor, "/healthz");
    let server = place.run("nats", argv, Vec::new(), ready).await?;
    let pids = programs::family(&server);
    Ok(Running {
        dialect: "nats",
        url: format!("ws://{}/", websocket.addr()),
        publish_url: None,
        receiver_pids: pids.clone(),
        pids,
        redis_pid: None,
        version: unpacked.version(&["nats-server"]),
        servers: vec![server],
        redis: None,
        ports: vec![client, monitor, websocket],
    })
}
