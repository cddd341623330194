//! Centrifugo with its memory engine. It is in no package registry, so the environment variable
//! `CENTRIFUGO` names its program.

use std::path::Path;

use anyhow::anyhow;
use hubbub_stack::{Port, environment};

use super::{
    Running, Unavailable,
    programs::{self, Place},
};

pub(super) async fn start(place: &Place) -> Result<Running, Unavailable> {
    let Some(program) = environment::var("CENTRIFUGO") else {
        return Err(Unavailable::absent(
            "it is in no package registry; CENTRIFUGO may name its program",
        ));
    };
    let version = programs::says(Path::new(&program), &["version"]).await;
    let version = version.map_err(|why| anyhow!("{program} does not run: {why}"))?;
    let port = Port::free()?;
    let number = port.number().to_string();
    // Options of version 6. Clients need no token and may subscribe and publish: all that the
    // others do not check either.
    let env = [
        ("CENTRIFUGO_HTTP_SERVER_ADDRESS", "127.0.0.1"),
        ("CENTRIFUGO_HTTP_SERVER_PORT", &number),
        ("CENTRIFUGO_HEALTH_ENABLED", "true"),
        ("CENTRIFUGO_CLIENT_INSECURE", "true"),
        ("CENTRIFUGO_CLIENT_ALLOWED_ORIGINS", "*"),
        ("CENTRIFUGO_LOG_LEVEL", "warn"),
    ];
    let env = env.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let config = place.write("centrifugo.json", "{}")?;
    let argv = vec![program, format!("--config={config}")];
    let ready = (&port, "/health");
    let server = place.run("centrifugo", argv, env.to_vec(), ready).await?;
    let pids = programs::family(&server);
    Ok(Running {
        dialect: "centrifugo",
        url: format!("ws://{}/connection/websocket", port.addr()),
        publish_url: None,
        receiver_pids: pids.clone(),
        pids,
        redis_pid: None,
        version,
        servers: vec![server],
        redis: None,
        ports: vec![port],
    })
}
