//! nginx with the Nchan module, one worker.

use anyhow::Context;
use hubbub_stack::Port;

use super::{
    Running, Unavailable, debian,
    programs::{self, Place},
};

const NGINX: &str = "usr/sbin/nginx";
const CONFIG: &str = include_str!("../../peers/nchan.conf");
/// With Nchan in it, Debian's nginx makes a directory in /var/lib/nginx whatever its configuration
/// says. This gives it a /var/lib of its own, that nobody else sees, and becomes nginx.
const OWN_VAR_LIB: &str = "mount -t tmpfs none /var/lib && mkdir /var/lib/nginx && exec \"$@\"";
/// Nchan has nginx make its own directories here whatever the configuration says.
const HOME: &str = "/var/lib/nginx";
/// Files that nginx needs besides its connections.
const SPARE_FILES: u64 = 64;

pub(super) async fn start(place: &Place) -> Result<Running, Unavailable> {
    let unpacked = debian::unpacked(NGINX).await?;
    std::fs::create_dir_all(HOME)
        .map_err(|error| Unavailable::absent(format!("it needs the directory {HOME}: {error}")))?;
    let port = Port::free()?;
    let nginx = unpacked.file(NGINX);
    let files = programs::open_files()?;
    // Started by root, nginx would look for a user to become that a machine may not have.
    let user = match nix::unistd::geteuid().is_root() {
        true => "user root;",
        false => "",
    };
    let module = unpacked.file("usr/lib/nginx/modules/ngx_nchan_module.so");
    let config = CONFIG
        .replace("@MODULE@", &module.display().to_string())
        .replace("@USER@", user)
        .replace("@DIR@", &place.dir.display().to_string())
        .replace("@FILES@", &files.to_string())
        .replace(
            "@CONNECTIONS@",
            &(files.saturating_sub(SPARE_FILES)).to_string(),
        )
        .replace("@ADDR@", &port.addr().to_string());
    let config = place.write("nginx.conf", &config)?;
    let prefix = place.dir.to_str().context("the directory is not UTF-8")?;
    let nginx = nginx.display().to_string();
    let mut argv = vec!["unshare", "--mount"];
    if !nix::unistd::geteuid().is_root() {
        argv.extend(["--map-current-user", "--keep-caps"]);
    }
    argv.extend(["sh", "-c", OWN_VAR_LIB, "sh"]);
    argv.extend([&nginx, "-p", prefix, "-e", "stderr", "-c", &config]);
    let argv = argv.into_iter().map(str::to_owned).collect();
    let server = place
        .run("nchan", argv, Vec::new(), (&port, "/ready"))
        .await?;
    let pids = programs::family(&server);
    Ok(Running {
        dialect: "nchan",
        url: format!("ws://{}/sub/{{channel}}", port.addr()),
        publish_url: Some(format!("ws://{}/pub/{{channel}}", port.addr())),
        receiver_pids: pids.clone(),
        pids,
        redis_pid: None,
        version: unpacked.version(&["libnginx-mod-nchan", "nginx"]),
        servers: vec![server],
        redis: None,
        ports: vec![port],
    })
}
